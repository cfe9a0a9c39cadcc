"""What keeps a variant from being served, and how a voice sums up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.api.archetypeadapter import Revision, VariantStatus
from npc_operator.domain import reasons
from npc_operator.domain.adapter import RULES, Check, VariantFacts, build_status, check_variant, summarize
from npc_operator.domain.conditions import Finding, condition
from npc_operator.domain.facts import SecretFact
from npc_operator.domain.rollout import Decision
from tests.support.builders import NAMESPACE, adapter_fact, digest, region_fact, tier_fact

ADAPTER = adapter_fact("vampire", secret="bucket", labels={"game": "castle"})
SERVED = VariantFacts(
    adapter=ADAPTER,
    variant=ADAPTER.spec.variants[0],
    holder="vampire",
    region=region_fact(),
    tier=tier_fact(),
    secret=SecretFact(NAMESPACE, "bucket", "7", {"AWS_ACCESS_KEY_ID": "x"}),
)


def test_a_variant_without_faults_is_served() -> None:
    assert check_variant(SERVED) == Check()
    assert all(rule(SERVED) is None for rule in RULES)


@pytest.mark.parametrize(
    ("change", "reason", "absent"),
    [
        ({"holder": "older"}, reasons.ARCHETYPE_TAKEN, True),
        ({"tier": None}, reasons.UNKNOWN_TIER, True),
        ({"region": None}, reasons.NO_REGION, True),
        ({"region": region_fact(tiers={"silver": 1})}, reasons.NO_REGION, True),
        ({"region": region_fact(spec={"adapterSelector": {"matchLabels": {"game": "sea"}}})}, reasons.NO_REGION, True),
        ({"tier": tier_fact(engine={"maxLoraRank": 1})}, reasons.RANK_ABOVE_TIER, False),
        ({"secret": SecretFact(NAMESPACE, "bucket", "", {})}, reasons.SECRET_NOT_FOUND, False),
    ],
)
def test_each_fault_is_named_and_says_what_to_do(change: dict[str, Any], reason: str, absent: bool) -> None:
    check = check_variant(replace(SERVED, **change))
    found = check.absent if absent else check.barred
    assert found is not None
    assert found.reason == reason
    assert len(found.message) > 15
    assert check.usable() is not absent


def test_a_secret_that_was_not_read_yet_is_no_fault_and_begins_nothing() -> None:
    check = check_variant(replace(SERVED, secret=None))
    assert (check.barred, check.absent) == (None, None)
    assert check.unread is not None
    assert check.unread.reason == reasons.PREPARING
    assert not check.may_load()


def test_a_matching_selector_is_no_fault() -> None:
    region = region_fact(spec={"adapterSelector": {"matchLabels": {"game": "castle"}}})
    assert check_variant(replace(SERVED, region=region)) == Check()


def decision(tier: str, ready: bool | None, stable: str = "", **more: Any) -> Decision:
    revision = Revision(digest=digest(stable), uri="s3://x") if stable else None
    status = VariantStatus(tier=tier, stable=revision)
    return Decision(status, ready, Finding("Because", f"{tier} because"), **more)


def test_a_voice_is_ready_when_all_its_variants_are() -> None:
    assert summarize([decision("gold", True), decision("silver", True)], deleting=False).ready is True
    assert summarize([decision("gold", True), decision("silver", False)], deleting=False).ready is False
    assert summarize([decision("gold", True), decision("silver", None)], deleting=False).ready is None
    assert summarize([decision("gold", None), decision("silver", False)], deleting=False).ready is False


def test_stalled_and_reconciling_gather_all_variants() -> None:
    stuck = Finding("DigestMismatch", "pod a")
    moving = Finding("Loading", "1 of 2")
    summary = summarize(
        [decision("gold", True, stalled=stuck), decision("silver", True, reconciling=moving)], deleting=False
    )
    assert summary.stalled == stuck
    assert summary.reconciling == moving


def test_the_status_of_a_voice() -> None:
    adapter = adapter_fact("vampire", generation=4)
    status = build_status(adapter, [decision("gold", True, "a"), decision("silver", False, "a")], 0)
    assert (status.observed_generation, status.ready_variants, status.digest) == (4, "1/2", digest("a")[7:19])
    ready = condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.observed_generation == 4
    mixed = build_status(adapter, [decision("gold", True, "a"), decision("silver", True, "b")], 0)
    assert mixed.digest == "mixed"
    assert build_status(adapter, [decision("gold", False)], 0).digest == ""


def test_an_object_that_goes_says_so() -> None:
    assert summarize([decision("gold", True)], deleting=True).reconciling == Finding(
        reasons.TERMINATING, "the object is being deleted"
    )
