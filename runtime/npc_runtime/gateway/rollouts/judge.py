"""Reads candidates' answers off the event loop: what is empty, what failed in the middle, what says what no answer may
say.

One thread, started with the first answer. The event loop hands it references to bytes that it passed on anyway, at
most PIECE_BYTES of one answer at a time; the thread joins the words and searches them with RE2 (linear time, so no
pattern and no answer can hang it). When it falls behind, answers go unread and are counted as such, rather than
growing memory or delaying lines.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npc_runtime.gateway.rollouts.answers import Words
from npc_runtime.gateway.rollouts.observer import Outcome
from npc_runtime.patterns import BadPattern, Pattern, compile_pattern

log = logging.getLogger(__name__)

PIECE_BYTES = 16 << 10
"""Bytes of one answer that are held before they are handed over."""

MAX_WAITING = 2_000
"""Pieces the thread may be behind: at most 32 MB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an answer that was passed on whole turned out to be."""

    outcome: Outcome
    """OK, EMPTY or ERROR."""
    mismatched: bool = False
    judged: bool = True
    """False: nobody had the time to read it."""


Tell = Callable[[Finding], None]
"""Called on the event loop."""


class Reading:
    """One answer on its way to the judge."""

    __slots__ = ("_judge", "_must_match", "_must_not_match", "_pieces", "_size", "lost", "words")

    def __init__(self, judge: Judge, must_not_match: Sequence[str], must_match: Sequence[str]) -> None:
        self._judge = judge
        self._must_not_match = must_not_match
        self._must_match = must_match
        self._pieces: list[bytes] = []
        self._size = 0
        self.lost = False
        self.words = Words()
        """Of the thread alone."""

    def add(self, data: bytes) -> None:
        """Whole chunks of a stream, in their framing."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= PIECE_BYTES:
            self._hand_over(None)

    def close(self, tell: Tell, body: bytes | None = None) -> None:
        """The answer is complete; `body` is all of one that was not streamed. What it is worth is told later, on the
        loop."""
        self._hand_over(tell, body)

    def _hand_over(self, tell: Tell | None, body: bytes | None = None) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not self.lost:
            self.lost = not self._judge.take((self, pieces, body, tell))
        if self.lost and tell is not None:
            tell(Finding(Outcome.OK, judged=False))

    def read(self, pieces: list[bytes], body: bytes | None) -> None:
        """Take over words. In the thread."""
        if pieces:
            self.words.read_stream(b"".join(pieces))
        if body is not None:
            self.words.read_body(body)

    def finding(self) -> Finding:
        """What the words come to. In the thread."""
        words = self.words
        if words.failed:
            return Finding(Outcome.ERROR)
        if words.empty:
            return Finding(Outcome.EMPTY)
        text = words.text
        mismatched = any(pattern.search(text) for pattern in _compiled(self._must_not_match)) or any(
            not pattern.search(text) for pattern in _compiled(self._must_match)
        )
        return Finding(Outcome.OK, mismatched)


def _compiled(patterns: Sequence[str]) -> list[Pattern]:
    found = []
    for pattern in patterns:
        try:
            found.append(compile_pattern(pattern))
        except BadPattern as error:
            # The operator names it to its author; without it the candidate is judged by the others.
            log.warning("a pattern cannot be searched for and is left out", extra={"error": str(error)})
    return found


_Job = tuple[Reading, list[bytes], bytes | None, Tell | None]


class Judge:
    """The thread and its queue. One per event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self, must_not_match: Sequence[str], must_match: Sequence[str] = ()) -> Reading:
        """Begin with an answer that must not hold any of the first patterns, and must hold each of the others."""
        return Reading(self, must_not_match, must_match)

    def take(self, job: _Job) -> bool:
        """Queue a piece of an answer; False when too much waits already."""
        if self._jobs.qsize() >= MAX_WAITING:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return True

    def close(self) -> None:
        """End the thread once it has read what it has; its last findings are told to nobody."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout=2)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            reading, pieces, body, tell = job
            finding = None
            try:
                reading.read(pieces, body)
                if tell is not None:
                    finding = reading.finding()
            except Exception:  # one answer that cannot be read must not end the thread, and with it all judging
                log.exception("an answer could not be judged")
                finding = Finding(Outcome.OK, judged=False)
            if tell is not None and finding is not None:
                try:
                    self._loop.call_soon_threadsafe(tell, finding)
                except RuntimeError:
                    return  # the loop is closed: nobody listens any more
