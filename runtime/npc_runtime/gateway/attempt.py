"""One question to one pod: connecting, asking, and what becomes of the connection.

Knows nothing of other pods, of what is tried next, or of the client. An attempt ends once: its owner hears of it, or
gave it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from npc_runtime.gateway.answer import is_failing
from npc_runtime.gateway.fleet import Endpoint
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.upstream import EngineConnection

log = logging.getLogger(__name__)


class Owner(Protocol):
    """For whom a pod is asked. After `on_stream_open` comes `on_stream_end` or `on_engine_lost`; without it one of the
    others, once."""

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """The first whole chunks of a stream; returns where all further ones go."""
        ...

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """The last whole chunks of a stream."""

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """A complete answer that is not a stream."""

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """The pod was asked, and its answer will not come, or not the rest of it."""

    def on_unreached(self, why: str) -> None:
        """The pod could not be connected to: it was not asked."""


class Attempt:
    """From choosing a pod to the end of what it says. Implements `upstream.Asker`."""

    __slots__ = (
        "_connecting",
        "_connection",
        "_loop",
        "_on_trial",
        "_over",
        "_owner",
        "_refreshed",
        "_request",
        "asked_at",
        "endpoint",
    )

    def __init__(self, endpoint: Endpoint, request: bytes, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """`request` is everything after the endpoint's own `request_head`. From here on the pod counts as busier by
        one line."""
        self.endpoint = endpoint
        self.asked_at = 0.0
        """Monotonic time at which the pod was asked; 0 before."""
        self._request = request
        self._owner = owner
        self._loop = loop
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._refreshed = False
        self._over = False
        self._on_trial = endpoint.ejected_until > 0.0 and endpoint.begin_trial(loop.time())
        endpoint.in_flight += 1

    def start(self) -> None:
        """Ask on an idle connection, or connect first."""
        connection = self.endpoint.pool.take_idle()
        if connection is not None:
            self._ask(connection)
        else:
            self._connecting = self._loop.create_task(self._connect())

    def give_up(self) -> None:
        """Stop: the owner hears nothing more, and the engine sees its connection close at once."""
        if not self._over:
            connection = self._connection
            self._leave()
            if connection is not None:
                connection.abandon()
            if self._on_trial:
                self.endpoint.drop_trial(self._loop.time())

    def blame(self) -> None:
        """The pod was too slow; that it failed or answered is noted without being told."""
        self._blame(reached=True)

    def pause(self) -> None:
        """Stop reading from the engine, because the client does not keep up."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        if self._connection is not None:
            self._connection.resume()

    def progress(self) -> object:
        """Another object after each piece of a stream that came; always another one while nothing is read."""
        return object() if self._connection is None else self._connection.progress()

    def is_between_events(self) -> bool:
        """Whether what was passed on of a stream ends with a whole event."""
        return self._connection is None or self._connection.is_between_events()

    def _ask(self, connection: EngineConnection) -> None:
        self._connection = connection
        self.asked_at = monotonic()
        connection.ask(self.endpoint.request_head + self._request, self)

    async def _connect(self) -> None:
        endpoint = self.endpoint
        try:
            connection = await endpoint.pool.connect()
        except Exception as error:
            self._connecting = None
            if not isinstance(error, OSError):
                # A task's exception is heard by nobody, and the client would wait for its deadline.
                log.exception("an engine could not be connected", extra={"pod": endpoint.facts.pod})
            if self._over:
                self._blame(reached=False)
            else:
                self._leave()
                self._blame(reached=False)
                self._owner.on_unreached(f"cannot connect: {type(error).__name__}")
            return
        self._connecting = None
        if self._over:
            endpoint.pool.put_back(connection)
        else:
            self._ask(connection)

    def _leave(self) -> None:
        self._over = True
        self._connection = None
        self.endpoint.in_flight -= 1

    def _praise(self) -> None:
        self._on_trial = False
        self.endpoint.succeed(self._loop.time())

    def _blame(self, *, reached: bool) -> None:
        self._on_trial = False
        self.endpoint.note_failure(reached=reached)

    # --- upstream.Asker

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """Nothing is asked anew from here on."""
        self._request = b""
        if self.endpoint.failures or self.endpoint.ejected_until:
            self._praise()
        return self._owner.on_stream_open(head, data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """The stream came to an end."""
        self._leave()
        if not stream.said_done:
            self._blame(reached=True)
        elif (self.endpoint.failures or self.endpoint.ejected_until) and self._request:
            self._praise()  # all of it came at once
        self._owner.on_stream_end(head, data, stream)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """The answer is complete."""
        self._leave()
        if is_failing(head):
            self._blame(reached=True)
        elif self.endpoint.failures or self.endpoint.ejected_until:
            self._praise()
        self._owner.on_answer(head, body)

    def on_engine_lost(self, why: str, *, stale: bool, stream: ChunkedAnswer | None) -> None:
        """Ask anew where an idle connection was closed as it was taken: that says nothing about the pod."""
        if stale and not self._refreshed:
            self._refreshed = True
            self._connection = None
            self._connecting = self._loop.create_task(self._connect())
            return
        self._leave()
        if stream is None or not stream.said_done:
            self._blame(reached=True)
        self._owner.on_engine_lost(why, stream)
