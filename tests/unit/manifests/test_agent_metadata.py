"""Whether the agents of a tier ask their machine's metadata service is part of its pods; which queue is read is not."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api.crd import crds
from npc_operator.manifests.engine_deployment import hash_inputs
from npc_operator.manifests.engine_pod import build_pod_template
from npc_runtime.agent.settings import Settings, parse
from tests.unit.manifests.test_engine_pod import containers, inputs

QUEUE = {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/npc", "region": "eu-west-1"}


def arguments(**interruption: Any) -> list[str]:
    spec = build_pod_template(inputs(spec={"interruption": interruption}))["spec"]
    found: list[str] = containers(spec)["agent"]["args"]
    return found


@pytest.mark.parametrize("cloud", ["AWS", "GCP", "Azure"])
def test_the_agent_is_told_whose_metadata_service_to_ask(cloud: str) -> None:
    parsed = parse(arguments(agentMetadata=cloud))
    assert isinstance(parsed, Settings)
    assert parsed.metadata == cloud
    assert hash_inputs(inputs(spec={"interruption": {"agentMetadata": cloud}})) != hash_inputs(inputs())


@pytest.mark.parametrize("interruption", [{}, {"agentMetadata": "Off"}, {"queue": QUEUE}])
def test_pods_stay_as_they_are_where_nobody_switched_it_on(interruption: dict[str, Any]) -> None:
    assert not any(argument.startswith("--metadata") for argument in arguments(**interruption))
    other = inputs(spec={"interruption": interruption})
    assert build_pod_template(other) == build_pod_template(inputs())
    assert hash_inputs(other) == hash_inputs(inputs())


def test_what_it_costs_is_said_where_it_is_switched_on() -> None:
    """By `kubectl explain` and in the page of the field."""
    spec = crds()["gputiers.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    field = spec["properties"]["interruption"]["properties"]["agentMetadata"]
    assert field["default"] == "Off"
    for word in ("hop limit", "node's role"):
        assert word in field["description"]
