"""What the decision about one variant looks at, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from npc_operator.api.archetypeadapter import HistoryEntry, Rejection, Revision, RolloutStatus, VariantStatus
from npc_operator.api.rollouts import Rollout
from npc_operator.domain.analysis.evidence import Evidence, Verdict
from npc_operator.domain.conditions import Finding, parse_rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import GateFact
from npc_operator.domain.holdings import Held
from npc_runtime.wire import served_name

StandIn = Literal["BaseModel", "Scripted", "Nothing"]
"""What a tier answers with while none of a voice's adapters may be used."""
STAND_INS: tuple[StandIn, ...] = ("BaseModel", "Scripted", "Nothing")

Serving = Literal["", "Stable", "LastGood", "BaseModel", "Scripted", "Nothing"]
"""What a tier answers with, as VariantStatus has it; empty before anything ever did."""

NO_EVIDENCE = Evidence()
IN_STEPS = Rollout()
NO_VERDICT = Verdict(bad=None, enough=False, numbers="")


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a voice may have its candidate heard, and if not, because of whom."""

    granted: bool
    holders: tuple[str, ...] = ()
    """The others that have a turn, and since when; the more important first."""
    free_after: float | None = None
    """Seconds until one of them gives its turn back by itself, if any does."""


GRANTED = Turn(granted=True)


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """Everything the decision about one variant looks at."""

    archetype: str
    tier: str
    wanted: Revision
    """What the spec names."""
    status: VariantStatus | None
    engines: Sequence[Engine]
    """Pods of the tier whose engine counts as ready."""
    rollout: Rollout = IN_STEPS
    """How the spec wants traffic to move."""
    ceiling_percent: int = 100
    """The region's, for every rollout."""
    turn: Turn = GRANTED
    """Whether the voice may have a candidate with traffic now."""
    gate: GateFact | None = None
    """The user's own test of the wanted digest, if it has begun."""
    evidence: Evidence = NO_EVIDENCE
    """What gateways saw of the wanted digest."""
    verdict: Verdict = NO_VERDICT
    """What that comes to."""
    unwatched: Finding | None = None
    """Why nobody can say what all of the wanted digest's answers are like, so that no more NPCs may hear it."""
    crashes: int = 0
    """Engine processes that ended while they had the candidate, since it has traffic."""
    quarantined: frozenset[str] = frozenset()
    """Digests that must not be used."""
    stand_in: StandIn = "Nothing"
    """What answers while no adapter may."""
    changed_by: str = ""
    """Who named the wanted digest: a field manager; empty where nobody knows."""
    approved_by: str = ""
    """Who named approvedDigest."""
    quarantined_by: str = ""
    """Who named a digest of this variant in the voice's own quarantinedDigests."""
    serving: Sequence[tuple[str, Held]] = ()
    """(pod, report) of every adapter of this archetype that is on those pods; looked at only while there is no stable
    digest.
    """
    fault: Finding | None = None
    """Why the spec's digest must not be brought in; what is stable goes on."""
    left_out: Finding | None = None
    """Why nothing of the voice has a slot, so that what is stable leaves the routes and the pods."""
    waiting: Finding | None = None
    """Why it cannot be brought in before a person does something."""
    queued: Finding | None = None
    """Why it cannot be brought in yet, which ends by itself."""
    unread: Finding | None = None
    """What was not looked at yet: the digests stay as they are, nothing is begun."""

    def name(self, digest: str) -> str:
        """What engines call a digest of this voice."""
        return served_name(self.archetype, digest)

    def all_have(self, digest: str) -> bool:
        """Whether every pod that counts, and at least one, has proven a digest."""
        name = self.name(digest)
        return bool(self.engines) and all(engine.proven(name) for engine in self.engines)

    def ceiling(self) -> int:
        """Percent above which the wanted digest does not go without a person."""
        if self.rollout.approved_digest == self.wanted.digest:
            return 100
        return min(self.rollout.ceiling_percent, self.ceiling_percent)


@dataclass(frozen=True, slots=True)
class State:
    """What of a variant's status is decided; the rest of it is counted."""

    stable: Revision | None = None
    candidate: Revision | None = None
    since: float | None = None
    """When the candidate was first seen (Unix seconds)."""
    attempt: int = 0
    """How often a digest was begun to be brought in."""
    rollout: RolloutStatus | None = None
    rejected: Rejection | None = None
    serving: Serving = ""
    history: tuple[HistoryEntry, ...] = ()
    made: tuple[HistoryEntry, ...] = ()
    """What of the history was decided now, oldest first."""

    def has_traffic(self) -> bool:
        """Whether some NPCs hear the candidate."""
        return self.candidate is not None and self.rollout is not None and bool(self.rollout.since)

    def stands_in(self) -> bool:
        """Whether no adapter may answer, or the one that will is still being brought in."""
        return self.serving in STAND_INS


def read_state(status: VariantStatus | None) -> State:
    """Where the last decision left off."""
    if status is None:
        return State()
    return State(
        stable=status.stable,
        candidate=status.candidate,
        since=parse_rfc3339(status.candidate_since),
        attempt=status.attempt,
        rollout=status.rollout,
        rejected=status.rejected,
        serving=status.serving,
        history=status.history,
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What one variant's status becomes, and what there is to say about it."""

    status: VariantStatus
    ready: bool | None
    why: Finding
    reconciling: Finding | None = None
    stalled: Finding | None = None
    made: tuple[HistoryEntry, ...] = ()
    """What was decided now and went into the history, oldest first."""
    moved_from: str | None = None
    """The digest that was stable before, if all traffic moves now; empty for the first."""
    requeue_after: float | None = None
    after_first_bad: float | None = None
    """Seconds from the candidate's first bad answer, by the gateway's clock, to its being taken back for bad ones."""
