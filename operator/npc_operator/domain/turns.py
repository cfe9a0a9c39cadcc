"""Which rollouts may have traffic: a mistake in a template must not move every voice of a region at once.

A turn belongs to an archetype, whatever tiers it moves on. Who has one keeps it until none of its candidates has
traffic any more; free ones go to the more important archetype, then to the one that waits longest, then by name, so
that whoever looks at the same claims gives out the same turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain.facts import Adapter
from npc_operator.domain.placement import rank_importance


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
    """It has a turn."""
    waits: bool = field(default=False, compare=False)
    """It is ready to have one."""


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
    )


def pick_turns(claims: Iterable[TurnClaim], *, most: int) -> frozenset[str]:
    """Names of the adapters that may have traffic now. Those that have a turn keep it, even if there are more of them
    than `most`: a lowered limit takes nothing back.
    """
    ordered = sorted(claims)
    holding = [claim.name for claim in ordered if claim.holds]
    waiting = [claim.name for claim in ordered if claim.waits and not claim.holds]
    return frozenset((*holding, *waiting[: max(0, most - len(holding))]))
