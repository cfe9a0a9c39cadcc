"""What a client's connection does at moments that no client can bring about at will."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from npc_runtime import wire
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.exchange import Exchange
from npc_runtime.gateway.http.parser import RequestHead
from npc_runtime.gateway.http.response import CONTINUE
from npc_runtime.gateway.service import Service

NOW = 1000.0


class Running:
    """An exchange that never ends."""

    def __init__(self) -> None:
        self.paused = False

    def start(self) -> None:
        pass

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Answering:
    """A service whose every answer is that exchange."""

    limits = wire.GatewayLimits()
    draining = False

    def __init__(self) -> None:
        self.loop = self
        self.exchange = Running()

    def time(self) -> float:
        return NOW

    def admit(self, connection: ClientConnection) -> bool:
        return True

    def begin(self, head: RequestHead | None) -> tuple[Record, bytes]:
        return Record("1"), b""

    def precheck(self, connection: ClientConnection, head: RequestHead) -> None:
        return None

    def answer(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        connection.run(cast("Exchange", self.exchange))


class Full(asyncio.Transport):
    """A transport whose buffer runs over with what is written to it."""

    def __init__(self, protocol: ClientConnection) -> None:
        super().__init__()
        self._protocol = protocol
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data
        self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def test_a_client_that_catches_up_after_its_answer_began_has_all_the_time_there_is_for_it() -> None:
    service = Answering()
    connection = ClientConnection(cast("Service", service))
    transport = Full(connection)
    connection.connection_made(transport)
    connection.data_received(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert transport.written == CONTINUE
    connection.data_received(b"{}")
    began = service.exchange.paused
    connection.resume_writing()
    assert (began, service.exchange.paused) == (True, False)
    assert connection.deadline == NOW + service.limits.request_timeout_seconds
