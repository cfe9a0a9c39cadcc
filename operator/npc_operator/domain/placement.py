"""Which adapters a tier's pods hold, when not all of them fit.

Every replica holds the same set; it never exceeds engine.maxCpuLoras, because an engine over its slots evicts adapters
that were proven. What is left out is named, the least important first, so that a person can raise the limit or remove
voices.

A serving voice is displaced only by a more important one (or where the slots themselves became fewer), the last of the
least important first. It says so in its conditions and leaves the routes at once; it leaves the pods when no gateway
can use it any more, and only then has the newcomer its slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from npc_runtime.wire import IMPORTANCE_ORDER


def rank_importance(importance: str) -> int:
    """The lower, the earlier it gets a slot."""
    return IMPORTANCE_ORDER[importance]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one adapter wants on one tier: its stable digest, and a candidate beside it."""

    name: str
    """Of the ArchetypeAdapter."""
    importance: str
    stable: bool
    candidate: bool
    moving: bool = False
    """The candidate has traffic: others that wait for a slot come after it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Who does not fit. Both empty is the usual case."""

    left_out: frozenset[str] = field(default_factory=frozenset)
    """Adapters that get no slot at all."""
    held_back: frozenset[str] = field(default_factory=frozenset)
    """Adapters whose stable digest serves, while their candidate waits for a slot."""
    full: bool = False
    """Whether there is no slot for any swap, so that who is held back waits for a person and not for others."""
    where: Mapping[str, frozenset[str]] | None = None
    """Pods by adapter; None: every pod holds everything."""

    def excludes(self, name: str) -> bool:
        return name in self.left_out

    def holds(self, name: str, pod: str) -> bool:
        """Whether an adapter belongs on a pod. Of one that is left out this says nothing."""
        return self.where is None or name not in self.where or pod in self.where[name]


EVERYTHING_FITS = Placement()


def place(claims: Iterable[Claim], *, slots: int, taken: int = 0) -> Placement:
    """Give out `slots`, of which `taken` have adapters that gateways may still use although nobody wants them any more.

    First one slot for each adapter by importance, and within a rank to those that serve before those that do not yet;
    then the candidates of those that have a stable digest, those with traffic first, and then in the same order. What
    is taken costs only newcomers and candidates: a voice that serves gives its slot to a more important one and to
    nobody else, and a voice that would not speak at all comes before a rollout that can begin again.
    """
    ordered = sorted(claims, key=lambda claim: (rank_importance(claim.importance), not claim.stable, claim.name))
    wanting = [claim for claim in ordered if claim.stable or claim.candidate]
    placed, left_out = wanting[:slots], wanting[slots:]
    serving = [claim for claim in placed if claim.stable]
    newcomers = [claim for claim in placed if not claim.stable]
    free = max(0, slots - taken - len(serving))
    second = sorted((claim for claim in serving if claim.candidate), key=lambda claim: not claim.moving)
    return Placement(
        left_out=frozenset(claim.name for claim in (*left_out, *newcomers[free:])),
        held_back=frozenset(claim.name for claim in second[max(0, free - len(newcomers)) :]),
        full=len(wanting) >= slots,
    )


def describe_displaced(tier: str, name: str, slots: int) -> str:
    """What a person reads of a voice that served and has no slot any more."""
    return (
        f"tier {tier}: {name} is taken off the routes, then off the pods: engine.maxCpuLoras {slots} is used up by "
        "voices that are more important or come before it; raise it or remove adapters"
    )


def describe_held_back(tier: str, name: str, slots: int) -> str:
    """What a person reads while a swap waits for others to end."""
    return (
        f"tier {tier}: the new digest of {name} waits for one of engine.maxCpuLoras {slots} slots that other swaps "
        "still use; the stable digest serves on"
    )


def describe_left_out(tier: str, names: Sequence[str], slots: int) -> str:
    """What a person reads when adapters do not fit."""
    shown = ", ".join(sorted(names)[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"tier {tier}: {shown}{more} do not fit into engine.maxCpuLoras {slots}; raise it or remove adapters"
