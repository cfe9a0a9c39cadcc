"""What can be said of the charts without Helm: values and schemas agree, and rights are few and from one table."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hack.gen.charts import operator_rights, region_rights, values_schema
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.base import ApiModel
from npc_operator.api.capacity import Capacity
from npc_operator.api.crd import crds
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.rights import RIGHTS, Scope
from npc_operator.settings import DEFAULT_ENGINE_IMAGE, build_parser

ROOT = Path(__file__).resolve().parents[3]
CHARTS = ("npc-crds", "npc-operator", "npc-region")
SPECS: dict[str, type[ApiModel]] = {
    "NPCRegion": NPCRegionSpec,
    "GpuTier": GpuTierSpec,
    "ArchetypeAdapter": ArchetypeAdapterSpec,
}


def values(chart: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "charts" / chart / "values.yaml").read_text())
    return loaded


def schema(chart: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    return loaded


def template(chart: str, name: str) -> str:
    return (ROOT / "charts" / chart / "templates" / name).read_text()


@pytest.mark.parametrize("chart", CHARTS)
def test_the_charts_own_values_satisfy_their_schema(chart: str) -> None:
    jsonschema.Draft7Validator.check_schema(schema(chart))
    jsonschema.Draft7Validator(schema(chart)).validate(values(chart))


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_has_a_place_in_the_schema_and_every_place_of_the_schema_has_a_value(chart: str) -> None:
    assert set(schema(chart)["properties"]) - {"global"} == set(values(chart))
    assert schema(chart)["additionalProperties"] is False


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_is_explained_beside_it(chart: str) -> None:
    text = (ROOT / "charts" / chart / "values.yaml").read_text()
    assert text.startswith("# ")
    assert len(re.findall(r"^\s*# ", text, flags=re.MULTILINE)) >= len(values(chart)) // 2


@pytest.mark.parametrize("chart", CHARTS)
def test_charts_carry_the_version_of_the_project(chart: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
    assert metadata["apiVersion"] == "v2"
    assert metadata["version"] == metadata["appVersion"] == project["version"]


def open_objects(node: object, path: str = "") -> list[str]:
    """Objects of a schema that say their properties but take others too."""
    if isinstance(node, Mapping):
        here = (
            [path]
            if node.get("type") == "object" and "properties" in node and "additionalProperties" not in node
            else []
        )
        return here + [found for key, value in node.items() for found in open_objects(value, f"{path}/{key}")]
    if isinstance(node, list):
        return [found for index, value in enumerate(node) for found in open_objects(value, f"{path}/{index}")]
    return []


@pytest.mark.parametrize("chart", CHARTS)
def test_a_misspelt_value_has_no_place_to_hide(chart: str) -> None:
    assert open_objects(schema(chart)) == []


def test_the_default_engine_is_the_official_image_that_the_operator_knows() -> None:
    assert values("npc-operator")["engineImage"] == DEFAULT_ENGINE_IMAGE


def test_the_deployment_uses_only_flags_that_the_operator_has() -> None:
    known = {option for action in build_parser()._actions for option in action.option_strings}
    used = set()
    for name in ("deployment.yaml", "_helpers.tpl"):
        used |= set(re.findall(r"^\s*- (--[a-z-]+)=", template("npc-operator", name), flags=re.MULTILINE))
    assert used >= {"--fleet-image", "--engine-image", "--namespace", "--lease-name", "--metrics-port"}
    assert used <= known


def test_every_right_is_on_one_resource_and_one_group_by_name() -> None:
    for right in RIGHTS:
        words = (right.group, right.resource, *right.verbs)
        assert "*" not in "".join(words), right
        assert right.why
        assert right.verbs
    assert len({(right.scope, right.group, right.resource) for right in RIGHTS}) == len(RIGHTS)


def test_secrets_are_a_right_of_regions_only() -> None:
    assert {right.scope for right in RIGHTS if right.resource.startswith("secrets")} == {Scope.REGION}
    assert "secrets" not in operator_rights()
    assert "secrets" in region_rights()


def test_rules_of_roles_come_from_the_table_alone() -> None:
    for chart in ("npc-operator", "npc-region"):
        text = template(chart, "rbac.yaml")
        assert "rules:" in text
        assert "verbs:" not in text
        assert re.findall(r"^rules:\n(?!  \{\{- include \"npc-)", text, flags=re.MULTILINE) == []


def test_the_default_populations_are_those_of_the_design() -> None:
    populations = {item["tier"]: item["npcs"] for item in values("npc-region")["region"]["tiers"]}
    assert populations == {
        "gold": {"min": 80, "max": 200},
        "silver": {"min": 200, "max": 400},
        "bronze": {"min": 300, "max": 600},
    }


def test_the_specs_in_the_region_charts_values_are_specs_of_our_kinds() -> None:
    chart = values("npc-region")
    NPCRegionSpec.model_validate(chart["region"])
    for tier in chart["tiers"].values():
        assert GpuTierSpec.model_validate(tier).quality in ("Gold", "Silver", "Bronze")


def test_where_a_tier_cannot_speak_the_next_one_does_by_default() -> None:
    tiers = values("npc-region")["tiers"]
    chain = {name: GpuTierSpec.model_validate(tier).fallback_tier or "" for name, tier in tiers.items()}
    assert chain == {"gold": "silver", "silver": "bronze", "bronze": ""}


def test_what_the_tool_writes_into_regions_is_in_no_default() -> None:
    assert not {"quarantinedDigests", "rolloutLimits", "suspend"} & set(values("npc-region")["region"])


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ({"tiers": {"gold": {"quality": "Golden", "model": {"uri": "s3://a", "parametersMillions": 1}}}}, "'Golden'"),
        ({"tiers": {"gold": {"quality": "Gold"}}}, "'model' is a required property"),
        ({"tiers": {"gold.2": {"quality": "Gold", "model": {"uri": "s3://a", "parametersMillions": 1}}}}, "gold.2"),
        ({"adapters": {"zombie": {"variants": [{"tier": "gold", "source": {"uri": "s3://a"}}]}}}, "'digest'"),
        ({"region": {"tiers": [], "defaultTier": "gold"}}, r"\[\] should be non-empty"),
        ({"region": {"tiers": [{"tier": "a", "npcs": {"min": 1, "max": 2}}], "defaultTeir": "a"}}, "defaultTeir"),
    ],
)
def test_the_region_charts_schema_knows_our_kinds(broken: dict[str, Any], where: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=where):
        jsonschema.Draft7Validator(schema("npc-region")).validate({**values("npc-region"), **broken})


def test_quantities_in_values_may_be_numbers_or_text() -> None:
    tier = values_schema(
        crds()["gputiers.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    )
    limits = tier["properties"]["engine"]["properties"]["resources"]["properties"]["limits"]
    check = jsonschema.Draft7Validator(limits)
    check.validate({"cpu": 4, "memory": "24Gi"})
    assert not check.is_valid({"memory": "lots"})
    assert not check.is_valid({"memory": 1.5})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_what_it_says(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text())
    if path.name == "region-values.yaml":
        chart = values("npc-region")
        for name, tier in loaded["tiers"].items():
            GpuTierSpec.model_validate({**chart["tiers"][name], **tier})
        for name, adapter in loaded["adapters"].items():
            ArchetypeAdapterSpec.model_validate({"archetype": name, **adapter})
        return
    spec = SPECS[loaded["kind"]]
    parsed = spec.model_validate(loaded["spec"])
    assert loaded["metadata"]["name"]
    # Nothing in the example is unknown: what was parsed holds every field that was written.
    written = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == loaded["spec"]


def test_the_examples_show_what_rollouts_can_be_told() -> None:
    written: set[str] = set()
    for path in (ROOT / "examples").glob("*.yaml"):
        loaded = yaml.safe_load(path.read_text())
        if loaded.get("kind") == "ArchetypeAdapter":
            rollout = loaded["spec"].get("rollout", {})
            written |= {*loaded["spec"], *rollout, *rollout.get("analysis", {})}
    assert written >= {
        *("persona", "answers", "quarantinedDigests", "steps", "stepSeconds", "ceilingPercent", "approvedDigest"),
        *("overrides", "onTooLittleTraffic", "minRequests", "maxErrorPercent", "gate"),
    }


def test_an_example_shows_what_a_tier_on_spot_can_be_told() -> None:
    spec = yaml.safe_load((ROOT / "examples" / "gputier-spot.yaml").read_text())["spec"]
    assert set(spec["capacity"]) == set(Capacity.model_json_schema()["properties"])
    assert set(spec["nodePools"]["provider"]["karpenter"]) >= {"nodeClassRef", "requirements", "taints", "limits"}
    assert {"queue", "agentMetadata"} == set(spec["interruption"])
    assert {"prices", "capacityTypeLabel", "fallbackTier"} <= set(spec)


def test_the_example_of_a_gate_sets_what_the_example_gate_reads() -> None:
    loaded = yaml.safe_load((ROOT / "examples" / "rollout-gate.yaml").read_text())
    program = (ROOT / "examples" / "gate" / "gate.py").read_text()
    for one in loaded["spec"]["rollout"]["analysis"]["gate"]["env"]:
        assert f'environment.get("{one["name"]}"' in program


def test_every_kind_has_an_example() -> None:
    kinds = {yaml.safe_load(path.read_text()).get("kind") for path in (ROOT / "examples").glob("*.yaml")}
    assert kinds >= set(SPECS)
