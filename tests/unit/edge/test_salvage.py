"""What is made out of an object that cannot be read as it is."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.edge.salvage import salvage

DIGEST = f"sha256:{'a' * 64}"


def variant(tier: str = "gold", **more: Any) -> dict[str, Any]:
    return {"tier": tier, "source": {"uri": "s3://bucket/vampire", "digest": DIGEST}, **more}


def spec(**more: Any) -> dict[str, Any]:
    return {"archetype": "vampire", "variants": [variant()], **more}


def test_what_can_be_read_is_read_as_it_is() -> None:
    assert salvage(ArchetypeAdapterSpec, spec()) == ArchetypeAdapterSpec.model_validate(spec())


@pytest.mark.parametrize(
    "wrong",
    [
        {"importance": "Legendary"},
        {"rollout": {"strategy": "Canary", "loadTimeoutSeconds": "soon"}},
        {"probe": "sing"},
        {"variants": [variant(), {"tier": "silver"}]},
        {"variants": [variant(), "what", variant("silver", source={"uri": 7})]},
    ],
)
def test_only_what_is_wrong_is_left_out(wrong: dict[str, Any]) -> None:
    data = spec(**wrong)
    found = salvage(ArchetypeAdapterSpec, data)
    assert found is not None
    assert (found.archetype, found.importance) == ("vampire", "Normal")
    assert [one.tier for one in found.variants] == ["gold"]
    assert data == spec(**wrong), "the object itself is left alone"


def test_an_object_without_what_it_is_about_is_given_up() -> None:
    assert salvage(ArchetypeAdapterSpec, {}) is None
    assert salvage(ArchetypeAdapterSpec, {"archetype": "vampire", "variants": []}) is None
