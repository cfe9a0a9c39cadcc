"""What a tier's status says of its pods."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.api.capacity import CapacityStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, condition
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import ContainerFact, SecretFact
from npc_operator.domain.replicas import Split
from npc_operator.domain.tier import TierFacts, build_tier_status, describe_model, summarize_tier
from npc_runtime.wire import EngineReport, EngineState
from tests.support.builders import NAMESPACE, agent_fact, pod_fact, tier_fact


def pods(count: int, **options: Any) -> list[Engine]:
    made = [pod_fact(f"gold-{number}", **options) for number in range(count)]
    return [Engine(pod, agent_fact(pod)) for pod in made]


def facts(**change: Any) -> TierFacts:
    fields: dict[str, Any] = {
        "tier": tier_fact(generation=3),
        "region": "eu-west",
        "wanted": 2,
        "split": Split(1, 1),
        "engines": [*pods(1), *[Engine(p, agent_fact(p)) for p in [pod_fact("od", slice=names.SLICE_ON_DEMAND)]]],
    }
    return TierFacts(**{**fields, **change})


def failing(name: str, **container: Any) -> list[Engine]:
    return [Engine(pod_fact(name, ready=False, containers=(ContainerFact("engine", **container),)), None)]


def test_a_tier_at_rest_says_only_that_it_serves() -> None:
    status = build_tier_status(facts(), 0)
    assert [one.type for one in status.conditions] == ["Ready"]
    assert status.conditions[0].status == "True"
    assert (status.replicas, status.ready_replicas, status.wanted_replicas) == (2, 2, 2)
    assert (status.slices.on_demand.desired, status.slices.on_demand.ready) == (1, 1)
    assert (status.slices.spot.desired, status.slices.spot.ready) == (1, 1)
    assert status.observed_generation == 3


CONDITION = {"status": "True", "message": "exceeded quota"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tier": tier_fact(spec={"suspend": True})}, reasons.SUSPENDED),
        ({"faults": (Finding(reasons.NAME_TAKEN, "x"),)}, reasons.NAME_TAKEN),
        (
            {
                "tier": tier_fact(model={"secretRef": {"name": "s"}}),
                "model_secret": SecretFact(NAMESPACE, "s", "", {}),
            },
            reasons.SECRET_NOT_FOUND,
        ),
        ({"deployments": {"spot": {"conditions": [{"type": "ReplicaFailure", **CONDITION}]}}}, reasons.QUOTA_EXCEEDED),
        ({"engines": failing("a", waiting_reason="ImagePullBackOff")}, reasons.IMAGE_PULL_FAILED),
        ({"engines": failing("a", waiting_reason="CreateContainerConfigError")}, "CreateContainerConfigError"),
        ({"engines": failing("a", waiting_reason="CrashLoopBackOff", restarts=4, exit_code=1)}, reasons.CRASH_LOOPING),
        (
            {"deployments": {"spot": {"conditions": [{"type": "Progressing", "reason": reasons.PROGRESS_DEADLINE}]}}},
            reasons.PROGRESS_DEADLINE,
        ),
        ({"region": ""}, reasons.NO_REGION),
        ({"left_out": Finding(reasons.SLOTS_EXCEEDED, "x")}, reasons.SLOTS_EXCEEDED),
    ],
)
def test_what_needs_a_person(change: dict[str, Any], reason: str) -> None:
    summary = summarize_tier(facts(**change))
    assert summary.stalled is not None
    assert summary.stalled.reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"preparing": True}, reasons.PREPARING),
        ({"errors": ("Service gold-engine: timeout",)}, reasons.RETRYING),
        (
            {"engines": [Engine(pod_fact("a", ready=False, node="", unschedulable="0/3 nodes"), None)]},
            reasons.UNSCHEDULABLE,
        ),
        ({"deployments": {"spot": {"replicas": 2, "updatedReplicas": 1}}}, reasons.ROLLING),
        ({"engines": pods(1)}, reasons.STARTING),
        ({"engines": pods(3)}, reasons.STARTING),
    ],
)
def test_what_is_changing(change: dict[str, Any], reason: str) -> None:
    summary = summarize_tier(facts(**change))
    assert summary.reconciling is not None
    assert summary.reconciling.reason == reason
    assert summary.stalled is None


WAITING = {"ready": False, "node": "", "unschedulable": "no room"}
STANDS_IN = CapacityStatus(mode="Fallback", reason="SpotPending", extra_on_demand=1)


def fallen_back(**change: Any) -> TierFacts:
    """Two wanted: two on demand serve, and the spot pod waits for a node."""
    engines = [*pods(2, slice=names.SLICE_ON_DEMAND), Engine(pod_fact("waits", **WAITING), None)]
    return facts(**{"split": Split(2, 1), "engines": engines, "capacity": STANDS_IN, **change})


def test_a_tier_in_fallback_is_ready_and_waits_for_nothing() -> None:
    status = build_tier_status(fallen_back(), 0)
    assert [(one.type, one.status) for one in status.conditions] == [("Ready", "True")]
    assert status.capacity == STANDS_IN
    assert (status.replicas, status.ready_replicas, status.wanted_replicas) == (2, 2, 2)
    assert (status.slices.on_demand.desired, status.slices.spot.desired, status.slices.spot.ready) == (2, 1, 0)


LATE = {"conditions": [{"type": "Progressing", "status": "False", "reason": reasons.PROGRESS_DEADLINE}]}


def test_a_rollout_that_waits_for_spot_nodes_all_day_needs_nobody_while_on_demand_stands_in() -> None:
    """A Deployment's deadline passes although nothing is wrong with its pods: the market has no room."""
    assert summarize_tier(fallen_back(deployments={"spot": LATE})).stalled is None


@pytest.mark.parametrize(
    "change",
    [
        {"deployments": {"on-demand": LATE}},
        {"deployments": {"spot": LATE}, "engines": [*pods(2), Engine(pod_fact("starts", ready=False), None)]},
        {"deployments": {"spot": LATE}, "capacity": CapacityStatus(mode="Normal")},
        {"deployments": {"spot": LATE}, "engines": [*pods(1), Engine(pod_fact("waits", **WAITING), None)]},
    ],
    ids=["on demand", "a pod that starts", "nobody stands in", "too few serve"],
)
def test_a_deadline_that_says_more_than_that_spot_has_no_room_needs_a_person(change: dict[str, Any]) -> None:
    stalled = summarize_tier(fallen_back(**change)).stalled
    assert stalled is not None
    assert stalled.reason == reasons.PROGRESS_DEADLINE


def test_a_spot_pod_without_a_node_matters_while_it_is_missed() -> None:
    engines = [*pods(1, slice=names.SLICE_ON_DEMAND), Engine(pod_fact("waits", **WAITING), None)]
    summary = summarize_tier(fallen_back(engines=engines))
    assert not summary.ready
    assert summary.reconciling is not None
    assert summary.reconciling.reason == reasons.UNSCHEDULABLE


@pytest.mark.parametrize(
    ("there", "split", "expected"),
    [
        pytest.param(2, Split(1, 1), 2, id="as wanted"),
        pytest.param(4, Split(1, 3), 2, id="two overprovisioned"),
        pytest.param(3, Split(1, 3), 2, id="one of them so far"),
        pytest.param(1, Split(1, 3), 1, id="none of them so far"),
        pytest.param(5, Split(1, 1), 5, id="on the way down"),
        pytest.param(5, Split(1, 3), 3, id="on the way down, two of them on purpose"),
    ],
)
def test_an_autoscaler_sees_no_pods_that_are_there_beside_the_wanted_ones(
    there: int, split: Split, expected: int
) -> None:
    assert build_tier_status(facts(split=split, engines=pods(there)), 0).replicas == expected


def test_a_tier_of_no_replicas_is_ready() -> None:
    summary = summarize_tier(facts(wanted=0, split=Split(0, 0), engines=[]))
    assert (summary.ready, summary.why.reason, summary.reconciling) == (True, reasons.SCALED_TO_ZERO, None)


def test_one_missing_pod_makes_a_tier_unready_and_says_what_it_is_doing() -> None:
    starting = Engine(pod_fact("b", ready=False), agent_fact(pod_fact("b"), state=EngineState.STARTING))
    status = build_tier_status(facts(engines=[*pods(1), starting]), 0)
    ready = condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.status == "False"
    assert "pod b: engine Starting" in ready.message


def test_pods_that_go_are_not_counted() -> None:
    status = build_tier_status(facts(engines=[*pods(2), *pods(1, deleting=True), *pods(1, phase="Failed")]), 0)
    assert status.replicas == 2


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [(0, 0, "size not known yet"), (149, 1000, "10% of"), (151, 1000, "15% of"), (1000, 1000, "100% of")],
)
def test_progress_is_told_in_steps(done: int, total: int, text: str) -> None:
    pod = pod_fact("a", ready=False)
    engine = EngineReport(state=EngineState.FETCHING_MODEL, done_bytes=done, total_bytes=total)
    assert text in describe_model(facts(engines=[Engine(pod, agent_fact(pod, engine=engine))]))


def test_of_several_pods_the_one_furthest_behind_is_told() -> None:
    def fetching(name: str, done: int) -> Engine:
        engine = EngineReport(state=EngineState.FETCHING_MODEL, done_bytes=done, total_bytes=100)
        return Engine(pod_fact(name), agent_fact(pod_fact(name), engine=engine))

    assert "pod b fetches" in describe_model(facts(engines=[fetching("a", 90), fetching("b", 20)]))
    assert describe_model(facts()) == ""
