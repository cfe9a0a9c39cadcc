"""Comparing the candidate's first-token times with those of characters that kept the stable digest.

Only times of the same pod within the same few seconds are compared, one with one: load, hardware and time of day then
hit both sides alike, and what is left is the digest. Each time is used at most once, so the pairs are as many looks at
the question "slower?" as a sign test may count. The gateway's own probes are paired among themselves: they are
shorter than what players say.
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

_Waiting = deque[tuple[float, float]]
"""(when, seconds), oldest first."""


@dataclass(slots=True)
class _Pod:
    warm: int = 0
    candidate: _Waiting = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    control: _Waiting = field(default_factory=lambda: deque(maxlen=MAX_WAITING))


class Pairs:
    """First-token times of one candidate and its control. `now` is of a clock that only grows; all in seconds."""

    __slots__ = ("_pods", "over_limit", "pairs", "slower", "timed")

    def __init__(self) -> None:
        self._pods: dict[tuple[str, bool], _Pod] = {}
        self.pairs = 0
        self.slower = 0
        self.timed = 0
        self.over_limit = 0

    def candidate(
        self, seconds: float, pod: str, now: float, *, probe: bool, warmup: int, slower_percent: int, limit: float
    ) -> None:
        """A first token of the candidate. The first `warmup` on a pod do not count; `limit` 0 is none."""
        at = self._pod(pod, probe=probe)
        if at.warm < warmup:
            at.warm += 1
            return
        self.timed += 1
        if limit and seconds > limit:
            self.over_limit += 1
        other = _partner(at.control, now)
        if other is None:
            at.candidate.append((now, seconds))
        else:
            self._compare(seconds, other, slower_percent)

    def control(self, seconds: float, pod: str, now: float, *, probe: bool, slower_percent: int) -> None:
        """A first token of the stable digest for a character of the control bucket."""
        at = self._pod(pod, probe=probe)
        other = _partner(at.candidate, now)
        if other is None:
            at.control.append((now, seconds))
        else:
            self._compare(other, seconds, slower_percent)

    def _compare(self, candidate: float, control: float, slower_percent: int) -> None:
        self.pairs += 1
        if candidate * 100 > control * slower_percent:
            self.slower += 1

    def _pod(self, pod: str, *, probe: bool) -> _Pod:
        found = self._pods.get((pod, probe))
        if found is None:
            if len(self._pods) >= MAX_PODS:
                del self._pods[next(iter(self._pods))]
            found = self._pods[pod, probe] = _Pod()
        return found


def _partner(waiting: _Waiting, now: float) -> float | None:
    """The nearest time that waits, taken out; None where none is near enough."""
    if not waiting:
        return None
    at, seconds = waiting[-1]
    if now - at > WINDOW_SECONDS:
        waiting.clear()
        return None
    waiting.pop()
    return seconds
