"""The rights table: enough for all the operator does; what is missing is named, with the command that mends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

import pytest

from npc_operator.clients.connection import connect
from npc_operator.clients.issuer import IssuerWatch
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.preflight import describe, find_problems
from npc_operator.domain.facts import ISSUER, IssuerFact, Region
from npc_operator.edge.kinds import WATCHED
from npc_operator.loop.store import Store
from npc_operator.ports import ObjectRef, PortError
from npc_operator.rights import RIGHTS, Scope
from npc_operator.wiring.process import SystemClock
from tests.support.builders import region_fact
from tests.support.granting import await_granted
from tests.support.kube_env import KubeEnv
from tests.support.rbac import cluster_wide, in_namespace


def apply_all(env: KubeEnv, user: str, objects: list[dict[str, Any]]) -> None:
    """Grant a user what these say."""
    env.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    await_granted(env, user, objects)


async def client_of(env: KubeEnv, user: str) -> KubeClient:
    return KubeClient(await connect(kubeconfig=str(env.kubeconfig_for(user))), metrics=Metrics())


@pytest.fixture
def user() -> str:
    return f"operator-{uuid.uuid4().hex[:6]}"


def test_the_table_has_no_wildcards_and_reads_no_secrets_cluster_wide() -> None:
    for right in RIGHTS:
        assert "*" not in (right.group, right.resource, *right.verbs)
        assert right.resource != "secrets" or right.scope is Scope.REGION
        assert right.why


async def test_without_rights_every_missing_one_is_named_with_the_command_that_mends_it(
    env: KubeEnv, user: str, namespace: str
) -> None:
    kube = await client_of(env, user)
    problems = await find_problems(kube, namespaces=(), own_namespace=namespace)
    await kube.close()
    text = describe(problems)
    watched = {f"{right.resource}.{right.group}".rstrip(".") for right in RIGHTS if right.scope is Scope.WATCHED}
    assert all(any(resource in problem.what for problem in problems) for resource in watched)
    assert f"leases.coordination.k8s.io in namespace {namespace}" in text
    assert f"helm upgrade --install npc-operator charts/npc-operator -n {namespace}" in text


async def test_the_table_satisfies_the_check_cluster_wide(env: KubeEnv, user: str, namespace: str) -> None:
    apply_all(env, user, [*cluster_wide(user, Scope.WATCHED, Scope.NODES), *in_namespace(user, namespace, Scope.OWN)])
    kube = await client_of(env, user)
    assert await find_problems(kube, namespaces=(), own_namespace=namespace) == []
    await kube.close()


async def test_the_table_satisfies_the_check_for_named_namespaces_only_there(
    env: KubeEnv, user: str, namespace: str
) -> None:
    apply_all(env, user, in_namespace(user, namespace, Scope.WATCHED, Scope.OWN))
    kube = await client_of(env, user)
    assert await find_problems(kube, namespaces=(namespace,), own_namespace=namespace) == []
    elsewhere = await find_problems(kube, namespaces=("default",), own_namespace=namespace)
    await kube.close()
    assert elsewhere
    assert all("default" in problem.what for problem in elsewhere)


async def test_the_table_lets_the_operator_read_who_signs_tokens_and_what_it_reads_is_understood(
    env: KubeEnv, user: str, namespace: str
) -> None:
    apply_all(env, user, cluster_wide(user, Scope.WATCHED))
    store, kube = Store(SystemClock()), await client_of(env, user)
    accounts = {"audience": "npc", "allowed": ["game:server"]}
    wanting = region_fact(spec={"gateway": {"auth": {"mode": "None", "serviceAccounts": accounts}}})
    store.put(Region, namespace, "eu-west", wanting)
    learned = asyncio.Event()
    store.subscribe(lambda change: learned.set() if change.kind is IssuerFact else None)
    reading = asyncio.create_task(IssuerWatch(kube=kube, store=store).run())
    try:
        await asyncio.wait_for(learned.wait(), 60)
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await kube.close()
    fact = store.get(IssuerFact, "", ISSUER)
    assert fact is not None
    assert not fact.error
    assert fact.issuer.startswith("https://")
    assert json.loads(fact.keys)["keys"][0]["kty"] == "RSA"


async def test_missing_crds_are_named_with_their_own_command(env: KubeEnv, client: KubeClient) -> None:
    env.kubectl("delete", "crd", "gputiers.npcfleet.dev")
    try:
        problems = await find_problems(client, namespaces=(), own_namespace="default")
    finally:
        env.install_crds()
    assert [problem.mend for problem in problems] == ["helm upgrade --install npc-crds charts/npc-crds -n default"]
    assert "GpuTier" in problems[0].what


@pytest.mark.parametrize("mode", ["cluster-wide", "named namespace"])
async def test_the_table_is_enough_for_what_the_operator_does(
    env: KubeEnv, client: KubeClient, user: str, namespace: str, mode: str
) -> None:
    if mode == "cluster-wide":
        apply_all(
            env, user, [*cluster_wide(user, Scope.WATCHED), *in_namespace(user, namespace, Scope.REGION, Scope.OWN)]
        )
    else:
        apply_all(env, user, in_namespace(user, namespace, Scope.WATCHED, Scope.REGION, Scope.OWN))
    kube = KubeClient(
        await connect(kubeconfig=str(env.kubeconfig_for(user))),
        metrics=Metrics(),
        namespaces=() if mode == "cluster-wide" else (namespace,),
    )
    tier = await client.apply(a_tier(namespace), manager="user")
    owner = {
        "apiVersion": tier["apiVersion"],
        "kind": "GpuTier",
        "name": "bronze",
        "uid": tier["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    for watched in WATCHED:
        async for _ in kube.list(watched.api_version, watched.kind, namespace=None, selector=watched.selector):
            pass
    for child in children(namespace):
        child["metadata"]["ownerReferences"] = [owner]
        live = await kube.apply(child, manager="npc-operator")
        if child["kind"] not in ("Secret", "Event"):
            meta = live["metadata"]
            await kube.delete(
                ObjectRef(child["apiVersion"], child["kind"], namespace, meta["name"], meta["uid"]),
                resource_version=meta["resourceVersion"],
            )
    status = {"observedGeneration": 1}
    await kube.apply({**a_tier(namespace, spec=False), "status": status}, manager="s", subresource="status")
    assert (await kube.list_version("v1", "Secret", namespace=namespace, name="npc-fleet-internal"))[0] is not None
    with pytest.raises(PortError) as refused:
        await kube.apply(a_tier(namespace), manager="npc-operator")
    assert refused.value.reason == "Forbidden", "the operator never writes into spec, and may not"
    with pytest.raises(PortError) as refused:
        [item async for item in kube.list("v1", "Secret", namespace="kube-system")]
    assert refused.value.reason == "Forbidden"
    await kube.close()


def a_tier(namespace: str, *, spec: bool = True) -> dict[str, Any]:
    tier: dict[str, Any] = {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": "GpuTier",
        "metadata": {"name": "bronze", "namespace": namespace},
    }
    if spec:
        tier["spec"] = {"quality": "Bronze", "model": {"uri": "s3://models/small", "parametersMillions": 3000}}
    return tier


def children(namespace: str) -> list[dict[str, Any]]:
    labels = {"app": "x"}
    meta = {"namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "npc-operator"}}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**meta, "name": "d"},
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "name": "s"},
            "spec": {"selector": labels, "ports": [{"port": 80, "protocol": "TCP"}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {**meta, "name": "p"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {**meta, "name": "n"},
            "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**meta, "name": "npc-fleet-internal"},
            "data": {"token": "dA=="},
        },
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {**meta, "name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Normal",
            "reason": "Tested",
            "action": "Tested",
            "reportingController": "npcfleet.dev/test",
            "reportingInstance": "one",
            "regarding": {"kind": "GpuTier", "name": "bronze", "namespace": namespace},
        },
    ]
