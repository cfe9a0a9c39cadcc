"""Who owns what a whole namespace shares: every region and tier in it, so that it goes with the last of them."""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain.facts import Region, Tier
from npc_operator.loop.store import Store


def find_owners(store: Store, namespace: str) -> list[tuple[str, ObjectMeta]]:
    """(kind, metadata) of the regions and tiers that are there to stay, in an order that depends on nothing else."""
    holders: list[tuple[str, Region | Tier]] = [
        *((names.KIND_REGION, fact) for fact in store.list(Region, namespace).values()),
        *((names.KIND_TIER, fact) for fact in store.list(Tier, namespace).values()),
    ]
    return sorted(
        ((kind, fact.meta) for kind, fact in holders if fact.meta.deletion_timestamp is None),
        key=lambda owner: (owner[0], owner[1].name),
    )
