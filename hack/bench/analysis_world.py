"""Made-up games in which a candidate is tried: who speaks when, what goes wrong, how long first tokens take.

Characters differ in how often their answers are bad and in how long their first tokens take, whichever digest answers
them; the load of the whole tier goes up and down; pods differ. Times are paired by the gateway's own code, and what it
counts is judged by the operator's own at every second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npc_operator.api.rollouts import Rollout
from npc_operator.domain.analysis.evidence import Evidence, Side
from npc_operator.domain.analysis.verdict import judge
from npc_runtime.gateway.rollouts.pairing import FirstToken, Pairs
from npc_runtime.wire import NPC_BUCKETS, AliasRollout

CHUNK_SECONDS = 30
DEFAULTS = Rollout()
SLOWER_PERCENT = DEFAULTS.analysis.max_slower_percent
WARMUP = AliasRollout(candidate_below=0, control_below=0).warmup

_Line = tuple[float, int, int, bool, bool, bool, float]
"""When, who, on which pod, of the candidate, of the control, bad, and seconds until its first token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """One archetype on one tier, and how its candidate differs from stable."""

    npcs: int
    lines_per_second: float
    bad: float = 0.01
    """Of stable's answers, for a character in the middle."""
    candidate_bad: float | None = None
    """None: the same."""
    times_slower: float = 1.0
    bad_spread: float = 0.5
    """Standard deviation of the logarithm of a character's odds of a bad answer."""
    npc_spread: float = 0.25
    """Of the logarithm of a character's typical time."""
    line_spread: float = 0.5
    """Of the logarithm of the times of one character's lines."""
    pods: int = 2
    step_seconds: int = DEFAULTS.step_seconds
    steps: tuple[int, ...] = DEFAULTS.steps


@dataclass(frozen=True, slots=True)
class Played:
    """How a rollout ended."""

    reason: str
    """Why the candidate was taken back; empty where it got through, or beyond the requests that were allowed."""
    requests: int
    """Answers that it had given."""
    seconds: int
    looks: int


def play(game: Game, seed: int, *, within: int | None = None) -> Played:
    """One rollout, looked at every second, until it is judged bad, has got through or, with `within`, has given more
    answers than that."""
    return _Play(game, np.random.default_rng(seed)).run(within)


class _Play:
    def __init__(self, game: Game, rng: np.random.Generator) -> None:
        self._game = game
        self._rng = rng
        self._buckets = rng.integers(0, NPC_BUCKETS, game.npcs)
        spread = rng.normal(0.0, game.bad_spread, game.npcs)
        self._stable_bad = _rates(game.bad, spread)
        self._candidate_bad = _rates(game.bad if game.candidate_bad is None else game.candidate_bad, spread)
        self._npc_time = rng.normal(0.0, game.npc_spread, game.npcs)
        self._pod_time = rng.normal(0.0, 0.2, game.pods)
        self._phase = rng.uniform(0.0, 2.0 * math.pi)
        self._pairs = Pairs()
        self._evidence = Evidence()
        self._seconds = self._looks = 0

    def run(self, within: int | None) -> Played:
        analysis = DEFAULTS.analysis
        for percent in self._game.steps:
            began, before = self._seconds, self._evidence.candidate.requests
            for _ in self._listen(percent):
                requests = self._evidence.candidate.requests
                if within is not None and requests > within:
                    return self._end("")
                verdict = judge(replace(self._evidence, step_requests=requests - before), analysis)
                self._looks += 1
                if verdict.bad is not None:
                    return self._end(verdict.bad.reason)
                if self._seconds - began >= self._game.step_seconds and verdict.enough:
                    break
        return self._end("")

    def _end(self, reason: str) -> Played:
        return Played(reason, self._evidence.candidate.requests, self._seconds, self._looks)

    def _listen(self, percent: int) -> Iterator[None]:
        """Lives through a step second by second, for as long as somebody asks for more."""
        game, rng = self._game, self._rng
        below = max(percent * NPC_BUCKETS // 100, int(self._buckets.min()) + 1)
        on_candidate = self._buckets < below
        on_control = ~on_candidate & (self._buckets < 2 * below)
        while True:
            count = rng.poisson(game.lines_per_second * CHUNK_SECONDS)
            when = np.sort(rng.uniform(0.0, CHUNK_SECONDS, count)) + self._seconds
            who = rng.integers(0, game.npcs, count)
            pod = rng.integers(0, game.pods, count)
            mine = on_candidate[who]
            bad = rng.random(count) < np.where(mine, self._candidate_bad[who], self._stable_bad[who])
            load = 0.7 * np.sin(when * (2.0 * math.pi / 300.0) + self._phase)
            noise = rng.normal(0.0, game.line_spread, count)
            slow = np.where(mine, math.log(game.times_slower), 0.0)
            took = 0.2 * np.exp(load + self._pod_time[pod] + self._npc_time[who] + noise + slow)
            columns = (when, who, pod, mine, on_control[who], bad, took)
            lines: list[_Line] = list(zip(*(column.tolist() for column in columns), strict=True))
            at = 0
            for _ in range(CHUNK_SECONDS):
                self._seconds += 1
                first = at
                while at < count and lines[at][0] < self._seconds:
                    at += 1
                self._hear(lines[first:at])
                yield

    def _hear(self, lines: list[_Line]) -> None:
        before = self._evidence
        mine = [line for line in lines if line[3]]
        others = [line for line in lines if not line[3]]
        for when, who, pod, of_candidate, of_control, _, took in lines:
            first = FirstToken(took, str(pod), when, who)
            if of_candidate:
                self._pairs.candidate(first, warmup=WARMUP, slower_percent=SLOWER_PERCENT, limit=0.0)
            elif of_control:
                self._pairs.control(first, slower_percent=SLOWER_PERCENT)
        self._evidence = Evidence(
            stable=_add(before.stable, others),
            candidate=_add(before.candidate, mine),
            pairs=self._pairs.pairs,
            slower=self._pairs.slower,
            npcs=self._pairs.npcs,
            timed=self._pairs.timed,
        )


def _add(side: Side, lines: list[_Line]) -> Side:
    return Side(requests=side.requests + len(lines), errors=side.errors + sum(line[5] for line in lines))


def _rates(middle: float, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    rates: NDArray[np.float64] = 1.0 / (1.0 + (1.0 - middle) / middle * np.exp(-spread))
    return rates
