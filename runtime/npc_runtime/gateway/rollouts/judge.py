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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from npc_runtime.gateway.rollouts.answers import Words
from npc_runtime.gateway.rollouts.observer import Outcome
from npc_runtime.patterns import BadPattern, Pattern, compile_pattern

log = logging.getLogger(__name__)

PIECE_BYTES = 16 << 10
"""Bytes of one answer that are held before they are handed over."""

MAX_WAITING = 2_000
"""Pieces the thread may be behind: at most 32 MB."""

GATHER_SECONDS = 0.05
"""How long pieces are gathered before the thread is woken for them: each time that it wakes it takes the interpreter
from the event loop, so it does so some times a second and not for each answer. A verdict may take five seconds."""


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

    def __init__(self, judge: Judge, must_not_match: tuple[str, ...], must_match: tuple[str, ...]) -> None:
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


@lru_cache(maxsize=512)
def _compiled(patterns: tuple[str, ...]) -> tuple[Pattern, ...]:
    """Once for each voice's patterns and not for each answer: one that is none would be said with every line."""
    found = []
    for pattern in patterns:
        try:
            found.append(compile_pattern(pattern))
        except BadPattern as error:
            # The operator names it to its author; without it the candidate is judged by the others.
            log.warning("a pattern cannot be searched for and is left out", extra={"error": str(error)})
    return tuple(found)


_Job = tuple[Reading, list[bytes], bytes | None, Tell | None]


class Judge:
    """The thread and its queue. One per event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._gathered: list[_Job] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._batches: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Each is written by one side only: what waits is their difference.
        self._taken = 0
        self._read = 0

    def open(self, must_not_match: tuple[str, ...], must_match: tuple[str, ...] = ()) -> Reading:
        """Begin with an answer that must not hold any of the first patterns, and must hold each of the others."""
        return Reading(self, must_not_match, must_match)

    def take(self, job: _Job) -> bool:
        """Take a piece of an answer; False when too much waits already."""
        if self._taken - self._read >= MAX_WAITING:
            return False
        self._taken += 1
        self._gathered.append(job)
        if self._gathering is None:
            self._gathering = self._loop.call_later(GATHER_SECONDS, self._hand_over)
        return True

    def close(self) -> None:
        """End the thread once it has read what it has; its last findings are told to nobody."""
        if self._gathering is not None:
            self._gathering.cancel()
        if self._thread is not None:
            self._batches.put(None)
            self._thread.join(timeout=2)
            self._thread = None

    def _hand_over(self) -> None:
        self._gathering = None
        batch, self._gathered = self._gathered, []
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
            self._thread.start()
        self._batches.put(batch)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            found = [(job[3], finding) for job in batch if (finding := self._judge(job)) is not None]
            if found:
                try:
                    self._loop.call_soon_threadsafe(_tell_all, found)
                except RuntimeError:
                    return  # the loop is closed: nobody listens any more

    def _judge(self, job: _Job) -> Finding | None:
        reading, pieces, body, tell = job
        finding = None
        try:
            reading.read(pieces, body)
            if tell is not None:
                finding = reading.finding()
        except Exception:  # one answer that cannot be read must not end the thread, and with it all judging
            log.exception("an answer could not be judged")
            finding = Finding(Outcome.OK, judged=False)
        self._read += 1
        return finding if tell is not None else None


def _tell_all(found: Iterable[tuple[Tell | None, Finding]]) -> None:
    for tell, finding in found:
        if tell is not None:
            try:
                tell(finding)
            except Exception:  # one line's fault must not keep the others from being counted
                log.exception("an answer that was judged could not be counted")
