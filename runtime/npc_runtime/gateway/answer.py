"""What an engine's answer is worth, and how the client gets to hear of it. Pure, but for the contract of a client's
connection.

Anything that another pod might do better is a failure of this one attempt; everything else is the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from npc_runtime.gateway import errors
from npc_runtime.gateway.errors import Fault
from npc_runtime.gateway.http.engine_answer import EngineHead


class Client(Protocol):
    """The connection that asked. Each request is ended by exactly one of whole, fault, end_stream and break_stream."""

    def send_whole(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        """Send a complete answer; `extra` is whole header lines."""

    def send_fault(self, fault: Fault, extra: bytes) -> None:
        """Send a refusal."""

    def start_stream(self, content_type: bytes, extra: bytes, data: bytes) -> Callable[[bytes], None]:
        """Send the head of a stream with its first chunks; returns what sends further ones."""
        ...

    def end_stream(self, data: bytes, trailer: bytes) -> None:
        """Send the last chunks and the proper end; `trailer` is whole header lines that were announced."""

    def break_stream(self, data: bytes) -> None:
        """Send what is left (may be empty) and close without the proper end, so that the stream cannot pass for
        complete."""


BUSY: Final = (429, 503)
"""What an engine answers that has too much to do already: another pod may have less, and no digest is to blame."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing, and what the client is told if nothing else does better."""

    why: str
    """For the log."""
    fault: Fault
    answer: tuple[EngineHead, bytes] | None = None
    """The engine's own error, which says more than the fault and is passed on in its place."""
    is_busy: bool = False
    """The engine had too much to do: that says nothing of the digest it was asked for."""


def is_failing(head: EngineHead) -> bool:
    """Whether this status says that something is wrong with the pod, and not only with what was asked for there."""
    return head.status >= 500 or head.status in (401, 403) or 300 <= head.status < 400


def find_failure(
    head: EngineHead, body: bytes, *, archetype: str, tier: str, can_read: Callable[[bytes], bool] | None
) -> Failure | None:
    """Why this complete answer is none that the client should get while another pod might give one; None for one that
    is passed on, a refusal of the request itself included. With `can_read` the words must be found in it."""
    status = head.status
    if status == 404:
        # The name was unloaded a moment ago; the caller's archetype is fine, so 404 must not reach it.
        return Failure("the adapter is not loaded there", errors.no_resident(archetype, tier))
    if is_failing(head) or status in BUSY:
        is_json = (status >= 500 or status in BUSY) and head.content_type.startswith(b"application/json")
        answer = (head, body) if is_json else None
        return Failure(f"it answered {status}", errors.engine_failed(), answer, is_busy=status in BUSY)
    if status < 400 and can_read is not None and not can_read(body):
        return Failure("there are no words in its answer", errors.engine_failed())
    return None


def headers_of(head: EngineHead) -> bytes:
    """The header lines of a complete answer that go on to the client."""
    lines = b""
    if head.retry_after:
        lines += b"Retry-After: " + head.retry_after + b"\r\n"
    if head.content_encoding:
        lines += b"Content-Encoding: " + head.content_encoding + b"\r\n"
    return lines
