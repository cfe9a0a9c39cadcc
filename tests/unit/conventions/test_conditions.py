"""Conditions as everybody else's tools read them: the schema of metav1, `kubectl wait`, and kstatus (Flux, Argo CD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from npc_operator.api.base import ApiModel
from npc_operator.api.crd import crds
from npc_operator.api.meta import Condition
from npc_operator.domain.adapter import build_status
from npc_operator.domain.conditions import Finding, Summary, build_conditions
from npc_operator.domain.desired import wanted_revision
from npc_operator.domain.region import RegionFacts, build_region_status
from npc_operator.domain.replicas import Split
from npc_operator.domain.rollout import RolloutFacts, decide_rollout
from npc_operator.domain.tier import TierFacts, build_tier_status
from tests.support import builders

FINE = Finding("Serving", "all is well")
BUSY = Finding("Loading", "1 of 2")
STUCK = Finding("DigestMismatch", "correct the digest")


def kstatus(conditions: Sequence[Condition], *, generation: int, observed: int) -> str:
    """The rules of kstatus for kinds it does not know, in its order."""
    if observed != generation:
        return "InProgress"
    for one in conditions:
        if one.type == "Reconciling" and one.status == "True":
            return "InProgress"
        if one.type == "Stalled" and one.status == "True":
            return "Failed"
    ready = next((one.status for one in conditions if one.type == "Ready"), "True")
    return "Current" if ready == "True" else "InProgress"


def kubectl_wait(conditions: Sequence[Condition], *, generation: int) -> bool:
    """`kubectl wait --for=condition=Ready`: a condition that speaks of an older generation does not count."""
    return any(
        one.type == "Ready" and one.status == "True" and one.observed_generation >= generation for one in conditions
    )


@pytest.mark.parametrize("crd", crds().values(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_conditions_have_the_shape_of_metav1(crd: dict[str, Any]) -> None:
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    conditions = status["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    fields = conditions["items"]["properties"]
    assert set(fields) == {"type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"}
    assert set(fields["status"]["enum"]) == {"True", "False", "Unknown"}
    assert set(conditions["items"]["required"]) >= {"type", "status", "reason", "lastTransitionTime"}
    assert fields["lastTransitionTime"]["format"] == "date-time"
    assert status["observedGeneration"]["type"] == "integer"


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (Summary(ready=True, why=FINE), "Current"),
        (Summary(ready=False, why=BUSY), "InProgress"),
        (Summary(ready=None, why=BUSY), "InProgress"),
        (Summary(ready=False, why=BUSY, reconciling=BUSY), "InProgress"),
        (Summary(ready=True, why=FINE, reconciling=BUSY), "InProgress"),
        (Summary(ready=True, why=FINE, stalled=STUCK), "Failed"),
        (Summary(ready=False, why=STUCK, stalled=STUCK), "Failed"),
    ],
    ids=["serving", "not yet", "unknown", "starting", "moving", "a bad candidate", "nothing serves"],
)
def test_kstatus_understands_what_is_said(summary: Summary, said: str) -> None:
    conditions = build_conditions(summary, (), generation=3, now=0)
    assert kstatus(conditions, generation=3, observed=3) == said
    assert kstatus(conditions, generation=4, observed=3) == "InProgress"


def test_kubectl_wait_is_not_satisfied_by_what_was_said_of_an_older_spec() -> None:
    conditions = build_conditions(Summary(ready=True, why=FINE), (), generation=3, now=0)
    assert kubectl_wait(conditions, generation=3)
    assert not kubectl_wait(conditions, generation=4)
    waiting = build_conditions(Summary(ready=False, why=BUSY), (), generation=3, now=0)
    assert not kubectl_wait(waiting, generation=3)


def statuses(generation: int) -> dict[str, ApiModel]:
    """One status of each kind, made for an object of this generation."""
    region = builders.region_fact(generation=generation)
    tier = builders.tier_fact(generation=generation)
    adapter = builders.adapter_fact(generation=generation)
    variant = adapter.spec.variants[0]
    rollout = RolloutFacts(
        archetype=adapter.spec.archetype,
        tier=variant.tier,
        wanted=wanted_revision(variant),
        status=None,
        engines=(),
    )
    return {
        "NPCRegion": build_region_status(RegionFacts(region, region.meta.name, {"gold": tier}), 0),
        "GpuTier": build_tier_status(TierFacts(tier, region.meta.name, 1, Split(1, 0), ()), 0),
        "ArchetypeAdapter": build_status(adapter, [decide_rollout(rollout, 0)], 0),
    }


@pytest.mark.parametrize("kind", ["NPCRegion", "GpuTier", "ArchetypeAdapter"])
def test_a_status_says_of_which_generation_it_speaks(kind: str) -> None:
    status = statuses(7)[kind].model_dump(mode="json", by_alias=True, exclude_none=True)
    assert status["observedGeneration"] == 7
    assert {one["observedGeneration"] for one in status["conditions"]} == {7}
    assert "Ready" in {one["type"] for one in status["conditions"]}
