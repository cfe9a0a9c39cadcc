"""A Node as a fact: what is said of its end, and whether new pods can come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api.gputier import GpuTierSpec
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.sources.node import is_closed, read_node
from npc_operator.manifests.engine_pod import pod_tolerations
from tests.support.builders import tier

GPU = ("nvidia.com/gpu", "", "NoSchedule")
SPOT = ("karpenter.sh/capacity-type", "spot", "NoSchedule")
DISRUPTED = ("karpenter.sh/disrupted", "", "NoSchedule")
EXISTS: dict[str, Any] = {"operator": "Exists"}


def test_a_node_is_its_names_its_marks_and_what_is_said_and_nothing_else() -> None:
    fact = read_node(
        {
            "metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {
                "providerID": "aws:///eu-west-1a/i-1",
                "unschedulable": True,
                "taints": [
                    {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
                    {"key": "soft", "effect": "PreferNoSchedule"},
                ],
            },
            "status": {"images": [{"names": ["large"]}]},
        }
    )
    assert (fact.name, fact.instance, fact.cordoned, fact.taints) == ("n", "i-1", True, (DISRUPTED,))
    assert {(one.kind, one.seen) for one in fact.notices} == {(Kind.DRAIN, 0.0), (Kind.CORDON, 0.0)}
    assert fact.strange == ()


def test_heartbeats_change_nothing() -> None:
    def at(time: str) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]
        return {"metadata": {"name": "n", "resourceVersion": time}, "status": {"conditions": conditions}}

    assert read_node(at("1")) == read_node(at("2"))


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_anything_at_all_is_a_fact(node: object) -> None:
    assert isinstance(read_node(node), NodeFact)


@pytest.mark.parametrize(
    ("taints", "tolerations", "closed"),
    [
        ((), [], False),
        ((GPU,), [], True),
        ((GPU,), [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], False),
        ((GPU,), [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}], True),
        ((GPU,), [{"key": "nvidia.com/gpu", "operator": "Exists"}], False),
        ((SPOT,), [{"key": SPOT[0], "operator": "Equal", "value": "spot"}], False),
        ((SPOT,), [{"key": SPOT[0], "operator": "Equal", "value": "other"}], True),
        ((SPOT, DISRUPTED), [{"key": SPOT[0], "operator": "Exists"}], True),
        ((SPOT, DISRUPTED), [EXISTS], False),
    ],
)
def test_a_node_is_closed_by_a_taint_that_new_pods_do_not_tolerate(
    taints: tuple[tuple[str, str, str], ...], tolerations: list[dict[str, Any]], closed: bool
) -> None:
    assert is_closed(NodeFact("n", taints=taints), tolerations) is closed


def test_a_cordoned_node_is_closed_to_all_that_do_not_tolerate_a_cordon_and_one_that_is_gone_to_all() -> None:
    cordoned = NodeFact("n", cordoned=True)
    assert is_closed(cordoned, [])
    for all_of_it in (EXISTS, {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}):
        assert not is_closed(cordoned, [all_of_it]), "as kube-scheduler's NodeUnschedulable sees it"
        assert is_closed(None, [all_of_it])


def test_the_pods_of_a_slice_tolerate_the_accelerator_the_capacity_type_and_what_the_user_says() -> None:
    spec = GpuTierSpec.model_validate(
        tier(spec={"accelerator": {"perReplica": 1}, "scheduling": {"tolerations": [{"key": "mine", "value": "x"}]}})[
            "spec"
        ]
    )
    mine = NodeFact("n", taints=(GPU, SPOT, ("mine", "x", "NoExecute")))
    assert not is_closed(mine, pod_tolerations(spec, "spot"))
    assert is_closed(mine, pod_tolerations(spec, "on-demand"))
