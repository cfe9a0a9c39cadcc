"""The conventions that every field of the API keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.gen.outputs import ROOT, collect_outputs, find_leftovers
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec, ArchetypeAdapterStatus
from npc_operator.api.base import ApiModel
from npc_operator.api.crd import crds
from npc_operator.api.engineargs import OWN_FLAGS, OWN_VARIABLES
from npc_operator.api.gputier import GpuTierSpec, GpuTierStatus
from npc_operator.api.meta import REGION_NAME_LENGTH, TIER_NAME_LENGTH
from npc_operator.api.names import SLICE_ON_DEMAND, SLICE_SPOT, gateway, slice_deployment
from npc_operator.api.npcregion import NPCRegionSpec, NPCRegionStatus
from npc_runtime import wire
from tests.contract.crd.cases import CASES, IMMUTABLE
from tests.contract.crd.objects import valid

Schema = dict[str, Any]
CRDS = crds()
SPECS: dict[str, type[ApiModel]] = {
    "NPCRegion": NPCRegionSpec,
    "GpuTier": GpuTierSpec,
    "ArchetypeAdapter": ArchetypeAdapterSpec,
}
STATUSES: dict[str, type[ApiModel]] = {
    "NPCRegion": NPCRegionStatus,
    "GpuTier": GpuTierStatus,
    "ArchetypeAdapter": ArchetypeAdapterStatus,
}


def object_schema(crd: Schema) -> Schema:
    schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every node below a schema with its path, list items and map values included."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


NODES = [
    (f"{kind}.{path}", node)
    for kind, schema in ((crd["spec"]["names"]["kind"], object_schema(crd)) for crd in CRDS.values())
    for part in ("spec", "status")
    for path, node in walk(schema["properties"][part], part)
]


def test_every_field_has_a_description_that_is_a_sentence() -> None:
    fields = [(path, node) for path, node in NODES if not path.endswith(("[]", "{}"))]
    assert len(fields) > 150
    for path, node in fields:
        assert re.search(r"[.)]$", node.get("description", "")), path


def test_everything_has_a_bound() -> None:
    """Without bounds a CEL rule is refused for its cost, and one object can be a megabyte."""
    for path, node in NODES:
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "integer" and "enum" not in node and ".status" not in path:
            assert {"minimum", "maximum"} <= set(node), path


def test_there_are_no_floats_and_words_of_choice_are_camel_case() -> None:
    for path, node in NODES:
        assert node.get("type") != "number", path
        for value in node.get("enum", ()):
            if not path.endswith("engine.dtype"):
                assert value == "" or isinstance(value, int) or re.fullmatch(r"[A-Z][A-Za-z]+", value), path


def test_no_defaults_stand_in_a_status_but_that_nobody_has_looked() -> None:
    for path, node in NODES:
        if ".status." in path:
            assert "default" not in node, path
    for crd in CRDS.values():
        assert object_schema(crd)["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_an_object_whose_fields_have_defaults_is_itself_defaulted_unless_it_is_required() -> None:
    for path, node in NODES:
        inner = node.get("properties", {})
        for name, child in inner.items():
            has_defaults = any("default" in grandchild for grandchild in child.get("properties", {}).values())
            may_be_absent = name not in node.get("required", ()) and not child.get("required")
            if has_defaults and may_be_absent and ".status" not in path:
                assert "default" in child, f"{path}.{name}"


def messages(schema: Schema) -> set[str]:
    return {rule["message"] for _, node in walk(schema, "") for rule in node.get("x-kubernetes-validations", ())}


@pytest.mark.parametrize("name", CRDS)
def test_every_rule_has_a_case_on_the_real_api_server(name: str) -> None:
    crd = CRDS[name]
    kind = crd["spec"]["names"]["kind"]
    proven = [case.message for case in CASES if case.kind == kind] + [row[3] for row in IMMUTABLE if row[0] == kind]
    # The server puts its own words in the place of this message when the pattern does not even compile.
    proven.append("must be an RE2 regular expression")
    for message in messages(object_schema(crd)):
        assert any(message.startswith(part) for part in proven), message


def test_every_own_flag_and_variable_has_a_case() -> None:
    names = {case.name.removesuffix(" stays the operator's") for case in CASES}
    assert names >= set(OWN_FLAGS) | set(OWN_VARIABLES)


def test_every_case_can_accept_and_refuse() -> None:
    assert all(case.accept and case.refuse for case in CASES)


@pytest.mark.parametrize("kind", SPECS)
def test_the_smallest_objects_parse_and_unknown_newer_fields_are_ignored(kind: str) -> None:
    spec = valid(kind)["spec"]
    parsed = SPECS[kind].model_validate({**spec, "fieldOfTheFuture": {"a": 1}})
    assert parsed == SPECS[kind].model_validate(spec)
    written = parsed.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert SPECS[kind].model_validate(written) == parsed


@pytest.mark.parametrize("kind", STATUSES)
def test_a_status_that_nobody_wrote_yet_parses(kind: str) -> None:
    status = STATUSES[kind].model_validate({})
    assert status.model_dump(by_alias=True)["observedGeneration"] == -1


def test_the_longest_names_leave_pods_their_hash() -> None:
    hash_and_suffix = "-1234567890-abcde"
    for slice_ in (SLICE_ON_DEMAND, SLICE_SPOT):
        assert len(slice_deployment("t" * TIER_NAME_LENGTH, slice_) + hash_and_suffix) <= 63
    assert len(gateway("r" * REGION_NAME_LENGTH) + hash_and_suffix) <= 63


def test_the_longest_archetype_still_has_a_served_name_that_is_a_dns_label() -> None:
    longest = object_schema(CRDS["archetypeadapters.yaml"])["properties"]["spec"]["properties"]["archetype"][
        "maxLength"
    ]
    assert len(wire.served_name("a" * longest, "sha256:" + "0" * 64)) <= 63


def test_the_engine_port_keeps_away_from_the_agents() -> None:
    port = object_schema(CRDS["gputiers.yaml"])["properties"]["spec"]["properties"]["engine"]["properties"]["port"]
    rule = port["x-kubernetes-validations"][0]["rule"]
    assert str(wire.AGENT_PORT) in rule
    assert str(wire.AGENT_HEALTH_PORT) in rule


def test_only_a_tier_can_be_scaled() -> None:
    scalable = {name for name, crd in CRDS.items() if "scale" in crd["spec"]["versions"][0]["subresources"]}
    assert scalable == {"gputiers.yaml"}


def test_what_is_committed_is_what_would_be_generated() -> None:
    outputs = collect_outputs()
    for path, text in outputs.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)}: run `make generate`"
    assert find_leftovers(outputs) == []


def test_a_leftover_in_a_generated_folder_is_noticed() -> None:
    outputs = dict(collect_outputs())
    gone = ROOT / "crds" / "gputiers.yaml"
    del outputs[gone]
    assert find_leftovers(outputs) == [gone]


def test_committed_crds_are_plain_yaml_without_anchors() -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        text = path.read_text()
        assert yaml.safe_load(text) == CRDS[Path(path).name]
        assert not re.search(r"^\s*\w+: [&*]\w", text, flags=re.MULTILINE)
