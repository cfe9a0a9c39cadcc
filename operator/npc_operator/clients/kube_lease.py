"""The Lease of an election as it lies on the API server."""

from __future__ import annotations

from npc_operator.api.names import MANAGER_CHILDREN
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.resources import find_resource
from npc_operator.ports import Manifest, NotFound


class KubeLease:
    """The Lease of an election on the API server (clients.lease.Leases)."""

    def __init__(self, kube: KubeClient, *, namespace: str, name: str) -> None:
        self._kube = kube
        self._resource = find_resource("coordination.k8s.io/v1", "Lease")
        self._namespace = namespace
        self._name = name

    async def read(self, *, seconds: float) -> Manifest | None:
        try:
            found: Manifest = await self._kube.request(
                "get", self._resource, self._resource.path(self._namespace, self._name), seconds=seconds
            )
        except NotFound:
            return None
        return found

    async def write(self, lease: Manifest, *, seconds: float) -> Manifest:
        replacing = "resourceVersion" in lease["metadata"]
        written: Manifest = await self._kube.request(
            "update" if replacing else "create",
            self._resource,
            self._resource.path(self._namespace, self._name if replacing else ""),
            params={"fieldManager": MANAGER_CHILDREN},
            body=lease,
            seconds=seconds,
        )
        return written
