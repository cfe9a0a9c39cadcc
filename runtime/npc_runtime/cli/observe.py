"""One look at a namespace. What a caller may not read is noted and left out, unless nothing makes sense without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from . import parse, paths
from . import vocabulary as v
from .facts import Lease, Unread, World
from .parse_voices import parse_adapter
from .ports import Cluster, Forbidden, NoCluster, NotFound, Object

T = TypeVar("T")

OURS = "app.kubernetes.io/part-of=npc-fleet"
"""On every child of a region."""


class Look:
    """Reads for one World and remembers what it could not read."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.unread: list[Unread] = []

    def ours(self, kind: str, namespace: str, make: Callable[[Object], T]) -> tuple[T, ...]:
        """Objects of one of our kinds: without these there is nothing to say, so a refusal goes to the caller."""
        try:
            return tuple(make(one) for one in self._cluster.list(paths.own(kind, namespace)))
        except NotFound:
            raise NotFound(
                f"the cluster does not know the kind {kind}.{v.GROUP}: the CRDs are not installed",
                step="helm install npc-crds charts/npc-crds --namespace npc-system --create-namespace",
            ) from None

    def beside(self, what: str, path: str, make: Callable[[Object], T], *, selector: str = "") -> tuple[T, ...]:
        """Objects that explain ours: without them less can be said, and that is said."""
        try:
            return tuple(make(one) for one in self._cluster.list(path, selector=selector))
        except (Forbidden, NoCluster) as error:
            # Not answered is not known either; whether anybody answers at all was seen from our own kinds.
            self.unread.append(Unread(what=what, why=str(error), refused=isinstance(error, Forbidden)))
            return ()

    def lease(self, namespace: str) -> Lease | None:
        try:
            return parse.parse_lease(self._cluster.get(paths.lease(namespace)))
        except NotFound:
            return None
        except (Forbidden, NoCluster) as error:
            self.unread.append(Unread(what="leases", why=str(error), refused=isinstance(error, Forbidden)))
            return None


def observe(cluster: Cluster, namespace: str, *, operator_namespace: str) -> World:
    """Everything `why` looks at. Raises CliError where our own kinds cannot be read."""
    look = Look(cluster)
    return World(
        namespace=namespace,
        regions=look.ours(v.KIND_REGION, namespace, parse.parse_region),
        tiers=look.ours(v.KIND_TIER, namespace, parse.parse_tier),
        adapters=look.ours(v.KIND_ADAPTER, namespace, parse_adapter),
        pods=look.beside("pods", paths.core("pods", namespace), parse.parse_pod, selector=OURS),
        deployments=look.beside("deployments", paths.deployments(namespace), parse.parse_deployment, selector=OURS),
        nodes=look.beside("nodes", paths.core("nodes"), parse.parse_node),
        events=look.beside("events", paths.core("events", namespace), parse.parse_event),
        lease=look.lease(operator_namespace),
        operator_namespace=operator_namespace,
        unread=tuple(look.unread),
    )


def observe_glance(cluster: Cluster, namespaces: Sequence[str], *, operator_namespace: str) -> tuple[World, ...]:
    """Only our own kinds and the Lease, for `status`: what can be asked every two seconds. An empty name means all
    namespaces.
    """
    look = Look(cluster)
    worlds = []
    for asked in namespaces:
        regions = look.ours(v.KIND_REGION, asked, parse.parse_region)
        tiers = look.ours(v.KIND_TIER, asked, parse.parse_tier)
        adapters = look.ours(v.KIND_ADAPTER, asked, parse_adapter)
        lease = look.lease(operator_namespace)
        metas = [*(one.meta for one in regions), *(one.meta for one in tiers), *(one.meta for one in adapters)]
        found = [asked] if asked else sorted({meta.namespace for meta in metas})
        worlds += [
            World(
                namespace=name,
                regions=tuple(one for one in regions if one.meta.namespace == name),
                tiers=tuple(one for one in tiers if one.meta.namespace == name),
                adapters=tuple(one for one in adapters if one.meta.namespace == name),
                lease=lease,
                operator_namespace=operator_namespace,
                unread=tuple(look.unread),
            )
            for name in found
        ]
    return tuple(worlds)
