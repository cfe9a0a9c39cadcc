"""What we apply is what the API server keeps: right after an apply nothing differs, so at rest nothing is written.

Defaults, quantities and dropped empty values are the real server's; so are managed fields, and Pod Security.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.rollouts import Gate
from npc_operator.clients.connection import connect
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.domain.drift import extract_owned, find_drift, owned_fields
from npc_operator.edge.parse import parse_child
from npc_operator.manifests.disruption import build_engine_budget, build_gateway_budget
from npc_operator.manifests.engine_deployment import build_deployment
from npc_operator.manifests.engine_service import build_engine_service
from npc_operator.manifests.gate_job import GateInputs, build_gate_job, hash_gate
from npc_operator.manifests.gateway_deployment import build_gateway_deployment
from npc_operator.manifests.gateway_service import build_gateway_service
from npc_operator.manifests.labels import owner_reference
from npc_operator.manifests.network import OperatorPeer, build_engine_policy, build_gateway_policy
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.manifests.secrets import build_namespace_secret, build_routes_secret
from npc_operator.ports import ObjectRef
from tests.support.builders import adapter_fact, digest, region_fact, tier_fact
from tests.support.kube_env import KubeEnv

OPERATOR = OperatorPeer("npc-system", {"app.kubernetes.io/name": "npc-operator"})

TIERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hf": {"model": {"uri": "hf://org/name", "revision": "abc", "secretRef": {"name": "hf"}}},
    "s3-with-secret": {"model": {"uri": "s3://models/base", "secretRef": {"name": "s3"}}},
    "everything": {
        "engine": {
            "extraArgs": ["--max-num-seqs=8"],
            "env": [{"name": "EMPTY"}, {"name": "SET", "value": "1"}],
            "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
            "volumes": [
                {"name": "claim", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
                {"name": "map", "configMap": {"name": "m"}},
            ],
            "volumeMounts": [
                {"name": "claim", "mountPath": "/mnt/claim", "readOnly": True},
                {"name": "scratch", "mountPath": "/mnt/scratch"},
                {"name": "map", "mountPath": "/mnt/map", "subPath": "a"},
            ],
        },
        "spec": {
            "accelerator": {"perReplica": 2},
            "agent": {"fileRoots": ["/mnt/claim/adapters"], "cacheSize": "1.5Gi"},
            "podLabels": {"team": "games"},
            "podAnnotations": {"note": "x"},
            "serviceAccountName": "reader",
            "imagePullSecrets": [{"name": "registry"}],
            "updateStrategy": {"maxSurge": 0, "maxUnavailable": 1},
            "scheduling": {
                "nodeSelector": {"gpu": "a10"},
                "tolerations": [
                    {"key": "team", "operator": "Exists"},
                    {"key": "x", "value": "y", "effect": "NoExecute"},
                ],
                "runtimeClassName": "nvidia",
            },
        },
    },
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeEnv]:
    control_plane = KubeEnv(tmp_path_factory.mktemp("children"))
    control_plane.start()
    try:
        yield control_plane
    finally:
        control_plane.stop()


@pytest.fixture
async def kube(env: KubeEnv) -> AsyncIterator[KubeClient]:
    connection = await connect(kubeconfig=str(env.kubeconfig))
    client = KubeClient(connection, metrics=Metrics())
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def namespace(kube: KubeClient) -> str:
    """A namespace that enforces Pod Security "restricted"."""
    name = f"children-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    await kube.create(manifest, manager="test")
    return name


def here(meta: ObjectMeta, namespace: str) -> ObjectMeta:
    return meta.model_copy(update={"namespace": namespace})


def tier_children(namespace: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    fact = tier_fact(**options)
    meta = here(fact.meta, namespace)
    inputs = EngineInputs(meta, fact.spec, names.SLICE_SPOT, "key-1", "npc-fleet:1", "vllm:1", "IfNotPresent")
    return [
        build_engine_service(meta, fact.spec),
        build_engine_budget(meta, fact.spec.quality, wanted=3),
        build_deployment(inputs, replicas=0, live=None),
        build_deployment(replace(inputs, slice_=names.SLICE_ON_DEMAND), replicas=3, live=None),
    ]


def region_children(namespace: str) -> list[dict[str, Any]]:
    service = {"type": "NodePort", "port": 8080, "annotations": {"lb": "internal"}}
    fact = region_fact(spec={"gateway": {"service": service, "auth": {"mode": "None"}}})
    meta = here(fact.meta, namespace)
    owners = [owner_reference(names.KIND_REGION, meta), owner_reference(names.KIND_TIER, tier_fact().meta)]
    data = {"token": "t", "token-previous": "", "ca.crt": "PEM"}
    return [
        build_gateway_service(meta, fact.spec),
        build_gateway_budget(meta),
        build_gateway_policy(meta, OPERATOR),
        build_engine_policy(namespace, OPERATOR, owners=owners),
        build_gateway_deployment(meta, fact.spec, image="npc-fleet:1", pull_policy=""),
        build_namespace_secret("npc-fleet-internal", namespace, data=data, handled="{}", owners=owners),
        build_routes_secret(meta, b"packed"),
    ]


async def check_rest(kube: KubeClient, manifest: dict[str, Any]) -> None:
    await kube.apply(manifest, manager=names.MANAGER_CHILDREN)
    meta = manifest["metadata"]
    live = await kube.get(ObjectRef(manifest["apiVersion"], manifest["kind"], meta["namespace"], meta["name"]))
    assert live is not None
    known = parse_child(manifest["apiVersion"], manifest["kind"], live)
    assert find_drift(manifest, known.manifest, manager=names.MANAGER_CHILDREN) == ()
    again = await kube.apply(manifest, manager=names.MANAGER_CHILDREN)
    assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


@pytest.mark.parametrize("options", TIERS.values(), ids=TIERS)
async def test_a_tiers_children_do_not_drift(kube: KubeClient, namespace: str, options: dict[str, Any]) -> None:
    for manifest in tier_children(namespace, options):
        await check_rest(kube, manifest)


async def test_a_regions_children_do_not_drift(kube: KubeClient, namespace: str) -> None:
    for manifest in region_children(namespace):
        await check_rest(kube, manifest)


async def test_a_region_that_gets_a_certificate_changes_its_port_and_does_not_drift(
    kube: KubeClient, namespace: str
) -> None:
    for tls in ({}, {"tls": {"secretName": "cert"}}, {}):
        fact = region_fact(spec={"gateway": {"auth": {"mode": "None"}, **tls}})
        meta = here(fact.meta, namespace)
        await check_rest(kube, build_gateway_service(meta, fact.spec))
        await check_rest(kube, build_gateway_deployment(meta, fact.spec, image="npc-fleet:1", pull_policy=""))


async def test_a_gates_job_is_accepted_with_its_pod_and_goes_as_it_was_seen(kube: KubeClient, namespace: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    await create_raw(kube, f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    gate = Gate.model_validate({"image": "gate:1", "env": [{"name": "EMPTY"}, {"name": "SET", "value": "1"}]})
    inputs = GateInputs(
        meta=here(adapter_fact().meta, namespace),
        gate=gate,
        archetype="vampire",
        tier="gold",
        digest=digest("v2"),
        served_name="vampire--0123456789ab",
        engine_uid="uid",
        engine_address="10.0.0.7",
        engine_port=8000,
        engine_key_id="key-1",
    )
    manifest = build_gate_job(inputs)
    live = await kube.create(manifest, manager=names.MANAGER_CHILDREN)
    child = parse_child("batch/v1", "Job", live)
    assert child.manifest["metadata"]["annotations"][names.ANNOTATION_GATE] == hash_gate(gate)
    template = manifest["spec"]["template"]
    meta = {"name": "gate", "namespace": namespace, "labels": template["metadata"]["labels"]}
    await kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}, manager="test")
    ref = ObjectRef("batch/v1", "Job", namespace, child.name, child.uid)
    await kube.delete(ref, resource_version=child.resource_version)
    assert await kube.get(ref) is None


async def test_what_is_no_longer_wanted_is_seen_and_taken_away(kube: KubeClient, namespace: str) -> None:
    before = tier_children(namespace, TIERS["everything"])[2]
    after = tier_children(namespace, {"spec": {"accelerator": {"perReplica": 0}}})[2]
    await kube.apply(before, manager=names.MANAGER_CHILDREN)
    live = await kube.get(ObjectRef("apps/v1", "Deployment", namespace, "gold-spot"))
    assert live is not None
    gone = [path for path in find_drift(after, live, manager=names.MANAGER_CHILDREN) if "no longer" in path]
    assert any("podLabels" in path or "labels.team" in path for path in gone), gone
    await check_rest(kube, after)


async def test_a_live_template_can_be_applied_again_as_it_is(kube: KubeClient, namespace: str) -> None:
    for options in TIERS.values():
        manifest = tier_children(namespace, options)[2]
        live = await kube.apply(manifest, manager=names.MANAGER_CHILDREN)
        owned = owned_fields(live, manager=names.MANAGER_CHILDREN)
        assert owned is not None
        kept = {**manifest, "spec": {**manifest["spec"], "template": extract_owned(live, owned)["spec"]["template"]}}
        assert find_drift(kept, live, manager=names.MANAGER_CHILDREN) == ()
        again = await kube.apply(kept, manager=names.MANAGER_CHILDREN)
        assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


async def test_every_pod_of_ours_is_accepted_where_pod_security_is_restricted(kube: KubeClient, namespace: str) -> None:
    for name in ("default", "reader"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        await create_raw(kube, f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    children = [child for options in TIERS.values() for child in tier_children(namespace, options)]
    children += region_children(namespace)
    manifests = [child for child in children if child["kind"] == "Deployment"]
    assert len(manifests) == 2 * len(TIERS) + 1, "two slices of each tier and the gateway"
    for number, manifest in enumerate(manifests):
        spec = {key: value for key, value in manifest["spec"]["template"]["spec"].items() if key != "runtimeClassName"}
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        meta = {"name": f"pod-{number}", "namespace": namespace, "labels": labels}
        await kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, manager="test")


async def create_raw(kube: KubeClient, path: str, manifest: dict[str, Any]) -> None:
    """For kinds the operator itself never touches."""
    session = kube._connection.session()
    try:
        async with session.post(f"{kube._connection.server}{path}", json=manifest) as response:
            assert response.status in (201, 409), await response.text()
    finally:
        await session.close()
