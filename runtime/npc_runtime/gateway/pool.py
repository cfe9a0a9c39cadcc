"""The kept-alive connections to one engine pod."""

from __future__ import annotations

import asyncio
from collections import deque

from npc_runtime.gateway.http.limits import CONNECT_SECONDS, ENGINE_IDLE_SECONDS
from npc_runtime.gateway.upstream import EngineConnection


class Pool:
    """The connections to one endpoint. The most recently used idle one is taken first, so surplus ones age and are
    closed."""

    def __init__(self, address: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.port = port
        self._loop = loop
        self._idle: deque[EngineConnection] = deque()
        self._all: set[EngineConnection] = set()
        self._closed = False

    @property
    def connections(self) -> int:
        """Connections that exist, idle or asked."""
        return len(self._all)

    def take_idle(self) -> EngineConnection | None:
        """An idle connection young enough that the engine has not closed it, or None."""
        oldest = self._loop.time() - ENGINE_IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.is_usable():
                return connection
            connection.abandon()
        return None

    async def connect(self) -> EngineConnection:
        """A new connection.

        Raises:
            OSError: refused, unreachable, or not there within CONNECT_SECONDS (TimeoutError is an OSError).

        """
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await self._loop.create_connection(
                lambda: EngineConnection(self._on_idle, self._all.discard), self.address, self.port
            )
        if not connection.is_usable():
            # A dying engine's kernel accepts and resets: the connection may be gone before this task runs again.
            raise ConnectionResetError("closed as it was made")
        connection.watch_host()
        self._all.add(connection)
        return connection

    def close_aged(self) -> None:
        """Close idle connections that are too old to be used again."""
        oldest = self._loop.time() - ENGINE_IDLE_SECONDS
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].is_usable()):
            self._idle.popleft().abandon()

    def close(self) -> None:
        """Close idle connections, and the others as soon as their answer is complete."""
        self._closed = True
        while self._idle:
            self._idle.pop().abandon()

    def _on_idle(self, connection: EngineConnection) -> None:
        if self._closed:
            connection.abandon()
            return
        connection.resume()
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def put_back(self, connection: EngineConnection) -> None:
        """Return a connection that was made but not used."""
        self._on_idle(connection)
