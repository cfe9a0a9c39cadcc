"""NodePools and headroom as they are rendered from a tier."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.drift import find_drift
from npc_operator.manifests.headroom import build_capacity_buffer, build_placeholder, pick_headroom_slice
from npc_operator.manifests.node_pool import build_node_pool
from npc_operator.manifests.pod_layout import EngineInputs
from tests.support.builders import NAMESPACE, tier_fact

Manifest = dict[str, Any]
CLASS = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}


def pool(slice_: str = "spot", spec: Manifest | None = None, **karpenter: Any) -> Manifest:
    provider = {"karpenter": {"nodeClassRef": CLASS, **karpenter}}
    fact = tier_fact(spec={**(spec or {}), "nodePools": {"provider": provider}})
    assert fact.spec.node_pools is not None
    assert fact.spec.node_pools.provider.karpenter is not None
    return build_node_pool(fact.meta, fact.spec, fact.spec.node_pools.provider.karpenter, slice_)


def requirements(manifest: Manifest) -> list[tuple[str, str, tuple[str, ...]]]:
    found = manifest["spec"]["template"]["spec"]["requirements"]
    return [(one["key"], one["operator"], tuple(one.get("values", ()))) for one in found]


@pytest.mark.parametrize("slice_", ["spot", "on-demand"])
def test_each_slice_gets_nodes_of_its_own_capacity_type(slice_: str) -> None:
    assert requirements(pool(slice_)) == [("karpenter.sh/capacity-type", "In", (slice_,))]


def test_nothing_owns_a_node_pool_and_its_labels_say_whose_it_is() -> None:
    metadata = pool()["metadata"]
    assert "ownerReferences" not in metadata
    assert "namespace" not in metadata
    assert metadata["labels"][names.LABEL_NAMESPACE] == NAMESPACE
    assert metadata["labels"][names.LABEL_TIER] == "gold"
    assert metadata["labels"][names.LABEL_TIER_UID] == "uid-gputier-gold"
    assert metadata["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY


def test_the_users_words_arrive_and_what_they_left_out_is_left_to_karpenter() -> None:
    manifest = pool(
        requirements=[{"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["g6"], "minValues": 1}],
        taints=[{"key": "npc", "value": "x", "effect": "NoExecute"}, {"key": "nvidia.com/gpu"}],
        limits={"nvidia.com/gpu": 8},
        weight=10,
        expireAfter="Never",
        terminationGracePeriod="5m",
        labels={"team": "voices"},
        disruption={"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "1h30m"},
    )
    spec, node = manifest["spec"], manifest["spec"]["template"]["spec"]
    assert node["nodeClassRef"] == CLASS
    assert node["requirements"][1] == {
        "key": "karpenter.k8s.aws/instance-family",
        "operator": "In",
        "values": ["g6"],
        "minValues": 1,
    }
    assert node["taints"] == [
        {"key": "npc", "value": "x", "effect": "NoExecute"},
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    ]
    assert (node["expireAfter"], node["terminationGracePeriod"]) == ("Never", "5m")
    assert (spec["limits"], spec["weight"]) == ({"nvidia.com/gpu": 8}, 10)
    assert spec["template"]["metadata"]["labels"]["team"] == "voices"
    assert spec["disruption"]["consolidationPolicy"] == "WhenEmptyOrUnderutilized"
    bare = pool()
    assert not {"limits", "weight"} & bare["spec"].keys()
    assert not {"taints", "terminationGracePeriod"} & bare["spec"]["template"]["spec"].keys()


def test_nodes_have_the_labels_that_the_pods_select_by() -> None:
    selector = {"topology.kubernetes.io/zone": "eu-west-1a", "pool": "gpu", "mine": "x"}
    manifest = pool(
        spec={"scheduling": {"nodeSelector": selector}},
        requirements=[{"key": "pool", "operator": "In", "values": ["gpu", "gpu-2"]}],
        labels={"mine": "x"},
    )
    assert requirements(manifest)[1:] == [
        ("pool", "In", ("gpu", "gpu-2")),
        ("topology.kubernetes.io/zone", "In", ("eu-west-1a",)),
    ]


def test_another_capacity_label_is_put_on_the_nodes() -> None:
    label = {"capacityTypeLabel": {"key": "pool", "spotValue": "cheap", "onDemandValue": "safe"}}
    for slice_, value in (("spot", "cheap"), ("on-demand", "safe")):
        assert pool(slice_, spec=label)["spec"]["template"]["metadata"]["labels"]["pool"] == value
    loose = {"capacityTypeLabel": {"key": "pool", "spotValue": "cheap"}}
    assert "pool" not in pool("on-demand", spec=loose)["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("policy", ["WhenEmpty", "WhenEmptyOrUnderutilized"])
def test_consolidation_never_moves_the_floor(policy: str) -> None:
    given = {"consolidationPolicy": policy, "budgets": [{"nodes": "50%"}]}
    budgets = pool("on-demand", disruption=given)["spec"]["disruption"]["budgets"]
    assert {"nodes": "0", "reasons": ["Underutilized"]} in budgets
    assert {"nodes": "50%"} in budgets
    assert pool("spot", disruption=given)["spec"]["disruption"]["budgets"] == [{"nodes": "50%"}]


def test_other_reasons_stay_bounded_on_demand_when_no_budget_was_given() -> None:
    """A list that speaks of one reason alone would let all nodes drift at once."""
    assert {"nodes": "10%"} in pool("on-demand")["spec"]["disruption"]["budgets"]


def test_what_the_api_server_fills_in_is_no_drift() -> None:
    manifest = pool(limits={"nvidia.com/gpu": 8, "memory": "64Gi"})
    live = {
        **manifest,
        "metadata": {**manifest["metadata"], "uid": "x", "annotations": {"karpenter.sh/nodepool-hash": "1"}},
        "spec": {**manifest["spec"], "limits": {"nvidia.com/gpu": "8", "memory": "65536Mi"}},
    }
    assert find_drift(manifest, live, manager=names.MANAGER_CHILDREN) == ()


def inputs(**spec: Any) -> EngineInputs:
    fact = tier_fact(spec=spec)
    return EngineInputs(
        meta=fact.meta,
        spec=fact.spec,
        slice_=pick_headroom_slice(fact.spec),
        engine_key_id="k",
        agent_image="npc-fleet:1",
        engine_image="vllm:1",
        pull_policy="Always",
    )


@pytest.mark.parametrize(
    ("spec", "slice_"),
    [
        ({}, "spot"),
        ({"capacity": {"onDemandPercentageAboveBase": 100}}, "on-demand"),
        ({"capacity": {"onDemandBase": 10}, "maxReplicas": 10}, "on-demand"),
    ],
)
def test_room_is_kept_in_the_slice_that_grows(spec: Manifest, slice_: str) -> None:
    given = inputs(**spec)
    buffer = build_capacity_buffer(given.meta, given.spec, 2)
    assert buffer["spec"]["scalableRef"]["name"] == f"gold-{slice_}"
    assert buffer["spec"]["replicas"] == 2


def test_a_placeholder_asks_for_what_an_engine_asks_for_and_gives_way_at_once() -> None:
    given = inputs(
        accelerator={"perReplica": 2},
        engine={"resources": {"requests": {"cpu": "4"}, "limits": {"memory": "32Gi"}}},
        scheduling={"nodeSelector": {"pool": "gpu"}, "priorityClassName": "npc-gold"},
    )
    pod = build_placeholder(given, 3)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == {"cpu": "4"}
    assert (pod["priorityClassName"], pod["terminationGracePeriodSeconds"]) == (names.HEADROOM_PRIORITY_CLASS, 0)
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_another_template_of_placeholders_takes_the_room_of_the_old_one() -> None:
    """A surge would make an autoscaler bring a node with GPUs for it."""
    spec = build_placeholder(inputs(), 3)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": "100%"}


def test_placeholders_are_no_engines_to_anybody() -> None:
    template = build_placeholder(inputs(), 1)["spec"]["template"]
    assert names.LABEL_MANAGED_BY not in template["metadata"]["labels"]
    assert template["metadata"]["labels"][names.LABEL_COMPONENT] == names.COMPONENT_HEADROOM
    assert "volumes" not in template["spec"]
