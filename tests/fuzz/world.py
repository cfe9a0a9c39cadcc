"""A gateway's data plane without a network: bytes go in, what an engine and a client would have got comes out.

Everything between the two transports is the real thing; the transports only write down. Time stands still but where
a check moves it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

from npc_runtime import wire
from npc_runtime.gateway.access_log import AccessLog
from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.service import Service
from npc_runtime.gateway.table import compile_table
from npc_runtime.gateway.upstream import EngineConnection

KEY = "game-key"
DIGEST = "sha256:" + "0a" * 32
SERVED_NAME = wire.served_name("vampire", DIGEST)
WHOLE = b'{"choices":[{"message":{"role":"assistant","content":"Good evening."}}]}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE)


class Transport:
    """Writes down what is sent and whether it was closed."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_over = False
        self.half_closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if not self.is_over:
            self.sent += data

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered here."""


class World:
    """One event loop's data plane with one pod."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.service = Service(loop=self.loop, metrics=Metrics(), access_log=AccessLog(None))
        self.service.apply(compile_table(_table()))
        (self.endpoint,) = self.service.fleet.endpoints
        # There is no other connection to be had: an engine that breaks one is away.
        cast("Any", self.endpoint.pool).connect = _refuse

    def client(self) -> tuple[ClientConnection, Transport]:
        """A new connection of a game server."""
        connection, transport = ClientConnection(self.service), Transport()
        connection.connection_made(cast("asyncio.Transport", transport))
        return connection, transport

    def engine(self) -> tuple[EngineConnection, Transport]:
        """The one idle connection that the next line is asked on."""
        pool = self.endpoint.pool
        pool.close_aged()
        while (known := pool.take_idle()) is not None:
            known.abandon()
        self.endpoint.succeed(self.loop.time())
        connection, transport = EngineConnection(pool.put_back, lambda _: None), Transport()
        connection.connection_made(cast("asyncio.Transport", transport))
        pool.put_back(connection)
        return connection, transport

    def turn(self) -> None:
        """Let the tasks that were started come to their end."""
        self.loop.run_until_complete(_turns(4))

    def end(self, connection: ClientConnection) -> None:
        """The client is gone."""
        connection.connection_lost(None)
        self.turn()

    def close(self) -> None:
        """End."""
        self.service.abort_all()
        self.turn()
        self.loop.close()


async def _refuse() -> Awaitable[EngineConnection]:
    raise ConnectionRefusedError


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _table() -> wire.RouteTable:
    endpoint = wire.Endpoint(
        pod="gold-0", uid="gold-0", address="127.0.0.1", port=9, engine_key_id="k", resident=(SERVED_NAME,)
    )
    return wire.RouteTable(
        stamp=wire.Stamp(epoch=1, generation=1),
        namespace="eu-west",
        region="eu-west",
        default_tier="gold",
        tiers=(wire.TierRoutes(name="gold", quality="Gold", endpoints=(endpoint,)),),
        aliases=(
            wire.Alias(
                archetype="vampire",
                tier="gold",
                targets=(wire.Target(served_name=SERVED_NAME, digest=DIGEST, percent=100),),
            ),
        ),
        api_keys=(wire.ApiKey(name="game", sha256=hashlib.sha256(KEY.encode()).hexdigest()),),
        engine_keys=(wire.EngineKey.model_validate({"id": "k", "key": "engine-key"}),),
        limits=wire.GatewayLimits(max_body_bytes=4096, max_header_bytes=2048),
    )


Check = Callable[[World, bytes], None]
"""Fails with an AssertionError where the gateway did what it must not do with these bytes."""
