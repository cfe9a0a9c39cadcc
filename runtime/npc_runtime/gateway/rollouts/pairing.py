"""Comparing the candidate's first-token times with those of characters that kept the stable digest.

Only times of the same pod within the same few seconds are compared, one with one: load, hardware and time of day then
hit both sides alike, and what is left is the digest, and who speaks. Each time is used at most once, so the pairs are
as many looks at the question "slower?" as a sign test may count. The gateway's own probes are paired among themselves:
they are shorter than what players say.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 10.0
"""How far apart in time two first tokens may be compared."""

MAX_WAITING = 32
"""Times of one side on one pod that wait for a partner; older ones are forgotten."""

MAX_PODS = 512
"""Pods that are remembered; the one that was first is forgotten for another. A tier has far fewer."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """One measured time: of which pod and when, by a clock that only grows, in seconds."""

    seconds: float
    pod: str
    at: float
    place: int | None
    """The NPC's bucket, which stands for the NPC; None for a probe, which is the same question every time."""


_Waiting = deque[FirstToken]
"""Oldest first."""


@dataclass(slots=True)
class _Pod:
    warm: int = 0
    candidate: _Waiting = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    control: _Waiting = field(default_factory=lambda: deque(maxlen=MAX_WAITING))


class Crowd:
    """How many NPCs a number of lines are worth. Memory is bounded by the number of buckets."""

    __slots__ = ("_lines", "_of_npc", "_squares")

    def __init__(self) -> None:
        self._of_npc: dict[int, int] = {}
        self._lines = 0
        self._squares = 0

    def add(self, place: int | None) -> None:
        """One line more. A probe differs from no other, so it is as good as a line of somebody new."""
        before = 0
        if place is not None:
            before = self._of_npc.get(place, 0)
            self._of_npc[place] = before + 1
        self._lines += 1
        self._squares += 2 * before + 1

    @property
    def size(self) -> float:
        """As many as would be if all spoke as much: (lines)^2 / sum of (lines of one)^2."""
        return self._lines**2 / self._squares if self._squares else 0.0


class Pairs:
    """First-token times of one candidate and its control."""

    __slots__ = ("_candidates", "_controls", "_pods", "over_limit", "pairs", "slower", "timed")

    def __init__(self) -> None:
        self._pods: dict[tuple[str, bool], _Pod] = {}
        self._candidates = Crowd()
        self._controls = Crowd()
        self.pairs = 0
        self.slower = 0
        self.timed = 0
        self.over_limit = 0

    @property
    def npcs(self) -> int:
        """How many NPCs the pairs compare, on the side that has fewer."""
        return int(min(self._candidates.size, self._controls.size))

    def candidate(self, first: FirstToken, *, warmup: int, slower_percent: int, limit: float) -> None:
        """A first token of the candidate. The first `warmup` on a pod do not count; `limit` is in seconds, 0 is
        none."""
        at = self._pod(first)
        if at.warm < warmup:
            at.warm += 1
            return
        self.timed += 1
        if limit and first.seconds > limit:
            self.over_limit += 1
        control = _partner(at.control, first.at)
        if control is None:
            at.candidate.append(first)
        else:
            self._compare(first, control, slower_percent)

    def control(self, first: FirstToken, *, slower_percent: int) -> None:
        """A first token of the stable digest for a character of the control bucket."""
        at = self._pod(first)
        candidate = _partner(at.candidate, first.at)
        if candidate is None:
            at.control.append(first)
        else:
            self._compare(candidate, first, slower_percent)

    def _compare(self, candidate: FirstToken, control: FirstToken, slower_percent: int) -> None:
        self.pairs += 1
        self._candidates.add(candidate.place)
        self._controls.add(control.place)
        if candidate.seconds * 100 > control.seconds * slower_percent:
            self.slower += 1

    def _pod(self, first: FirstToken) -> _Pod:
        key = (first.pod, first.place is None)
        found = self._pods.get(key)
        if found is None:
            if len(self._pods) >= MAX_PODS:
                del self._pods[next(iter(self._pods))]
            found = self._pods[key] = _Pod()
        return found


def _partner(waiting: _Waiting, now: float) -> FirstToken | None:
    """The nearest time that waits, taken out; None where none is near enough."""
    if not waiting:
        return None
    if now - waiting[-1].at > WINDOW_SECONDS:
        waiting.clear()
        return None
    return waiting.pop()
