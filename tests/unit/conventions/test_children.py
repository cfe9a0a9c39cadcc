"""What every object and pod that the operator makes has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.api.npcregion import Limits
from npc_operator.manifests.disruption import build_engine_budget, build_gateway_budget
from npc_operator.manifests.engine_deployment import build_deployment
from npc_operator.manifests.engine_service import build_engine_service
from npc_operator.manifests.gateway_deployment import (
    SHUTDOWN_DELAY_SECONDS,
    build_gateway_deployment,
)
from npc_operator.manifests.gateway_service import build_gateway_service
from npc_operator.manifests.labels import owner_reference
from npc_operator.manifests.network import OperatorPeer, build_engine_policy, build_gateway_policy
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.manifests.secrets import build_namespace_secret, build_routes_secret
from tests.support import builders

Manifest = dict[str, Any]

SPOT_NOTICE_SECONDS = 120
"""The longest notice before a spot machine goes (AWS; others give less)."""

GPUS: Manifest = {"accelerator": {"resourceName": "nvidia.com/gpu", "perReplica": 2}}


def engine_deployment(slice_: str = names.SLICE_SPOT, **options: Any) -> Manifest:
    """One slice of a tier; `options` as for builders.tier."""
    fact = builders.tier_fact(**options)
    inputs = EngineInputs(
        meta=fact.meta,
        spec=fact.spec,
        slice_=slice_,
        engine_key_id="key-1",
        agent_image="fleet@sha256:1",
        engine_image="vllm:default",
    )
    return build_deployment(inputs, replicas=2, live=None)


def gateway_deployment() -> Manifest:
    region = builders.region_fact()
    return build_gateway_deployment(region.meta, region.spec, image="fleet@sha256:1", pull_policy="")


def children() -> Iterator[Manifest]:
    """Every kind of child there is."""
    region, tier = builders.region_fact(), builders.tier_fact()
    peer = OperatorPeer("npc-system", {"app.kubernetes.io/name": "npc-operator"})
    yield from (engine_deployment(slice_) for slice_ in (names.SLICE_ON_DEMAND, names.SLICE_SPOT))
    yield build_engine_service(tier.meta, tier.spec)
    yield build_engine_budget(tier.meta, tier.spec.quality, wanted=1)
    yield gateway_deployment()
    yield build_gateway_service(region.meta, region.spec)
    yield build_gateway_budget(region.meta)
    yield build_gateway_policy(region.meta, peer)
    yield build_routes_secret(region.meta, b"packed")
    owners = [owner_reference(names.KIND_REGION, region.meta), owner_reference(names.KIND_TIER, tier.meta)]
    yield build_engine_policy(tier.meta.namespace, peer, owners=owners)
    for secret in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        yield build_namespace_secret(secret, tier.meta.namespace, data={"a": "b"}, handled="{}", owners=owners)


def pods() -> Iterator[tuple[str, Manifest]]:
    """(name, spec) of every pod template."""
    yield "gateway", gateway_deployment()["spec"]["template"]["spec"]
    for uri in ("hf://org/name", "s3://models/base"):
        yield uri, engine_deployment(model={"uri": uri})["spec"]["template"]["spec"]


CHILDREN = list(children())
PODS = dict(pods())


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def describe(child: Manifest) -> str:
    return f"{child['kind']}/{child['metadata']['name']}"


@pytest.mark.parametrize("child", CHILDREN, ids=describe)
def test_a_child_carries_the_recommended_labels_and_ours(child: Manifest) -> None:
    labels = child["metadata"]["labels"]
    recommended = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "managed-by")}
    assert recommended <= set(labels)
    assert labels["app.kubernetes.io/part-of"] == "npc-fleet"
    assert labels["app.kubernetes.io/managed-by"] == "npc-operator"
    if labels["app.kubernetes.io/component"] == "engine" and child["metadata"]["name"] != names.ENGINE_POLICY:
        assert labels["npcfleet.dev/tier"] == "gold"
    if labels["app.kubernetes.io/component"] == "gateway":
        assert labels["npcfleet.dev/region"] == "eu-west"
    if child["kind"] == "Deployment":
        template = child["spec"]["template"]["metadata"]["labels"]
        assert recommended <= set(template)
        assert child["spec"]["selector"]["matchLabels"].items() <= template.items()


@pytest.mark.parametrize("child", CHILDREN, ids=describe)
def test_a_child_goes_away_with_its_owner_and_holds_it_up_by_nothing(child: Manifest) -> None:
    owners = child["metadata"]["ownerReferences"]
    assert {owner["apiVersion"] for owner in owners} == {"npcfleet.dev/v1alpha1"}
    assert all(owner["uid"] for owner in owners)
    assert len([owner for owner in owners if owner.get("controller")]) == (1 if len(owners) == 1 else 0)
    assert "finalizers" not in child["metadata"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_passes_pod_security_restricted_and_cannot_write_its_image(name: str) -> None:
    pod = PODS[name]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {
        "emptyDir",
        "secret",
        "configMap",
        "persistentVolumeClaim",
    }
    for container in containers(pod):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", PODS)
def test_no_container_has_a_variable_a_mount_or_a_port_twice(name: str) -> None:
    for container in containers(PODS[name]):
        for field, key in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort")):
            values = [entry[key] for entry in container.get(field, ())]
            assert len(values) == len(set(values)), (container["name"], field)


def test_a_variable_that_both_set_is_there_once() -> None:
    env = [
        {"name": "VLLM_NO_USAGE_STATS", "value": "0"},
        {"name": "OMP_NUM_THREADS", "value": "4"},
    ]
    engine = engine_deployment(engine={"env": env})["spec"]["template"]["spec"]["containers"][0]
    given = {entry["name"]: entry.get("value") for entry in engine["env"]}
    assert len(given) == len(engine["env"])
    assert given["OMP_NUM_THREADS"] == "4"


def test_a_disruption_budget_spans_both_slices_and_always_lets_one_pod_go() -> None:
    budgets = [child for child in CHILDREN if child["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 2
    engine, gateway = (budget["spec"] for budget in budgets)
    assert (engine["minAvailable"], engine.get("maxUnavailable")) == (0, None), "of a tier of one"
    assert (gateway["maxUnavailable"], gateway.get("minAvailable")) == (1, None)
    for budget in budgets:
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    engines = budgets[0]["spec"]["selector"]["matchLabels"]
    for slice_ in (names.SLICE_ON_DEMAND, names.SLICE_SPOT):
        labels = engine_deployment(slice_)["spec"]["template"]["metadata"]["labels"]
        assert engines.items() <= labels.items()


@pytest.mark.parametrize(("drain", "shutdown"), [(60, 15), (1, 1), (90, 20)])
def test_the_grace_period_is_longer_than_draining_and_shutting_down(drain: int, shutdown: int) -> None:
    pod = engine_deployment(engine={"drainSeconds": drain, "shutdownSeconds": shutdown})["spec"]["template"]["spec"]
    engine = pod["containers"][0]
    assert engine["lifecycle"]["preStop"]["exec"]["command"][-1] == str(drain)
    assert f"--shutdown-timeout={shutdown}" in engine["args"]
    assert drain + shutdown < pod["terminationGracePeriodSeconds"] <= SPOT_NOTICE_SECONDS


def test_the_gateways_grace_period_is_longer_than_its_own_way_out() -> None:
    """A line that a roll of the gateways finds running may take as long as the region's limits allow."""
    (container,) = PODS["gateway"]["containers"]
    drain = next(int(arg.partition("=")[2]) for arg in container["args"] if arg.startswith("--drain-seconds="))
    assert drain >= Limits().request_timeout_seconds
    assert PODS["gateway"]["terminationGracePeriodSeconds"] > SHUTDOWN_DELAY_SECONDS + drain


@pytest.mark.parametrize("name", PODS)
def test_pods_are_spread_over_zones_and_nodes_without_waiting_for_either(name: str) -> None:
    spread = PODS[name]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}


def test_a_slice_is_tied_to_its_kind_of_capacity() -> None:
    def expression(slice_: str, **spec: Any) -> Manifest:
        pod = engine_deployment(slice_, spec=spec)["spec"]["template"]["spec"]
        required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        (only,) = term["matchExpressions"]
        found: Manifest = only
        return found

    key = "karpenter.sh/capacity-type"
    assert expression(names.SLICE_SPOT) == {"key": key, "operator": "In", "values": ["spot"]}
    assert expression(names.SLICE_ON_DEMAND) == {"key": key, "operator": "NotIn", "values": ["spot"]}
    strict = {"capacityTypeLabel": {"key": "pool", "spotValue": "cheap", "onDemandValue": "safe"}}
    assert expression(names.SLICE_ON_DEMAND, **strict) == {"key": "pool", "operator": "In", "values": ["safe"]}


def test_gpu_pods_ask_for_gpus_and_tolerate_their_taint() -> None:
    pod = engine_deployment(names.SLICE_ON_DEMAND, spec=GPUS)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert not engine_deployment(names.SLICE_ON_DEMAND)["spec"]["template"]["spec"].get("tolerations")


def test_what_platform_teams_add_to_a_tier_arrives_in_its_pods() -> None:
    spec: Manifest = {
        "scheduling": {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "voices", "effect": "NoSchedule"}],
            "priorityClassName": "npc-gold",
            "runtimeClassName": "nvidia",
        },
        "serviceAccountName": "models-reader",
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"cost-center": "nightfall", "app.kubernetes.io/name": "mine"},
        "podAnnotations": {"note": "x"},
    }
    image = "vllm/vllm-openai@sha256:" + "a" * 64
    template = engine_deployment(names.SLICE_ON_DEMAND, spec=spec, engine={"image": image})["spec"]["template"]
    pod = template["spec"]
    assert pod["containers"][0]["image"] == image
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == spec["scheduling"]["tolerations"]
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("npc-gold", "nvidia")
    assert pod["serviceAccountName"] == "models-reader"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert template["metadata"]["labels"]["cost-center"] == "nightfall"
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "npc-engine"
    assert template["metadata"]["annotations"]["note"] == "x"
