"""Where one request goes: tier, then target, then pod. Pure functions over the compiled table and the pods' load."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from npc_runtime.gateway.errors import (
    Fault,
    Refused,
    archetype_not_on_tier,
    no_resident,
    unknown_archetype,
    unknown_tier,
)
from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.table import Alias, CompiledTable, Share, Target


class Loaded(Protocol):
    """A pod as far as picking cares."""

    @property
    def in_flight(self) -> int:
        """Requests this gateway has running on the pod."""
        ...

    @property
    def ejected_until(self) -> float:
        """Loop time until which the pod is avoided, after a failed connect."""
        ...


P = TypeVar("P", bound=Loaded)


def choose_tier(table: CompiledTable, *, wanted: bytes | None, npc: bytes | None) -> str:
    """The tier that answers: the one asked for, else the longest assigned prefix of the NPC id, else the region's
    default.

    Raises:
        Refused: the tier asked for does not exist (404).

    """
    if wanted is not None:
        tier = wanted.decode("latin-1")
        if tier not in table.tiers:
            raise Refused(unknown_tier(tier))
        return tier
    if npc is not None:
        for length in table.prefix_lengths:
            assigned = table.assignments.get(npc[:length])
            if assigned is not None:
                return assigned
    return table.default_tier


def nothing_answers(table: CompiledTable, *, archetype: str, tier: str) -> Fault:
    """What a caller is told who asks for an archetype that has nothing to be answered with on a tier: it is unknown, or
    has no voice there (404), or one that may not be used now (503)."""
    if any(alias.archetype == archetype and alias.tier == tier for alias in table.source.aliases):
        return no_resident(archetype, tier)
    return archetype_not_on_tier(archetype, tier) if archetype in table.archetypes else unknown_archetype(archetype)


def choose_target(alias: Alias, npc: bytes | None) -> Target:
    """The digest that answers this NPC. A request without NPC id gets the stable one, so that a voice never changes
    from line to line."""
    share = alias.share
    if npc is None or share is None or alias.candidate is None:
        return alias.stable
    wants = pinned(share, npc)
    if wants is None:
        wants = bucket(alias.archetype_bytes, npc) < share.below
    return alias.candidate if wants else alias.stable


def pinned(share: Share, npc: bytes) -> bool | None:
    """Whether an NPC is pinned to the candidate (True) or to the stable digest (False), by its id or else by the
    longest prefix of it; None: its bucket decides."""
    if share.pinned:
        by_id = share.pinned.get(npc)
        if by_id is not None:
            return by_id
    for length in share.prefix_lengths:
        by_prefix = share.pinned_prefixes.get(npc[:length])
        if by_prefix is not None:
            return by_prefix
    return None


def pick_endpoint(usable: Sequence[P], *, tried: Collection[object], turn: int, now: float) -> P | None:
    """The pod with the fewest requests in flight among those not tried yet; equals take turns, suspects come last.

    `turn` is any growing number, `now` is loop time. None when every pod was tried or there is none.
    """
    count = len(usable)
    best: P | None = None
    best_load = 0
    best_suspect: P | None = None
    for step in range(count):
        endpoint = usable[(turn + step) % count]
        if tried and endpoint in tried:
            continue
        load = endpoint.in_flight
        if endpoint.ejected_until > now:
            if best_suspect is None or load < best_suspect.in_flight:
                best_suspect = endpoint
        elif best is None or load < best_load:
            best, best_load = endpoint, load
            if load == 0:
                break
    return best if best is not None else best_suspect
