"""The demo's and tests' regions against the types and the chart that have to understand them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hack.models.engine_flags import ENGINE_ARGS
from hack.stack import engines, region
from hack.stack.region import RegionPlan, three_tiers
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.engineargs import OWN_FLAGS, OWN_VARIABLES
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.npcregion import NPCRegionSpec

CHART = Path(__file__).resolve().parents[3] / "charts" / "npc-region"
DIGEST = f"sha256:{'a' * 64}"
VOICES = {"vampire": ("s3://npc/adapters/vampire-v1", DIGEST), "zombie": ("s3://npc/adapters/zombie-v1", DIGEST)}
PLANS = {"vllm": engines.vllm_plan("localhost/engine:1"), "fake": engines.fake_plan("localhost/fleet:1", "--fake-x")}


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> RegionPlan:
    return three_tiers("eu-west", PLANS[request.param], model_uri="s3://npc/base", voices=VOICES)


def test_every_object_is_one_the_api_types_accept(plan: RegionPlan) -> None:
    for spec in plan.tiers.values():
        GpuTierSpec.model_validate(spec)
    for spec in plan.adapters.values():
        ArchetypeAdapterSpec.model_validate(spec)
    NPCRegionSpec.model_validate(plan.spec)


def test_the_charts_own_schema_accepts_the_values(plan: RegionPlan) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(over(defaults, plan.values()), schema)


def over(defaults: Any, given: Any) -> Any:
    """Values over the chart's own, as Helm lays them: maps are merged, everything else is replaced."""
    if not isinstance(defaults, dict) or not isinstance(given, dict):
        return given
    return {**defaults, **{key: over(defaults.get(key), value) for key, value in given.items()}}


def test_gold_and_silver_are_on_demand_and_bronze_is_on_spot(plan: RegionPlan) -> None:
    bases = {name: spec["capacity"]["onDemandBase"] for name, spec in plan.tiers.items()}
    assert bases == {"gold": 1, "silver": 1, "bronze": 0}


def test_every_voice_speaks_on_every_tier(plan: RegionPlan) -> None:
    for spec in plan.adapters.values():
        assert [variant["tier"] for variant in spec["variants"]] == list(plan.tiers)


def test_a_voice_moves_at_once_unless_it_is_told_otherwise() -> None:
    steps = {"strategy": "Canary", "steps": [50, 100]}
    assert region.adapter("vampire", {"gold": VOICES["vampire"]})["rollout"] == {"strategy": "Immediate"}
    assert region.adapter("vampire", {"gold": VOICES["vampire"]}, rollout=steps)["rollout"] == steps


def test_a_release_holds_all_objects_of_its_namespace(plan: RegionPlan) -> None:
    made = [(entry["kind"], entry["metadata"]["name"]) for entry in plan.manifests()]
    assert made == [
        ("GpuTier", "gold"),
        ("GpuTier", "silver"),
        ("GpuTier", "bronze"),
        ("ArchetypeAdapter", "vampire"),
        ("ArchetypeAdapter", "zombie"),
        ("NPCRegion", "eu-west"),
    ]
    assert {entry["metadata"]["namespace"] for entry in plan.manifests()} == {"eu-west"}


def test_a_real_engine_gets_every_flag_of_the_lone_one_but_those_the_operator_sets() -> None:
    vllm = PLANS["vllm"]
    left_out = set(ENGINE_ARGS) - set(vllm.args)
    assert {argument.split("=")[0] for argument in left_out} == {"--dtype"}
    assert not [argument for argument in vllm.args if argument.split("=")[0] in OWN_FLAGS]
    assert not set(vllm.env) & set(OWN_VARIABLES)


def test_reference_and_fleet_compute_in_the_same_precision() -> None:
    plan = three_tiers("eu-west", PLANS["vllm"], model_uri="s3://npc/base", voices=VOICES)
    assert "--dtype=float32" in ENGINE_ARGS
    assert {spec["engine"]["dtype"] for spec in plan.tiers.values()} == {"float32"}


def test_only_a_region_with_a_real_vllm_needs_its_packages() -> None:
    uses = {
        name: three_tiers("eu-west", plan, model_uri="s3://npc/base", voices=VOICES).uses_vllm
        for name, plan in PLANS.items()
    }
    assert uses == {"vllm": True, "fake": False}


def test_a_claim_and_its_volume_name_each_other_and_can_only_be_read() -> None:
    volume, claim = region.volume("eu-west", host_path="/cache/vllm")
    assert volume["spec"]["claimRef"] == {"namespace": "eu-west", "name": claim["metadata"]["name"]}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == region.volume_name("eu-west")
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_a_namespace_is_under_pod_security_restricted() -> None:
    labels = region.namespace("eu-west")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
