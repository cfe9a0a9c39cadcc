"""What goes back to the client: heads written from ready parts, and whole answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from npc_runtime.gateway.errors import Fault

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
JSON: Final = b"application/json"
_KEEP: Final = b"\r\n\r\n"
_CLOSE: Final = b"\r\nConnection: close\r\n\r\n"


def status_line(status: int) -> bytes:
    """The status line of any three-digit status, known to the registry or not."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


def whole_answer(
    status: int, content_type: bytes, body: bytes, *, extra: bytes, keep_alive: bool, head_only: bool = False
) -> bytes:
    """One complete answer with its length. `extra` is zero or more whole header lines, each ending in CR LF."""
    return b"".join(
        (
            status_line(status),
            b"Content-Type: ",
            content_type,
            b"\r\n",
            extra,
            b"Content-Length: ",
            str(len(body)).encode(),
            _KEEP if keep_alive else _CLOSE,
            b"" if head_only else body,
        )
    )


def fault_answer(fault: Fault, *, extra: bytes, keep_alive: bool, head_only: bool = False) -> bytes:
    """A refusal as a complete answer in OpenAI's error form; `head_only` for HEAD, whose answers have no body."""
    if fault.retry_after is not None:
        extra += b"Retry-After: %d\r\n" % fault.retry_after
    if fault.allow is not None:
        extra += b"Allow: " + fault.allow.encode() + b"\r\n"
    extra += fault.lines
    if fault.status == 401:
        extra += b"WWW-Authenticate: Bearer\r\n"
    return whole_answer(fault.status, JSON, fault.body(), extra=extra, keep_alive=keep_alive, head_only=head_only)


def stream_head(content_type: bytes, *, extra: bytes, keep_alive: bool) -> bytes:
    """The head of a streamed answer; its body follows in the engine's own chunks."""
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: ",
            content_type,
            b"\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n",
            extra,
            b"Transfer-Encoding: chunked",
            _KEEP if keep_alive else _CLOSE,
        )
    )


def error_event(fault: Fault) -> bytes:
    """One server-sent event, as a chunk, that says the stream is broken. No terminal chunk follows it."""
    event = b"data: " + fault.body() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)
