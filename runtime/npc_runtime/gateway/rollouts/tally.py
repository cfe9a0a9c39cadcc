"""What one event loop saw of one candidate beside one stable digest: plain integers that only grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from npc_runtime import wire
from npc_runtime.gateway.rollouts.guard import why_withdrawn
from npc_runtime.gateway.rollouts.losses import Losses
from npc_runtime.gateway.rollouts.observer import Outcome
from npc_runtime.gateway.rollouts.pairing import Pairs
from npc_runtime.gateway.table import Alias, CompiledTable

_OK: Final = Outcome.OK


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate beside a stable digest, for one archetype on one tier, in one attempt. Counts belong to a pair,
    whatever steps and pauses its rollout takes."""

    archetype: str
    tier: str
    stable: str
    candidate: str
    attempt: int = 0

    @property
    def what(self) -> What:
        """What is off once it was taken off: this try of this digest, whatever stands beside it."""
        return self.archetype, self.tier, self.candidate, self.attempt


What = tuple[str, str, str, int]
"""Archetype, tier, digest, attempt."""

W = TypeVar("W")


def keep_newest(withdrawn: Mapping[What, W], trying: Iterable[Pair]) -> dict[What, W]:
    """What was taken off, without the attempts that are over because a newer one is under way: so what is remembered
    does not grow with every try."""
    newest = {(pair.archetype, pair.tier): pair.attempt for pair in trying}
    return {what: why for what, why in withdrawn.items() if what[3] >= newest.get(what[:2], 0)}


def pair_of(alias: Alias) -> Pair | None:
    """What is being tried by an alias; None where nothing is, or nobody watches."""
    if alias.candidate is None or alias.rollout is None:
        return None
    return Pair(alias.archetype, alias.tier, alias.stable.digest, alias.candidate.digest, alias.rollout.attempt)


def pairs_of(table: CompiledTable) -> dict[Pair, wire.AliasRollout]:
    """What is being tried by a table, and by what it is watched."""
    return {
        pair: alias.rollout
        for alias in table.aliases.values()
        if alias.rollout is not None and (pair := pair_of(alias)) is not None
    }


class Seen(wire.RolloutReport):
    """A report with what only the gateway's own metrics tell."""

    fallen: int = 0
    """Lines meant for the candidate that the stable digest answered, because no pod could."""
    unjudged: int = 0
    """Answers of the candidate that nobody had time to read: counted, and taken for good."""

    @property
    def pair(self) -> Pair:
        """Whose counts these are."""
        return Pair(self.archetype, self.tier, self.stable, self.candidate, self.attempt)


class Side:
    """Answers of one digest."""

    __slots__ = ("empty", "errors", "first_bad_ms", "mismatched", "probes", "requests", "truncated")

    def __init__(self) -> None:
        self.requests = 0
        self.probes = 0
        self.errors = 0
        self.truncated = 0
        self.empty = 0
        self.mismatched = 0
        self.first_bad_ms: int | None = None

    def count(self, outcome: Outcome, *, probe: bool, mismatched: bool = False) -> None:
        """Count one answer, in one way only. What the client ended and what says nothing of the digest is none."""
        if outcome is _OK and not mismatched:
            # Nearly every one, and comparing members of an enum takes its time.
            self.requests += 1
            self.probes += probe
            return
        match outcome:
            case Outcome.CLIENT_GONE | Outcome.UNTOLD:
                return
            case Outcome.ERROR:
                self.errors += 1
            case Outcome.TRUNCATED:
                self.truncated += 1
            case Outcome.EMPTY:
                self.empty += 1
            case Outcome.OK | Outcome.LATE:
                self.mismatched += mismatched
        self.requests += 1
        self.probes += probe
        if self.first_bad_ms is None and (mismatched or outcome is not Outcome.LATE):
            self.first_bad_ms = int(time.time() * 1000)

    @property
    def bad(self) -> int:
        """Answers that were bad in one way or another."""
        return self.errors + self.truncated + self.empty + self.mismatched

    def counts(self) -> wire.AnswerCounts:
        """As the operator is told."""
        return wire.AnswerCounts(
            requests=self.requests,
            probes=self.probes,
            errors=self.errors,
            truncated=self.truncated,
            empty=self.empty,
            mismatched=self.mismatched,
            first_bad_ms=self.first_bad_ms,
        )


class Tally:
    """Both sides of one pair, and the times that were compared."""

    __slots__ = (
        "_on_withdrawn",
        "candidate",
        "fallen",
        "losses",
        "pair",
        "pairs",
        "rollout",
        "stable",
        "unjudged",
        "withdrawn",
    )

    def __init__(self, pair: Pair, rollout: wire.AliasRollout, *, on_withdrawn: Callable[[Pair, str], None]) -> None:
        """`on_withdrawn` is called with the reason when this candidate has given one bad answer too many."""
        self._on_withdrawn = on_withdrawn
        self.losses = Losses(self._count_lost)
        self.pair = pair
        self.rollout = rollout
        """By what the candidate is watched now; every table may change it."""
        self.stable = Side()
        self.candidate = Side()
        self.pairs = Pairs()
        self.fallen = 0
        self.unjudged = 0
        self.withdrawn = ""
        """Why the candidate is off in this gateway; empty while it is not."""

    def count_candidate(self, outcome: Outcome, *, probe: bool, mismatched: bool = False) -> None:
        """Count an answer of the candidate, and take it off if that was one bad answer too many."""
        self.candidate.count(outcome, probe=probe, mismatched=mismatched)
        if self.candidate.bad and not self.withdrawn:
            why = why_withdrawn(self.rollout.guard, self.candidate.counts())
            if why:
                self._on_withdrawn(self.pair, why)

    def _count_lost(self, candidate: bool, probe: bool) -> None:
        if candidate:
            self.count_candidate(Outcome.ERROR, probe=probe)
        else:
            self.stable.count(Outcome.ERROR, probe=probe)

    def seen(self, lowest_heard: int | None) -> Seen:
        """Everything, as the operator is told."""
        return Seen(
            archetype=self.pair.archetype,
            tier=self.pair.tier,
            stable=self.pair.stable,
            candidate=self.pair.candidate,
            attempt=self.pair.attempt,
            stable_counts=self.stable.counts(),
            candidate_counts=self.candidate.counts(),
            pairs=self.pairs.pairs,
            slower=self.pairs.slower,
            npcs=self.pairs.npcs,
            timed=self.pairs.timed,
            over_limit=self.pairs.over_limit,
            lowest_heard=lowest_heard,
            withdrawn=self.withdrawn,
            fallen=self.fallen,
            unjudged=self.unjudged,
        )
