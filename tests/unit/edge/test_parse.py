"""From objects as the API server sends them to facts."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.domain.facts import Adapter, Child, Pod, Region, Tier, Unreadable
from npc_operator.edge.parse import identify, learn, parse, unlearn
from npc_operator.loop.store import Store
from tests.support import builders
from tests.support.builders import NAMESPACE
from tests.support.fake_clock import FakeClock


def pod(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "gold-spot-1",
            "namespace": NAMESPACE,
            "uid": "u1",
            "resourceVersion": "7",
            "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {
                "app.kubernetes.io/component": "engine",
                "npcfleet.dev/tier": "gold",
                "npcfleet.dev/slice": "spot",
                "pod-template-hash": "abc",
            },
            "annotations": {"npcfleet.dev/engine-key": "k2"},
        },
        "spec": {"nodeName": "node-1"},
        "status": status,
    }


def fact_of(manifest: dict[str, Any]) -> Any:
    return parse(manifest["apiVersion"], manifest["kind"], manifest).fact


def test_the_users_kinds_become_their_facts_with_defaults() -> None:
    region, tier = fact_of(builders.region()), fact_of(builders.tier())
    assert isinstance(region, Region)
    assert isinstance(tier, Tier)
    assert tier.spec.engine.port == 8000
    assert tier.status.observed_generation == -1
    assert (tier.meta.name, tier.meta.namespace, tier.meta.uid) == ("gold", NAMESPACE, "uid-gputier-gold")


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = builders.tier(spec={"quantumEntanglement": True})
    assert isinstance(fact_of(newer), Tier)


def test_kubectls_copy_of_the_object_is_not_kept() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "npcfleet.dev/rotate-token": "1"}
    fact = fact_of(builders.tier(annotations=annotations))
    assert fact.meta.annotations == {"npcfleet.dev/rotate-token": "1"}


def test_what_cannot_be_understood_says_which_field_and_why_but_not_its_value() -> None:
    fact = fact_of(builders.tier(spec={"quality": "Platinum s3cr3t"}))
    assert isinstance(fact, Unreadable)
    assert fact.kind == "GpuTier"
    assert "quality" in fact.error
    assert "s3cr3t" not in fact.error


def test_a_pod_just_made_has_nothing_yet() -> None:
    fact = fact_of(pod(phase="Pending"))
    assert isinstance(fact, Pod)
    assert (fact.component, fact.tier, fact.slice, fact.node) == ("engine", "gold", "spot", "node-1")
    assert (fact.ip, fact.ready, fact.deleting, fact.containers) == ("", False, False, ())
    assert (fact.engine_key_id, fact.template_hash) == ("k2", "abc")


def test_a_pod_that_finds_no_node_says_the_schedulers_words() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert fact_of(pod(conditions=[condition])).unschedulable == "0/3 nodes"
    condition["reason"] = "SchedulingGated"
    assert fact_of(pod(conditions=[condition])).unschedulable == ""


def test_a_running_pod_tells_of_its_sidecar_and_its_containers() -> None:
    fact = fact_of(
        pod(
            phase="Running",
            podIP="10.0.0.9",
            conditions=[{"type": "Ready", "status": "True"}],
            initContainerStatuses=[{"name": "agent", "ready": True, "started": True, "restartCount": 0}],
            containerStatuses=[
                {
                    "name": "engine",
                    "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                }
            ],
        )
    )
    assert fact.ready
    assert fact.ip == "10.0.0.9"
    agent, engine = fact.containers
    assert (agent.name, agent.ready, agent.started) == ("agent", True, True)
    assert (engine.restarts, engine.waiting_reason) == (3, "CrashLoopBackOff")
    assert (engine.terminated_reason, engine.exit_code) == ("OOMKilled", 137)


def test_a_pod_on_its_way_out_is_deleting() -> None:
    manifest = pod(phase="Running")
    manifest["metadata"]["deletionTimestamp"] = "2026-11-01T00:01:00Z"
    assert fact_of(manifest).deleting


def test_a_child_keeps_its_manifest_without_status_and_foreign_managed_fields() -> None:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "gold-spot",
            "namespace": NAMESPACE,
            "uid": "u2",
            "resourceVersion": "9",
            "managedFields": [{"manager": "npc-operator"}, {"manager": "kube-controller-manager"}],
        },
        "spec": {"replicas": 1},
        "status": {"readyReplicas": 1},
    }
    at = parse("apps/v1", "Deployment", manifest)
    assert (at.kind, at.name, at.version) == (Child, "Deployment/gold-spot", 9)
    assert at.fact.manifest["spec"] == {"replicas": 1}
    assert at.fact.manifest["metadata"]["managedFields"] == [{"manager": "npc-operator"}]
    assert "status" not in at.fact.manifest
    assert at.fact.status == {"readyReplicas": 1}
    assert "kube-controller-manager" in str(manifest), "what was handed in is left as it was"


@pytest.mark.parametrize("first", ["readable", "unreadable"])
def test_the_store_follows_an_object_through_being_unreadable(first: str) -> None:
    store = Store(FakeClock())
    good, bad = builders.tier(resourceVersion="5"), builders.tier(spec={"quality": "Platinum"}, resourceVersion="6")
    if first == "unreadable":
        good["metadata"]["resourceVersion"], bad["metadata"]["resourceVersion"] = "6", "5"
    ordered = [good, bad] if first == "readable" else [bad, good]
    for manifest in ordered:
        learn(store, parse(manifest["apiVersion"], manifest["kind"], manifest))
    assert store.get(Tier, NAMESPACE, "gold") is not None
    assert store.count(Unreadable) == (1 if first == "readable" else 0)
    unlearn(store, identify("GpuTier", builders.tier(resourceVersion="8")))
    assert store.count(Tier) == store.count(Unreadable) == 0


def test_an_adapter_with_a_full_status_is_read_back_as_it_was_written() -> None:
    manifest = {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": "ArchetypeAdapter",
        "metadata": builders.meta("ArchetypeAdapter", "vampire"),
        "spec": {
            "archetype": "vampire",
            "variants": [
                {
                    "tier": "gold",
                    "source": {"uri": "s3://b/v", "digest": builders.digest("v"), "secretRef": {"name": "c"}},
                }
            ],
        },
        "status": {
            "observedGeneration": 3,
            "variants": [{"tier": "gold", "stable": {"digest": builders.digest("v"), "uri": "s3://b/v", "rank": 16}}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Resident", "lastTransitionTime": "t"}],
        },
    }
    fact = fact_of(manifest)
    assert isinstance(fact, Adapter)
    assert fact.status.variants[0].stable is not None
    assert fact.status.variants[0].stable.uri == "s3://b/v"
    assert fact.spec.variants[0].source.secret_ref is not None


@pytest.mark.parametrize(
    ("args", "prioritised", "slots"),
    [
        ([], False, 0),
        (["--scheduling-policy=priority"], True, 0),
        (["--scheduling-policy=priority", "--scheduling-policy=fcfs"], False, 0),
        (["--scheduling-policy", "priority", "--max-num-seqs", "12"], True, 12),
        (["--max-num-seqs=many"], False, 0),
    ],
)
def test_a_pod_says_what_its_engine_was_started_with(args: list[str], prioritised: bool, slots: int) -> None:
    manifest = pod(phase="Running")
    manifest["spec"]["containers"] = [{"name": "other", "args": ["--max-num-seqs=1"]}, {"name": "engine", "args": args}]
    fact = fact_of(manifest)
    assert (fact.prioritised, fact.slots) == (prioritised, slots)
