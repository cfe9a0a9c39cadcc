"""One JSON line per request: who asked for whom, what answered, how long it took. Never prompts, answers, keys or
headers of the client.

The hot path appends a record to a list. A thread of its own turns records into bytes and writes them, so a slow or
full pipe never delays an answer; when it falls too far behind, lines are dropped and counted instead of growing
memory.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import gmtime, strftime
from typing import BinaryIO

import orjson

log = logging.getLogger(__name__)

PIPE_BYTES = 4096
"""What Linux writes to a pipe in one piece (PIPE_BUF): several workers share standard output without mixing lines."""

MAX_WAITING = 50_000
"""Records held for the writer, about 20 MB; beyond it lines are dropped."""


@lru_cache(maxsize=8)
def _second(at: int) -> str:
    # Hundreds of lines share a second, and this costs as much as the rest of a line.
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at))


@dataclass(slots=True)
class Record:
    """What is logged of one request. Times are seconds; `at` is Unix time at the end of the answer."""

    request_id: str
    method: str = ""
    path: str = ""
    status: int = 0
    reason: str = ""
    archetype: str = ""
    tier: str = ""
    served_tier: str = ""
    """Of an answer from another tier than `tier`, or from its base model."""
    degraded: str = ""
    """The level that answered, where it is less than what was asked for."""
    digest: str = ""
    pod: str = ""
    npc: str = ""
    player: str = ""
    key_name: str = ""
    attempts: int = 0
    resumed: bool = False
    """Another pod went on with it, or was asked to."""
    first_token: float | None = None
    duration: float = 0.0
    at: float = 0.0

    def line(self) -> bytes:
        """The record as one line of JSON; what is empty is left out."""
        fields: dict[str, object] = {
            "time": f"{_second(int(self.at))}.{int(self.at * 1000) % 1000:03d}Z",
            "requestId": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "durationSeconds": round(self.duration, 6),
        }
        if self.reason:
            fields["reason"] = self.reason
        if self.archetype:
            fields["archetype"] = self.archetype
            fields["tier"] = self.tier
        if self.degraded:
            fields["degraded"] = self.degraded
        if self.served_tier:
            fields["servedTier"] = self.served_tier
        if self.digest:
            fields["digest"] = self.digest
            fields["attempts"] = self.attempts
        if self.resumed:
            fields["resumed"] = True
        if self.pod:
            fields["pod"] = self.pod
        if self.npc:
            fields["npc"] = self.npc
        if self.player:
            fields["player"] = self.player
        if self.key_name:
            fields["key"] = self.key_name
        if self.first_token is not None:
            fields["firstTokenSeconds"] = round(self.first_token, 6)
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def standard_output() -> BinaryIO:
    """Standard output without a buffer of its own: what is written is written in one piece."""
    return open(1, "wb", buffering=0, closefd=False)


def in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines joined into pieces of at most PIPE_BYTES; a longer line is a piece of its own."""
    piece = b""
    for line in lines:
        if len(piece) + len(line) > PIPE_BYTES and piece:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


class AccessLog:
    """The writer. With `out` None nothing is logged, and adding a record costs one comparison."""

    def __init__(self, out: BinaryIO | None) -> None:
        self._out = out
        self._batch: list[Record] = []
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[list[Record] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        if out is not None:
            self._thread = threading.Thread(target=self._write, args=(out,), name="access-log", daemon=True)
            self._thread.start()

    @property
    def enabled(self) -> bool:
        """Whether records are wanted at all."""
        return self._out is not None

    def add(self, record: Record) -> None:
        """Take one record; it is written after the next `flush`."""
        if len(self._batch) + self._waiting >= MAX_WAITING:
            self.dropped += 1
            return
        self._batch.append(record)

    def flush(self) -> None:
        """Hand what was added to the writer. Call it a few times a second; it never blocks."""
        if self._batch and self._thread is not None:
            batch, self._batch = self._batch, []
            with self._lock:
                self._waiting += len(batch)
            self._queue.put(batch)

    def close(self) -> None:
        """Write what is left (at most 2 s) and stop."""
        if self._thread is not None:
            self.flush()
            self._queue.put(None)
            self._thread.join(timeout=2)
            self._thread = None

    def _write(self, out: BinaryIO) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                for piece in in_pieces(record.line() for record in batch):
                    out.write(piece)
            except OSError:
                # Nobody reads the log any more (a closed pipe). Counted, because there is nowhere left to say it.
                self.dropped += len(batch)
            except Exception:  # a record that cannot be written must not end the writer, and with it all others
                log.exception("access log lines could not be written")
                self.dropped += len(batch)
            with self._lock:
                self._waiting -= len(batch)
