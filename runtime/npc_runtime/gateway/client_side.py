"""The data port's side of a connection: reads requests strictly, answers them one after the other, and never trusts the
peer's pace.

One instance per client connection. Requests on one connection are serial (pipelined ones wait), so the state is a
small machine: reading a head, reading a body, answering, lingering. Deadlines are plain numbers that a sweep
compares a few times a second, which costs a request nothing.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.errors import Fault, Refused
from npc_runtime.gateway.exchange import STATUS_CLIENT_GONE, Exchange
from npc_runtime.gateway.http import limits
from npc_runtime.gateway.http.parser import RequestHead
from npc_runtime.gateway.http.reader import RequestReader
from npc_runtime.gateway.http.response import CONTINUE, LAST_CHUNK, fault_answer, stream_head, whole_answer

if TYPE_CHECKING:
    from npc_runtime.gateway.callers import Proof
    from npc_runtime.gateway.service import Service

log = logging.getLogger(__name__)


class _State(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWERING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


# On the way of every line: a global is a fifth of what a member of an enum costs.
_HEAD = _State.HEAD
_BODY = _State.BODY
_ANSWERING = _State.ANSWERING


class ClientConnection(asyncio.Protocol):
    """One game server's connection. Implements `answer.Client`."""

    __slots__ = (
        "_advancing",
        "_answer_deadline",
        "_exchange",
        "_head",
        "_head_begun",
        "_id_line",
        "_loop",
        "_reader",
        "_service",
        "_state",
        "_transport",
        "_write_paused",
        "deadline",
        "proof",
        "record",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = service.loop
        self._transport: asyncio.Transport | None = None
        self._state = _HEAD
        self._reader = RequestReader()
        self._head: RequestHead | None = None
        self._head_begun = False
        self._exchange: Exchange | None = None
        self._id_line = b""
        self._write_paused = False
        self._advancing = False
        self.record: Record | None = None
        """Of the request being read or answered."""
        self.proof: Proof | None = None
        """Who asked last on this connection, and by what that was known."""
        self._answer_deadline = 0.0
        """Of an answer that waits for its client to read on."""
        self.deadline = 0.0
        """Loop time at which the present state has lasted too long."""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_HIGH_WATER_BYTES)
        self.deadline = self._loop.time() + limits.IDLE_SECONDS
        if not self._service.admit(self):
            self._refuse(errors.overloaded())

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._state is _State.LINGERING:
            return
        reader = self._reader
        reader.buffer = reader.buffer + data if reader.buffer else data
        if self._state is _ANSWERING:
            if len(reader.buffer) > limits.MAX_PIPELINED_BYTES and self._transport is not None:
                self._transport.pause_reading()
            return
        self._advance()

    def eof_received(self) -> bool:
        """The client closed its side. One that still waits for an answer keeps it open, so this is a disconnect."""
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; a running answer is stopped at its engine."""
        self._service.dismiss(self)
        self._leave()
        self._state = _State.CLOSED
        self._transport = None
        self._reader.clear()

    def pause_writing(self) -> None:
        """The client reads more slowly than the engine writes."""
        self._write_paused = True
        if self._exchange is not None:
            self._exchange.pause()
            self._answer_deadline = self.deadline
            self.deadline = min(self.deadline, self._loop.time() + limits.UNREAD_SECONDS)

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_paused = False
        if self._exchange is not None:
            self.deadline = self._answer_deadline
            self._exchange.resume()
        else:
            self._advance()

    # --- for the service

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request is here and no answer is running."""
        return self._state is _HEAD and not self._reader.buffer

    @property
    def is_busy(self) -> bool:
        """Whether a request is arriving or being answered, or the end of an answer may still be on its way."""
        arriving = self._state is _HEAD and bool(self._reader.buffer)
        return arriving or self._state in (_State.BODY, _State.ANSWERING, _State.LINGERING)

    def expire(self) -> None:
        """The deadline of the present state has passed."""
        match self._state:
            case _State.HEAD if not self._reader.buffer:
                # A client that has not read its last answer would keep a closing connection for ever: lingering has
                # an end.
                self._state = _State.LINGERING
                self.deadline = self._loop.time() + limits.LINGER_SECONDS
                self.close()
            case _State.HEAD:
                self._refuse(errors.too_slow("request head"))
            case _State.BODY:
                self._refuse(errors.too_slow("request body"))
            case _State.ANSWERING if self._write_paused:
                # It does not read, and an engine waits for it. Nothing more would reach it either.
                self.abort()
            case _State.ANSWERING if self._exchange is not None:
                exchange = self._exchange
                exchange.time_out(self._service.limits.request_timeout_seconds)
                if self._exchange is exchange:
                    # A fault left it without an end; its client must not wait for one.
                    self.abort()
            case _State.ANSWERING | _State.LINGERING:
                self.abort()
            case _State.CLOSED:
                pass

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def run(self, exchange: Exchange) -> None:
        """Let an exchange answer the present request."""
        self._exchange = exchange
        # Both: a client that was behind before this answer began may catch up in the middle of it.
        self.deadline = self._answer_deadline = self._loop.time() + self._service.limits.request_timeout_seconds
        exchange.start()
        if self._write_paused:
            exchange.pause()

    # --- reading

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            while True:
                state = self._state
                if state is _HEAD:
                    if not self._reader.buffer or self._write_paused or not self._read_head():
                        return
                elif state is not _BODY or not self._read_body():
                    return  # bytes are missing, or an answer is running
        except Refused as refusal:
            self._refuse(refusal.fault)
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        bounds, reader = self._service.limits, self._reader
        head = reader.read_head(bounds.max_header_bytes)
        if head is None:
            if not reader.buffer:
                self._head_begun = False
            elif not self._head_begun:
                self._head_begun = True
                self.deadline = self._loop.time() + limits.HEAD_SECONDS
            return False
        self._head_begun = False
        self._head = head
        self.record, self._id_line = self._service.begin(head)
        self._state = _BODY
        if head.content_length > bounds.max_body_bytes:
            raise Refused(errors.body_too_large(bounds.max_body_bytes))
        fault = self._service.precheck(self, head)
        if fault is not None:
            if not reader.skip_body(head):
                raise Refused(fault)
            self._state = _ANSWERING
            self.send_fault(fault, b"")
            return True
        if head.has_body:
            reader.open_body(head, bounds.max_body_bytes)
            if head.expects_continue and not reader.buffer:
                self._write(CONTINUE)
            self.deadline = self._loop.time() + limits.BODY_SECONDS
        return True

    def _read_body(self) -> bool:
        head = self._head
        assert head is not None  # noqa: S101 (the state BODY comes after a head)
        body = self._reader.read_body()
        if body is None:
            return False
        self._state = _ANSWERING
        try:
            self._service.answer(self, head, body)
        except Refused as refusal:
            self.send_fault(refusal.fault, b"")
        except Exception:  # whatever it is, the client gets an answer and the others go on
            log.exception("a request could not be handled")
            fault = errors.internal()
            if self._exchange is not None:
                self._exchange.abandon(fault.status, fault.reason)
            self.send_fault(fault, b"")
        return True

    # --- answer.Client: writing

    def send_whole(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        """Send a complete answer and go on to the next request."""
        keep_alive = self._keeps_alive()
        extra = self._id_line + extra
        self._write(whole_answer(status, content_type, body, extra=extra, keep_alive=keep_alive))
        self._end(keep_alive=keep_alive)

    def send_fault(self, fault: Fault, extra: bytes) -> None:
        """Refuse a request that was read to its end, and go on to the next one."""
        keep_alive = self._keeps_alive()
        self._service.count_refusal(self, fault)
        extra = self._id_line + extra
        self._write(fault_answer(fault, extra=extra, keep_alive=keep_alive, head_only=self._asks_head()))
        self._end(keep_alive=keep_alive)

    def start_stream(self, content_type: bytes, extra: bytes, data: bytes) -> Callable[[bytes], None]:
        """Send the head of a stream with its first chunks; returns what sends further ones."""
        head = stream_head(content_type, extra=self._id_line + extra, keep_alive=self._keeps_alive())
        self._write(head + data)
        return self._write if self._transport is None else self._transport.write

    def end_stream(self, data: bytes, trailer: bytes) -> None:
        """Send the last chunks and the proper end, and go on to the next request."""
        self._write(data + (b"0\r\n%b\r\n" % trailer if trailer else LAST_CHUNK))
        self._end(keep_alive=self._keeps_alive())

    def break_stream(self, data: bytes) -> None:
        """Send what is left and close without the proper end, so that the stream cannot pass for complete."""
        if data:
            self._write(data)
        self._end(keep_alive=False)

    def _asks_head(self) -> bool:
        return self._head is not None and self._head.method == b"HEAD"

    def _keeps_alive(self) -> bool:
        return self._head is not None and self._head.keep_alive and not self._service.draining

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end(self, *, keep_alive: bool) -> None:
        self._exchange = None
        if self.record is not None:
            self._service.log(self.record)
            self.record = None
        if not keep_alive:
            self._linger()
            self._service.note_end()
            return
        self._state = _HEAD
        self._head = None
        self.deadline = self._loop.time() + limits.IDLE_SECONDS
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
        if self._reader.buffer:
            self._advance()

    def _refuse(self, fault: Fault) -> None:
        """Refuse a request whose end was not read: nothing after it on this connection can be trusted."""
        if self.record is None:
            self.record, self._id_line = self._service.begin(None)
        self._service.count_refusal(self, fault)
        self._write(fault_answer(fault, extra=self._id_line, keep_alive=False, head_only=self._asks_head()))
        self._end(keep_alive=False)

    def _linger(self) -> None:
        """Close so that what was written arrives: closing with unread input would reset the connection under it."""
        self._state = _State.LINGERING
        self._reader.clear()
        self.deadline = self._loop.time() + limits.LINGER_SECONDS
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if not transport.is_reading():
                transport.resume_reading()
            if transport.can_write_eof():
                transport.write_eof()
            else:
                # TLS has no half of a connection: closing sends all there is, says goodbye and waits for theirs.
                transport.close()

    def _leave(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
            if self.record is not None:
                self._service.log(self.record)
                self.record = None
        elif self._state is _BODY and self.record is not None:
            self.record.status = STATUS_CLIENT_GONE
            self.record.reason = errors.Reason.CLIENT_GONE.value
            self._service.log(self.record)
            self.record = None
