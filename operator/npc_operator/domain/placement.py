"""Which adapters a tier's pods hold, when not all of them fit.

Every replica holds the same set; it never exceeds engine.maxCpuLoras, because an engine over its slots evicts adapters
that were proven. What is left out is named, the least important first, so that a person can raise the limit or remove
voices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

IMPORTANCE = {"Critical": 0, "Normal": 1, "Ambient": 2}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one adapter wants on one tier: its stable digest, and a candidate beside it."""

    name: str
    """Of the ArchetypeAdapter."""
    importance: str
    stable: bool
    candidate: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Who does not fit. Both empty is the usual case."""

    left_out: frozenset[str] = field(default_factory=frozenset)
    """Adapters that get no slot at all."""
    held_back: frozenset[str] = field(default_factory=frozenset)
    """Adapters whose stable digest serves, while their candidate waits for a slot."""

    def excludes(self, name: str) -> bool:
        return name in self.left_out


EVERYTHING_FITS = Placement()


def place(claims: Iterable[Claim], *, slots: int, taken: int = 0) -> Placement:
    """Give out `slots` less `taken` (adapters that gateways may still use although nobody wants them any more).

    First one slot for each adapter by importance and name, so that no rollout pushes out a serving voice of its rank;
    then the candidates of those that have a stable digest, in the same order.
    """
    ordered = sorted(claims, key=lambda claim: (IMPORTANCE.get(claim.importance, 1), claim.name))
    free = max(0, slots - taken)
    wanting = [claim for claim in ordered if claim.stable or claim.candidate]
    placed, left_out = wanting[:free], wanting[free:]
    free -= len(placed)
    second = [claim for claim in placed if claim.stable and claim.candidate]
    return Placement(frozenset(claim.name for claim in left_out), frozenset(claim.name for claim in second[free:]))


def describe_left_out(tier: str, names: Sequence[str], slots: int) -> str:
    """What a person reads when adapters do not fit."""
    shown = ", ".join(sorted(names)[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"tier {tier}: {shown}{more} do not fit into engine.maxCpuLoras {slots}; raise it or remove adapters"
