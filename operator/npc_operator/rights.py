"""Every right the operator needs, with the reason: one table for the charts' RBAC, for the check at start, and for
whoever reviews them.

No wildcards, no Secrets cluster-wide: those rights come per namespace, with the region's own chart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from npc_operator.api.names import GROUP, KIND_TIER, PLURALS


class Scope(StrEnum):
    """Where a right is granted."""

    WATCHED = "watched"  # everywhere the operator looks: a ClusterRole, or a Role in each of the named namespaces
    REGION = "region"  # in each namespace that holds a region: a Role of the npc-region chart
    OWN = "own"  # in the operator's own namespace
    NODES = "nodes"  # of the whole cluster, with a ClusterRole: where only some namespaces are watched it is left out
    POOLS = "pools"  # everywhere, where nodePools.enabled of the npc-operator chart says so


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on one resource (`resource` may name a subresource: `pods/eviction`)."""

    scope: Scope
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class PathRight:
    """Verbs on paths of the API server that are no resources."""

    paths: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str


_READ = ("get", "list", "watch")
# Server-side apply is a patch, and a create where nothing is there yet.
_APPLY = (*_READ, "create", "patch", "delete")
# Listed now and then, not watched: a cluster need not know these kinds.
_POOLS = ("get", "list", "create", "patch", "delete")

RIGHTS: tuple[Right, ...] = (
    *(Right(Scope.WATCHED, GROUP, plural, _READ, "what users want") for plural in sorted(PLURALS.values())),
    *(
        Right(Scope.WATCHED, GROUP, f"{plural}/status", ("get", "patch"), "to say what was seen")
        for plural in sorted(PLURALS.values())
    ),
    *(
        Right(Scope.WATCHED, GROUP, f"{plural}/finalizers", ("update",), "owner references that block deletion")
        for plural in sorted(PLURALS.values())
    ),
    Right(Scope.WATCHED, "", "pods", (*_READ, "patch"), "engines, gateways and gates; how far an interruption is"),
    Right(Scope.WATCHED, "", "pods/eviction", ("create",), "engine pods whose node goes away, as budgets allow"),
    Right(Scope.WATCHED, "", "services", _APPLY, "children of tiers and regions"),
    Right(Scope.WATCHED, "apps", "deployments", _APPLY, "children of tiers and regions"),
    Right(Scope.WATCHED, "batch", "jobs", (*_READ, "create", "delete"), "gates: users' own tests of candidates"),
    Right(Scope.WATCHED, "policy", "poddisruptionbudgets", _APPLY, "children of tiers and regions"),
    Right(Scope.WATCHED, "networking.k8s.io", "networkpolicies", _APPLY, "children of tiers and regions"),
    Right(Scope.WATCHED, "events.k8s.io", "events", ("create", "patch"), "to say what happened"),
    Right(Scope.NODES, "", "nodes", _READ, "nodes that go away: taints, conditions, cordons"),
    # Bound cluster-wide even where only some namespaces are watched: a namespace that is being deleted takes its Roles
    # with it, and the finalizer could not be taken off any more.
    Right(Scope.POOLS, GROUP, PLURALS[KIND_TIER], ("patch",), "the finalizer of tiers with nodes of their own"),
    Right(Scope.POOLS, "karpenter.sh", "nodepools", _POOLS, "nodePools.provider.karpenter"),
    Right(Scope.POOLS, "autoscaling.x-k8s.io", "capacitybuffers", _POOLS, "nodePools.headroomReplicas"),
    Right(Scope.REGION, "", "secrets", (*_READ, "create", "patch"), "credentials referred to, and ours"),
    Right(Scope.OWN, "coordination.k8s.io", "leases", ("get", "create", "update"), "leader election"),
)
"""Ordered as it is read; the charts keep the order."""

PATH_RIGHTS: tuple[PathRight, ...] = (
    PathRight(
        ("/.well-known/openid-configuration", "/openid/v1/jwks"),
        ("get",),
        "callers that prove themselves with service account tokens",
    ),
)
"""Only a ClusterRole can grant these. Where the operator may have none (watchNamespaces), Kubernetes' own role
system:service-account-issuer-discovery, which every service account has unless it was taken away, grants the same.
"""
