"""Chains of tiers: which links hold, and what is said of the others."""

from __future__ import annotations

import pytest

from npc_operator.domain import reasons
from npc_operator.domain.fallbacks import find_fallback_fault, pick_fallbacks

CHAIN = {"gold": "silver", "silver": "bronze", "bronze": ""}
ALL = frozenset(CHAIN)


def fault(tier: str, links: dict[str, str], named: frozenset[str] = ALL) -> str:
    found = find_fallback_fault(tier, links, region="eu-west", named=named)
    return "" if found is None else f"{found.reason}: {found.message}"


def test_a_chain_that_ends_holds_as_a_whole() -> None:
    assert pick_fallbacks(CHAIN, named=ALL) == {"gold": "silver", "silver": "bronze"}
    assert [fault(tier, CHAIN) for tier in CHAIN] == ["", "", ""]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiers_in_a_circle_fall_back_to_nothing_and_whoever_leads_into_it_still_to_its_own(size: int) -> None:
    ring = ["silver", "bronze", "iron"][:size]
    links = {"gold": "silver", **{tier: ring[(at + 1) % size] for at, tier in enumerate(ring)}}
    named = frozenset(links)
    assert pick_fallbacks(links, named=named) == {"gold": "silver"}
    assert fault("gold", links, named) == ""
    for tier in ring:
        assert fault(tier, links, named).startswith(reasons.FALLBACK_CYCLE)
        assert f"{tier} -> " in fault(tier, links, named)


def test_a_link_to_what_is_not_there_is_cut_and_told() -> None:
    links = {"gold": "silber", "bronze": ""}
    assert pick_fallbacks(links, named=frozenset(("gold", "silber"))) == {}
    assert fault("gold", links) == (
        f"{reasons.FALLBACK_UNKNOWN}: there is no GpuTier silber in this namespace; create it or correct"
        " spec.fallbackTier"
    )


def test_a_link_to_a_tier_of_nobody_is_cut_and_told_by_the_tier_that_somebody_asks() -> None:
    named = frozenset(("gold", "bronze"))
    assert pick_fallbacks(CHAIN, named=named) == {}
    assert "NPCRegion eu-west does not name tier silver" in fault("gold", CHAIN, named)
    assert fault("silver", CHAIN, named) == "", "nobody asks silver"
