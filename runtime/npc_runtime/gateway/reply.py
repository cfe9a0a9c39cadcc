"""How one line reaches the client that asked for it, and what is counted and logged of it. Each line ends here once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from npc_runtime.gateway import scripted
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.answer import Client, headers_of
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.http.engine_answer import EngineHead
from npc_runtime.gateway.http.response import JSON, error_event
from npc_runtime.gateway.levels import Ladder, Level
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.retelling import TRAILER


class Reply:
    """From the end of a request to the end of its answer."""

    __slots__ = ("_client", "_record", "_series", "_started", "is_over", "is_streaming")

    def __init__(self, client: Client, record: Record, series: Series) -> None:
        """From here on the request counts as running."""
        self._client = client
        self._record = record
        self._series = series
        # Not the loop's clock: uvloop's stands still within one turn and counts milliseconds.
        self._started = monotonic()
        self.is_streaming = False
        """Whether a byte of the answer went to the client."""
        self.is_over = False
        series.in_flight += 1

    def open_stream(self, content_type: bytes, headers: bytes, data: bytes) -> Callable[[bytes], None]:
        """Send the head of a stream with its first chunks; returns what sends further ones."""
        self.is_streaming = True
        self._record.first_token = first = monotonic() - self._started
        self._series.first_token.observe(first)
        return self._client.start_stream(content_type, headers, data)

    def end_stream(self, data: bytes) -> None:
        """Send the last chunks and the proper end, which says where more than one pod made this answer."""
        self._finish(200, None)
        self._client.end_stream(data, TRAILER if self._record.resumed else b"")

    def break_stream(self, fault: Fault, data: bytes, *, between_events: bool) -> None:
        """End a stream so that it cannot pass for complete, with an event that says why where one may follow."""
        self._finish(200, fault.reason)
        self._client.break_stream(data + error_event(fault) if between_events else data)

    def send_whole(self, head: EngineHead, body: bytes, headers: bytes, reason: Reason | None) -> None:
        """Send an engine's complete answer as it is."""
        self._finish(head.status, reason)
        self._client.send_whole(head.status, head.content_type, body, headers + headers_of(head))

    def send_fault(self, fault: Fault) -> None:
        """Send a refusal of our own."""
        self._finish(fault.status, fault.reason)
        self._client.send_fault(fault, b"")

    def say_scripted(self, ladder: Ladder, payload: Mapping[str, Any]) -> None:
        """Say one of the archetype's own lines, in the form that was asked for."""
        record = self._record
        line = scripted.pick_line(
            ladder.scripted_lines,
            archetype=ladder.archetype,
            npc=record.npc.encode(),
            messages=payload["messages"],
        )
        record.digest = scripted.SERVED_BY
        record.degraded = Level.SCRIPTED.value
        self._finish(200, None)
        if payload.get("stream"):
            # Not among the first tokens that are measured: it would make a tier that is away look quick.
            record.first_token = record.duration
            chunks = scripted.stream_chunks(line, payload)
            self._client.start_stream(scripted.CONTENT_TYPE, ladder.scripted_headers, chunks)
            self._client.end_stream(b"", b"")
        else:
            self._client.send_whole(200, JSON, scripted.whole_body(line, payload), ladder.scripted_headers)

    def abandon(self, status: int, reason: Reason) -> None:
        """End without a word to the client."""
        self._finish(status, reason)

    def _finish(self, status: int, reason: Reason | None) -> None:
        self.is_over = True
        series, record = self._series, self._record
        series.in_flight -= 1
        record.duration = monotonic() - self._started
        series.duration.observe(record.duration)
        series.count_answer(status)
        if reason is not None:
            series.count_error(reason)
            record.reason = reason.value
        if record.degraded:
            series.count_degraded(record.degraded)
        if record.resumed:
            series.resumed += 1
        record.status = status
