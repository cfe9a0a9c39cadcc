"""Which rollouts may have traffic: a mistake in a template must not move every voice of a region at once.

A turn belongs to an archetype, whatever tiers it moves on. Who has one keeps it until none of its candidates has
traffic any more, and who moved all its traffic at once for as long as one of its steps lasts: that is the time in which
a person can see what it did. Free ones go to the more important archetype, then to the one that waits longest, then by
name, so that whoever looks at the same claims gives out the same turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from npc_operator.api.archetypeadapter import RolloutStatus, VariantStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import parse_rfc3339, rfc3339
from npc_operator.domain.facts import Adapter
from npc_operator.domain.placement import rank_importance
from npc_operator.domain.rollout.history import BY_STRATEGY

SKEW_SECONDS = 2.0
"""How far ahead a move may be: two leaders' clocks differ. One further ahead was noted by a clock that was wrong."""


@dataclass(frozen=True, slots=True, order=True)
class TurnClaim:
    """One archetype's claim; in the order in which turns are given."""

    importance: int
    """Lower is more important."""
    since: str
    """When its oldest candidate was first seen (RFC 3339)."""
    name: str
    """Of the ArchetypeAdapter."""
    holds: bool = field(default=False, compare=False)
    """A candidate of it has traffic, or is about to."""
    waits: bool = field(default=False, compare=False)
    """It is ready to have a turn."""
    began: str = field(default="", compare=False)
    """When players first heard a candidate of it (RFC 3339); empty while none does."""
    moved: float | None = field(default=None, compare=False)
    """When it last moved all its traffic at once (Unix seconds)."""
    rest: float = field(default=0.0, compare=False)
    """For how many seconds it keeps its turn after that."""

    def resting(self, now: float) -> float:
        """For how many seconds from now (Unix) it keeps the turn in which it moved at once."""
        if self.moved is None or self.moved > now + SKEW_SECONDS:
            return 0.0
        return max(0.0, self.moved + self.rest - now)

    def has_turn(self, now: float) -> bool:
        """Whether it has a turn now (Unix seconds)."""
        return self.holds or self.resting(now) > 0

    def describe(self) -> str:
        """Who has a turn, and since when."""
        if self.holds:
            return f"{self.name} (since {self.began})" if self.began else f"{self.name} (about to begin)"
        return f"{self.name} (moved at once at {rfc3339(self.moved or 0.0)}, for {self.rest:.0f} s)"


def holds_turn(rollout: RolloutStatus | None) -> bool:
    """Whether a candidate has traffic, or is so close to it that its turn must not be given away."""
    return rollout is not None and (bool(rollout.since) or rollout.phase in ("Gating", "Checking"))


def claim_turn(adapter: Adapter) -> TurnClaim:
    """What an adapter's published status claims."""
    variants = adapter.status.variants
    return TurnClaim(
        importance=rank_importance(adapter.spec.importance),
        since=min((status.candidate_since for status in variants if status.candidate_since), default=""),
        name=adapter.meta.name,
        holds=any(holds_turn(status.rollout) for status in variants),
        waits=any(status.rollout is not None and status.rollout.phase == "Waiting" for status in variants),
        began=min(filter(None, map(_find_beginning, variants)), default=""),
        moved=max((at for status in variants if (at := _find_move(status)) is not None), default=None),
        rest=float(adapter.spec.rollout.step_seconds),
    )


def _find_beginning(status: VariantStatus) -> str:
    """When the first step of the present candidate was taken."""
    if status.candidate is None or status.rollout is None or not status.rollout.since:
        return ""
    first = (
        entry.time
        for entry in status.history
        if entry.reason == reasons.STEPPED and entry.digest == status.candidate.digest and entry.from_percent == 0
    )
    return next(first, status.rollout.since)


def _find_move(status: VariantStatus) -> float | None:
    """When all traffic last moved to another digest at once."""
    moves = (entry for entry in status.history if entry.reason == reasons.MOVED)
    newest = next(moves, None)
    return None if newest is None or newest.by != BY_STRATEGY else parse_rfc3339(newest.time)


def pick_turns(claims: Iterable[TurnClaim], *, most: int, now: float) -> frozenset[str]:
    """Names of the adapters that may have traffic now (Unix seconds). Those that have a turn keep it, even if there are
    more of them than `most`: a lowered limit takes nothing back.
    """
    ordered = sorted(claims)
    holding = [claim.name for claim in ordered if claim.has_turn(now)]
    waiting = [claim.name for claim in ordered if claim.waits and not claim.has_turn(now)]
    return frozenset((*holding, *waiting[: max(0, most - len(holding))]))
