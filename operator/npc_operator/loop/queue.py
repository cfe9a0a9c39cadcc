"""What is to be done, as keys: each at most once, each by one worker at a time, the urgent ones first.

Marking is cheap and idempotent, so whoever sees a change simply marks. Three things keep a busy world from becoming
busy work: a key that waits is not queued twice, a key that runs is run once more after it and not beside it, and a
key that ran a moment ago gathers what comes in for a moment (a quiet key never waits). Failing keys are tried again
with a backoff of their own, so one bad object cannot slow the others.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from npc_operator.loop.store import Ticks

K = TypeVar("K", bound=Hashable)

QUIET_SECONDS = 0.050
"""A key that ended its last run longer ago than this is quiet: it runs at once."""
GATHER_SECONDS = 0.200
"""The longest that gathered events wait, counted from the first of them."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_MOST_SECONDS = 30.0
BACKOFF_JITTER = 0.25
_REMEMBERED_RUNS = 1024


class Lane(IntEnum):
    """Which of the ready keys goes first. Within a lane it is first come, first served."""

    INTERRUPT = 0  # never gathered either: capacity is going away
    URGENT = 1  # orders to agents and gateways: small, and people wait for their effect
    NORMAL = 2  # something changed
    BACKGROUND = 3  # a look to be sure (start, resync)


@dataclass(slots=True)
class _Gathering:
    """A key that waits for its events to settle."""

    lane: Lane
    first: float
    due: float


@dataclass(frozen=True, slots=True)
class Share(Generic[K]):
    """Keys whose runs wait for others, who may all fall silent together: `most` of them run at a time, so that there
    are hands left for the rest."""

    belongs: Callable[[K], bool]
    most: int


class KeyedQueue(Generic[K]):
    """Lives on one event loop, with one consumer. `jitter` gives numbers in [0, 1); `share` bounds some of the keys."""

    def __init__(
        self, clock: Ticks, *, jitter: Callable[[], float] = random.random, share: Share[K] | None = None
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._share = share
        self._sharing = 0
        """Keys of the share that run."""
        self._ready: tuple[OrderedDict[K, int], ...] = tuple(OrderedDict() for _ in Lane)
        """By lane: keys that may run, and which came when."""
        self._ready_to_share: tuple[OrderedDict[K, int], ...] = tuple(OrderedDict() for _ in Lane)
        """The same of the share: thousands may wait while it is full, and are not looked through each time."""
        self._gathering: dict[K, _Gathering] = {}
        self._running: set[K] = set()
        self._again: dict[K, tuple[Lane, float]] = {}
        self._later: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._ended: OrderedDict[K, float] = OrderedDict()
        self._failures: dict[K, int] = {}
        self._waiting_since: dict[K, float] = {}
        self._wake = asyncio.Event()

    # --- marking ---

    def add(self, key: K, lane: Lane = Lane.NORMAL) -> None:
        """Something about the key changed."""
        now = self._clock.monotonic()
        self._waiting_since.setdefault(key, now)
        if key in self._running:
            waiting, first = self._again.get(key, (lane, now))
            self._again[key] = (min(waiting, lane), first)
            return
        self._enqueue(key, lane, now, first=now)

    def add_after(self, key: K, seconds: float, *, lane: Lane = Lane.NORMAL) -> None:
        """Run the key in so many seconds, unless it runs before (which asks anew). Replaces an earlier such wish."""
        if seconds <= 0:
            self.add(key, lane)
            return
        due = self._clock.monotonic() + seconds
        self._later[key] = due
        self._push_timer(due, key)

    def backoff(self, key: K) -> float:
        """The key failed: run it after its own growing delay (1 s doubling to 30 s, jittered); returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        full = min(BACKOFF_MOST_SECONDS / (1 + BACKOFF_JITTER), BACKOFF_FIRST_SECONDS * 2.0 ** min(failures, 10))
        seconds = full * (1 + BACKOFF_JITTER * self._jitter())
        self.add_after(key, seconds)
        return seconds

    def forgive(self, key: K) -> None:
        """The key succeeded: its next failure starts at the shortest delay."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def _enqueue(self, key: K, lane: Lane, now: float, *, first: float) -> None:
        lanes = self._lanes_of(key)
        for better in lanes[: lane + 1]:
            if key in better:
                return
        for worse in lanes[lane + 1 :]:
            if key in worse:
                del worse[key]
                self._make_ready(key, lane)
                return
        gathering = self._gathering.get(key)
        ended = self._ended.get(key)
        quiet = ended is None or now - ended >= QUIET_SECONDS
        if lane is Lane.INTERRUPT or (quiet and gathering is None):
            self._gathering.pop(key, None)
            self._make_ready(key, lane)
            return
        if gathering is None:
            gathering = self._gathering[key] = _Gathering(lane=lane, first=first, due=0.0)
        gathering.lane = min(gathering.lane, lane)
        gathering.due = min(gathering.first + GATHER_SECONDS, now + QUIET_SECONDS)
        self._push_timer(gathering.due, key)

    def _make_ready(self, key: K, lane: Lane) -> None:
        self._sequence += 1
        self._lanes_of(key)[lane][key] = self._sequence
        self._wake.set()

    def _push_timer(self, due: float, key: K) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (due, self._sequence, key))
        self._wake.set()

    # --- working ---

    async def get(self) -> K:
        """The next key to run, most urgent first; whoever takes it must call `done`."""
        while True:
            key = self.take()
            if key is not None:
                return key
            self._wake.clear()
            due = self._timers[0][0] if self._timers else None
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def take(self) -> K | None:
        """The next key if one is ready now."""
        self._ripen(self._clock.monotonic())
        for others, sharing in zip(self._ready, self._ready_to_share, strict=True):
            lane = self._first_come(others, sharing)
            if lane:
                key, _ = lane.popitem(last=False)
                self._running.add(key)
                self._sharing += self._shares(key)
                self._waiting_since.pop(key, None)
                self._later.pop(key, None)
                return key
        return None

    def _first_come(self, others: OrderedDict[K, int], sharing: OrderedDict[K, int]) -> OrderedDict[K, int]:
        """Of the two halves of a lane, the one whose first key is to run."""
        if not sharing or (self._share is not None and self._sharing >= self._share.most):
            return others
        return min((half for half in (others, sharing) if half), key=lambda half: next(iter(half.values())))

    def _lanes_of(self, key: K) -> tuple[OrderedDict[K, int], ...]:
        return self._ready_to_share if self._shares(key) else self._ready

    def _shares(self, key: K) -> bool:
        return self._share is not None and self._share.belongs(key)

    def done(self, key: K) -> None:
        """The run ended. What was marked meanwhile is gathered with what still comes."""
        now = self._clock.monotonic()
        if key in self._running and self._shares(key):
            self._sharing -= 1
            self._wake.set()  # another one of them may run
        self._running.discard(key)
        self._ended[key] = now
        self._ended.move_to_end(key)
        while self._ended and (
            len(self._ended) > _REMEMBERED_RUNS or now - next(iter(self._ended.values())) >= QUIET_SECONDS
        ):
            self._ended.popitem(last=False)
        again = self._again.pop(key, None)
        if again is not None:
            lane, first = again
            self._enqueue(key, lane, now, first=first)

    def _ripen(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            gathering = self._gathering.get(key)
            if gathering is not None and gathering.due == due:
                del self._gathering[key]
                self._make_ready(key, gathering.lane)
            elif self._later.get(key) == due:
                del self._later[key]
                self.add(key)

    # --- readings ---

    def depth(self) -> int:
        """Keys that something happened to and that do not run yet; delayed looks do not count."""
        return len(self._waiting_since)

    def running(self) -> int:
        return len(self._running)

    def oldest_seconds(self) -> float:
        """How long the longest-waiting of them has waited."""
        if not self._waiting_since:
            return 0.0
        return self._clock.monotonic() - min(self._waiting_since.values())
