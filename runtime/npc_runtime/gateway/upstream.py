"""One connection to an engine: one request at a time, and what came of it told through plain method calls.

So no task exists per request; a task runs only while connecting.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from npc_runtime.gateway.http.engine_answer import (
    WHOLE_CHUNKS,
    BrokenAnswer,
    ChunkedAnswer,
    EngineHead,
    dechunk,
    parse_engine_head,
)
from npc_runtime.gateway.http.limits import (
    ACKNOWLEDGE_SECONDS,
    ENGINE_SILENT_SECONDS,
    MAX_ENGINE_ANSWER_BYTES,
    MAX_ENGINE_HEAD_BYTES,
)

_PROBES = 3
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ENGINE_SILENT_SECONDS // (_PROBES + 1)),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ENGINE_SILENT_SECONDS // (_PROBES + 1)),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ENGINE_SILENT_SECONDS * 1000),
)


# Of Linux' struct tcp_info (linux/tcp.h): `unacked`, in packets, and `last_ack_recv`, in ms.
_TCP_INFO_BYTES = 60
_UNACKED_AND_LAST_ACK = struct.Struct("=24xI28xI")


class Asker(Protocol):
    """The one who asked: receives the answer of one connection, in this order, exactly one of the last three once."""

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """The first whole chunks of an event stream, still in their framing; returns where all further ones go."""
        ...

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """The last whole chunks of an event stream (may be empty), the terminal chunk left out; `stream` tells how
        it ended."""

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """A complete answer that is not an event stream."""

    def on_engine_lost(self, why: str, *, stale: bool, stream: ChunkedAnswer | None) -> None:
        """The answer will not come, or not the rest of it.

        `stale`: a reused connection died before a byte of an answer came. `stream` tells how far the body came.
        """


class EngineConnection(asyncio.Protocol):
    """One connection to an engine."""

    __slots__ = (
        "_asker",
        "_body",
        "_body_size",
        "_buffer",
        "_chunks",
        "_head",
        "_heard",
        "_is_stream",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_sink",
        "_transport",
        "idle_since",
        "requests",
    )

    def __init__(
        self, on_idle: Callable[[EngineConnection], None], on_lost: Callable[[EngineConnection], None]
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the host is watched."""
        self._asker: Asker | None = None
        self._buffer = b""
        self._head: EngineHead | None = None
        self._chunks: ChunkedAnswer | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._heard = False
        self._sink: Callable[[bytes], None] | None = None
        self._is_stream = False
        self.idle_since = 0.0
        self.requests = 0

    def watch_host(self) -> None:
        """Let the kernel notice a host that vanished; see ENGINE_SILENT_SECONDS and ACKNOWLEDGE_SECONDS.

        Raises:
            OSError: the connection is gone already.

        """
        assert self._transport is not None  # noqa: S101 (asked for right after connecting)
        end = self._transport.get_extra_info("socket")
        for option in _SOCKET_OPTIONS:
            end.setsockopt(*option)
        self._loop = asyncio.get_running_loop()

    def ask(self, request: bytes, asker: Asker) -> None:
        """Send one request; its answer goes to `asker`. The connection must be idle."""
        assert self._transport is not None  # noqa: S101 (pool hands out connected ones only)
        self._asker = asker
        self._head = None
        self._chunks = None
        self._sink = None
        self._heard = False
        self.requests += 1
        self._transport.write(request)
        if self.requests > 1 and self._loop is not None:
            # A new connection has just proven its host; the end of this one may have gone without a word meanwhile.
            self._loop.call_later(ACKNOWLEDGE_SECONDS, self._look_at_host, self.requests)

    def abandon(self) -> None:
        """Give up: the asker hears nothing more and the engine sees the connection close at once."""
        self._asker = None
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading, because the client does not keep up."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def is_between_events(self) -> bool:
        """Whether what was passed on of a stream ends with a whole event."""
        return self._chunks is None or self._chunks.between_events

    def progress(self) -> object:
        """Another object after each piece of a stream that came; always another one while reading is paused, because
        then it is the client who is waited for."""
        if self._chunks is None or self._transport is None or not self._transport.is_reading():
            return object()
        return self._chunks.passed_last

    def is_usable(self) -> bool:
        """Whether an idle connection still looks alive."""
        return self._transport is not None and not self._transport.is_closing()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        sink = self._sink
        if sink is not None:
            # Most of what a gateway does: an event arrives, an event leaves.
            chunks = self._chunks
            assert chunks is not None  # noqa: S101 (only streams have a sink)
            if WHOLE_CHUNKS.get(data[: data.find(b"\r\n")]) == len(data) and data.endswith(b"\r\n") and not chunks.held:
                # One whole chunk, as `feed` would find out: engines send one for each token.
                chunks.passed_last = data
                sink(data)
                return
            try:
                data = chunks.feed(data)
            except BrokenAnswer as error:
                self._fail(str(error), stale=False)
                return
            if chunks.done:
                self._end_stream(data, chunks)
            elif data:
                sink(data)
            return
        if self._asker is None:
            # Nothing was asked: whatever this is, it must not become part of the next answer.
            self.abandon()
            return
        self._heard = True
        try:
            if self._head is None:
                self._read_head(data)
            else:
                self._read_body(self._head, data)
        except BrokenAnswer as error:
            self._fail(str(error), stale=False)

    def eof_received(self) -> None:
        """The engine will send nothing more; connection_lost follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in whatever state it was."""
        self._transport = None
        self._on_lost(self)
        if self._asker is not None:
            why = "the engine closed the connection" if exc is None else f"the connection broke: {type(exc).__name__}"
            self._fail(why, stale=self.requests > 1 and not self._heard)

    def _look_at_host(self, request: int) -> None:
        if request != self.requests or self._asker is None or self._heard or self._transport is None:
            return
        try:
            end = self._transport.get_extra_info("socket")
            info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return  # it broke, and whoever asked is told in a moment
        unacknowledged, silent_ms = _UNACKED_AND_LAST_ACK.unpack(info)
        if unacknowledged and silent_ms >= ACKNOWLEDGE_SECONDS * 900:
            self._fail("its host acknowledges nothing", stale=True)

    # --- reading

    def _end_stream(self, data: bytes, chunks: ChunkedAnswer) -> None:
        head = self._head
        assert head is not None  # noqa: S101 (chunks come after a head)
        self._finish(head).on_stream_end(head, data, chunks)

    def _read_head(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > MAX_ENGINE_HEAD_BYTES:
                    raise BrokenAnswer("the head of the answer is too large")
                self._buffer = data
                return
            head = parse_engine_head(data[:end])
            data = data[end:]
            if head.status >= 200:
                break
        self._buffer = b""
        self._head = head
        self._body = []
        self._body_size = 0
        self._chunks = ChunkedAnswer() if head.chunked else None
        self._is_stream = head.is_stream
        if data or (not head.chunked and head.content_length == 0):
            self._read_body(head, data)

    def _read_body(self, head: EngineHead, data: bytes) -> None:
        chunks = self._chunks
        if chunks is not None and self._is_stream:
            data = chunks.feed(data)
            if chunks.done:
                self._end_stream(data, chunks)
            elif data and self._asker is not None:
                sink = self._asker.on_stream_open(head, data)
                if self._asker is not None:  # not given up in that very call
                    self._sink = sink
            return
        if chunks is not None:
            data = dechunk(chunks.feed(data))
            complete = chunks.done
            self._keep(data)
        else:
            self._keep(data)
            complete = self._body_size >= (head.content_length or 0)
            if self._body_size > (head.content_length or 0):
                raise BrokenAnswer("something follows the end of the answer")
        if complete:
            body = b"".join(self._body)
            self._finish(head).on_answer(head, body)

    def _keep(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size > MAX_ENGINE_ANSWER_BYTES:
            raise BrokenAnswer("the answer is too large to be held until it is complete")
        self._body.append(data)

    def _finish(self, head: EngineHead) -> Asker:
        asker = self._asker
        assert asker is not None  # noqa: S101 (data without an asker never gets here)
        self._asker = None
        self._sink = None
        self._body = []
        self._chunks = None
        if head.keep_alive and self.is_usable():
            self._on_idle(self)
        elif self._transport is not None:
            self._transport.close()
        return asker

    def _fail(self, why: str, *, stale: bool) -> None:
        asker, stream = self._asker, self._chunks
        self.abandon()
        if asker is not None:
            asker.on_engine_lost(why, stale=stale, stream=stream)
