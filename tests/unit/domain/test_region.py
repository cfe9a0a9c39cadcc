"""Who holds a namespace, whom it speaks for, and what a region's status says."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api.npcregion import Npcs
from npc_operator.domain import reasons
from npc_operator.domain.conditions import condition
from npc_operator.domain.facts import IssuerFact, SecretFact
from npc_operator.domain.region import (
    RegionFacts,
    build_region_status,
    describe_quarantine,
    find_quarantined,
    pick_active_region,
    pick_holder,
    population_note,
    population_of,
    selects,
    tier_population,
)
from tests.support.builders import NAMESPACE, adapter_fact, digest, region_fact, tier_fact

READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "x"}]}


@pytest.mark.parametrize(
    ("npcs", "expected"),
    [
        ({"min": 80, "max": 200}, 200),
        ({"min": 80, "max": 200, "current": 120}, 120),
        ({"min": 80, "max": 200, "current": 10}, 80),
        ({"min": 80, "max": 200, "current": 900}, 200),
        ({"min": 0, "max": 0}, 0),
    ],
)
def test_the_population_of_a_tier(npcs: dict[str, int], expected: int) -> None:
    assert population_of(Npcs.model_validate(npcs)) == expected
    spec = region_fact(spec={"tiers": [{"tier": "gold", "npcs": npcs}]}).spec
    assert tier_population(spec, "gold") == expected
    assert tier_population(spec, "silver") is None


def test_an_unusual_population_is_a_remark() -> None:
    assert population_note(500) == population_note(1000) == ""
    assert "499" in population_note(499)


def test_the_oldest_region_holds_the_namespace() -> None:
    old = region_fact("z", creationTimestamp="2026-01-01T00:00:00Z")
    young = region_fact("a", creationTimestamp="2026-02-01T00:00:00Z")
    going = region_fact("b", creationTimestamp="2025-01-01T00:00:00Z", deletionTimestamp="2026-03-01T00:00:00Z")
    assert pick_active_region([young, old]) == old
    assert pick_active_region([young, going]) == young
    assert pick_active_region([going]) == going
    assert pick_active_region([]) is None


def test_the_oldest_adapter_speaks_for_an_archetype_and_then_the_first_by_name() -> None:
    one, two = adapter_fact(name="a"), adapter_fact(name="b")
    assert pick_holder([two, one]) == one
    assert pick_holder([]) is None


def test_a_selector_wants_all_its_labels() -> None:
    spec = region_fact(spec={"adapterSelector": {"matchLabels": {"a": "1", "b": "2"}}}).spec
    assert selects(spec, {"a": "1", "b": "2", "c": "3"})
    assert not selects(spec, {"a": "1"})
    assert selects(region_fact().spec, {})


def facts(**change: Any) -> RegionFacts:
    fields: dict[str, Any] = {
        "region": region_fact(tiers={"gold": 600}),
        "holder": "eu-west",
        "tiers": {"gold": tier_fact(status=READY)},
        "archetypes": 3,
        "gateways_ready": 2,
        "endpoint": "http://eu-west-gateway.eu-west.svc",
    }
    return RegionFacts(**{**fields, **change})


def said(change: dict[str, Any]) -> dict[str, tuple[str, str]]:
    status = build_region_status(facts(**change), 0)
    return {one.type: (one.status, one.reason) for one in status.conditions}


def test_a_region_at_rest() -> None:
    status = build_region_status(facts(), 0)
    assert said({}) == {"Ready": ("True", reasons.SERVING)}
    assert (status.population, status.ready_tiers, status.archetypes, status.gateway_ready) == (600, 1, 3, 2)
    assert status.note == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"holder": "older"}, {"Ready": "False", "Stalled": reasons.NAMESPACE_TAKEN}),
        ({"region": region_fact(spec={"suspend": True})}, {"Ready": "True", "Stalled": reasons.SUSPENDED}),
        (
            {"tiers": {"gold": None}},
            {"Ready": "False", "Stalled": reasons.UNKNOWN_TIER},
        ),
        ({"tiers": {"gold": tier_fact()}}, {"Ready": "False", "Reconciling": reasons.TIERS_NOT_READY}),
        ({"gateways_ready": 1}, {"Ready": "False", "Reconciling": reasons.GATEWAY_STARTING}),
        ({"waiting": "keys are made"}, {"Ready": "False", "Reconciling": reasons.PREPARING}),
        ({"errors": ("timeout",)}, {"Ready": "False", "Reconciling": reasons.RETRYING}),
        (
            {"region": region_fact(auth="keys"), "auth_secret": SecretFact(NAMESPACE, "keys", "", {})},
            {"Ready": "True", "Stalled": reasons.SECRET_NOT_FOUND},
        ),
    ],
)
def test_what_a_region_says(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = said(change)
    assert found.pop("Ready")[0] == expected.pop("Ready")
    assert {kind: reason for kind, (_, reason) in found.items()} == expected


def test_the_message_of_a_taken_namespace_names_the_holder() -> None:
    stalled = condition(build_region_status(facts(holder="older"), 0).conditions, "Stalled")
    assert stalled is not None
    assert "NPCRegion older" in stalled.message


def test_an_unknown_issuer_is_said_with_its_reason_and_takes_no_readiness_away() -> None:
    accounts = {"audience": "npc", "allowed": ["game:server"]}
    wanting = region_fact(
        tiers={"gold": 600}, spec={"gateway": {"auth": {"mode": "None", "serviceAccounts": accounts}}}
    )
    status = build_region_status(facts(region=wanting, issuer=IssuerFact(error="get: Forbidden")), 0)
    found = {one.type: one for one in status.conditions}
    assert found["Ready"].status == "True"
    assert found["Reconciling"].reason == reasons.ISSUER_UNKNOWN
    assert "Forbidden" in found["Reconciling"].message
    known = build_region_status(facts(region=wanting, issuer=IssuerFact("https://cluster", "{}")), 0)
    assert [one.type for one in known.conditions] == ["Ready"]


def test_a_quarantine_names_what_is_wanted_served_or_brought_in_and_nothing_else() -> None:
    spec = region_fact(
        spec={"quarantinedDigests": [digest("bad")], "adapterSelector": {"matchLabels": {"a": "1"}}}
    ).spec
    revision = {"digest": digest("bad"), "uri": "s3://x"}
    adapters = [
        adapter_fact("wants", digests={"gold": digest("bad")}, labels={"a": "1"}),
        adapter_fact("serves", status={"variants": [{"tier": "gold", "stable": revision}]}, labels={"a": "1"}),
        adapter_fact("brings", status={"variants": [{"tier": "iron", "candidate": revision}]}, labels={"a": "1"}),
        adapter_fact("clean", labels={"a": "1"}),
        adapter_fact("others", digests={"gold": digest("bad")}),
    ]
    affected = find_quarantined(spec, adapters)
    assert affected == (("brings", "iron"), ("serves", "gold"), ("wants", "gold"))
    said = describe_quarantine(spec, affected)
    assert said is not None
    assert "brings on iron; serves on gold; wants on gold" in said.message
    assert describe_quarantine(region_fact().spec, ()) is None
