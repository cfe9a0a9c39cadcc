"""Everything a region needs, brought up in order: cluster, images, models, S3 server, charts.

Each step is idempotent and takes a moment when there is nothing to do, so the demo and the tests simply call it; the
long ones (first builds, downloads) are tools of their own that tell their progress on standard error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hack.cluster import api
from hack.models.catalog import Catalog, make_catalog
from hack.models.digest import digest_of
from hack.models.environment import cache_root, engine_python
from hack.stack import commands, storage
from hack.stack.helm import Helm
from hack.stack.kubectl import Kubectl, Object
from hack.stack.storage import Storage

OPERATOR_NAMESPACE = "npc-system"
CRDS_RELEASE = "npc-crds"
OPERATOR_RELEASE = "npc-operator"
OPERATOR_DEPLOYMENT = "npc-operator"

A = TypeVar("A")
B = TypeVar("B")

Progress = Callable[[str], None]
"""Told one line when something begins or ends."""


@dataclass(frozen=True, slots=True)
class Images:
    """Names of the images that every node has."""

    fleet: str
    engine_base: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A cluster with images, models and storage; the operator too after `install_operator`."""

    cluster: api.ClusterInfo
    kubectl: Kubectl
    helm: Helm
    images: Images
    catalog: Catalog
    storage: Storage
    vllm_packages: Path | None
    """Folder on every node's host with a real vLLM; None if it was not asked for."""

    def adapter(self, name: str) -> tuple[str, str]:
        """(uri, digest) of a catalog adapter such as `vampire-v1`, as `source` of a variant takes them."""
        return self.storage.uri(_prefix(name)), f"sha256:{self.catalog.digests[name]}"

    def publish(self, folder: Path, name: str) -> tuple[str, str]:
        """Upload an adapter's folder under `name` and return (uri, digest) for a variant's source. Blocks."""
        return self.storage.upload(folder, _prefix(name)), f"sha256:{digest_of(folder)}"

    @property
    def model_uri(self) -> str:
        """The base model of all tiers."""
        return self.storage.uri("base")


def _prefix(adapter: str) -> str:
    return f"adapters/{adapter}"


def _silent(line: str) -> None:
    """Progress that nobody wants."""


async def bring_up(progress: Progress = _silent, *, vllm: bool = True) -> Stack:
    """Cluster, images on its nodes, models in its S3 server; with `vllm` the packages of a real engine too.

    Raises CommandError, KubectlError, NotYet, and EngineEnvironmentError before anything is begun, each with a message
    for people.
    """
    if vllm:
        engine_python()
    progress("cluster: real etcd, API server and nodes on this host")
    packages, _ = await _together(_packages(vllm), commands.run_tool("hack.cluster", "up"))
    cluster = await asyncio.to_thread(api.find)
    if cluster is None:
        raise commands.CommandError("the cluster came up and went away again")
    kubectl = Kubectl(await asyncio.to_thread(api.binary, "kubectl"), cluster.kubeconfig)
    helm = Helm(await asyncio.to_thread(api.binary, "helm"), cluster.kubeconfig)
    progress("images: operator, agent and gateway in one; Python for the engines")
    fleet, engine_base = (await commands.run_tool("hack.images", "--load", "fleet", "engine-base")).split()
    progress("models: a base model and adapters, made from seeds")
    catalog = await asyncio.to_thread(make_catalog, cache_root() / "models")
    progress("S3: a real server in the cluster, filled with them")
    server = await storage.start(
        kubectl,
        driver=cluster.driver,
        image=engine_base,
        binary=await asyncio.to_thread(api.binary, "versitygw"),
    )
    await storage.upload_all(
        server, [(catalog.base, "base"), *((catalog.adapter(name), _prefix(name)) for name in catalog.digests)]
    )
    return Stack(cluster, kubectl, helm, Images(fleet, engine_base), catalog, server, packages)


async def install_operator(stack: Stack, **values: Any) -> None:
    """Both cluster-wide charts; the operator leads when this returns. `values` go over the chart's and ours."""
    await stack.helm.upgrade(CRDS_RELEASE, CRDS_RELEASE, OPERATOR_NAMESPACE, {})
    await stack.helm.upgrade(
        OPERATOR_RELEASE, "npc-operator", OPERATOR_NAMESPACE, {**operator_values(stack.images), **values}
    )
    await stack.kubectl.until(
        "deployment", OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE, is_rolled_out, timeout=400, what="rolled out"
    )


async def uninstall_operator(kubectl: Kubectl, helm: Helm, *, crds: bool = True) -> None:
    """Take the charts away again, after the regions: the operator first, then the kinds with what is left of them."""
    await helm.uninstall(OPERATOR_RELEASE, OPERATOR_NAMESPACE, "--wait")
    if crds:
        await helm.uninstall(CRDS_RELEASE, OPERATOR_NAMESPACE)
        # The chart keeps the CRDs on purpose: deleting them deletes every object of theirs.
        for plural in ("npcregions", "gputiers", "archetypeadapters"):
            await kubectl.delete("crd", f"{plural}.npcfleet.dev", "")
    await kubectl.delete("namespace", OPERATOR_NAMESPACE, "")


def operator_values(images: Images) -> dict[str, Any]:
    """Values of charts/npc-operator for an image that is on the nodes and comes from no registry."""
    repository, tag = images.fleet.rsplit(":", 1)
    return {"image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}}


def is_rolled_out(deployment: Object) -> bool:
    """Every replica is of the present template and available, and no other is left."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0)
        == status.get("availableReplicas", 0)
        == status.get("replicas", 0)
        == wanted
    )


async def _packages(wanted: bool) -> Path | None:
    return Path((await commands.run_tool("hack.models", "venv")).strip()) if wanted else None


async def _together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both results; when one fails the other is stopped before the failure goes on."""
    one, two = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await asyncio.gather(one, two)
    except BaseException:
        for task in (one, two):
            task.cancel()
        await asyncio.gather(one, two, return_exceptions=True)
        raise
