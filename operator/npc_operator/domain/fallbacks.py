"""Which tier speaks where another cannot: the chains that specs make, without those that lead nowhere or in a circle.

A wrong link is cut out of the routes and told at the tier that has it; the rest of the chain goes on working.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding


def find_fallback_fault(tier: str, links: Mapping[str, str], *, region: str, named: Set[str]) -> Finding | None:
    """What is wrong with a tier's own link. `links`: fallback (empty for none) of every tier of the namespace; `named`:
    the tiers that the region (empty: there is none) names.
    """
    target = links.get(tier, "")
    if not target:
        return None
    if target not in links:
        message = f"there is no GpuTier {target} in this namespace; create it or correct spec.fallbackTier"
        return Finding(reasons.FALLBACK_UNKNOWN, message)
    circle = _circle(tier, links)
    if circle:
        message = f"spec.fallbackTier leads in a circle: {' -> '.join(circle)}; none of them falls back until it ends"
        return Finding(reasons.FALLBACK_CYCLE, message)
    if region and tier in named and target not in named:
        message = f"NPCRegion {region} does not name tier {target}, so nothing falls back to it; add it to spec.tiers"
        return Finding(reasons.FALLBACK_UNKNOWN, message)
    return None


def pick_fallbacks(links: Mapping[str, str], *, named: Set[str]) -> dict[str, str]:
    """The links that hold. `links` has every tier that there is, `named` are those of the region."""
    return {
        tier: target
        for tier, target in links.items()
        if {tier, target} <= named and target in links and not _circle(tier, links)
    }


def _circle(tier: str, links: Mapping[str, str]) -> tuple[str, ...]:
    """The way from a tier back to itself; empty if there is none."""
    way = [tier]
    while (following := links.get(way[-1], "")) and following not in way:
        way.append(following)
    return (*way, tier) if following == tier else ()
