"""Where each kind of object lives in the API: a table instead of discovery, which would cost requests and can be stale.

Only kinds of this table can be read or written; the operator's rights (npc_operator.rights) name the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from npc_operator.api import names
from npc_operator.ports import PortError


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: `api_version` as in manifests, `plural` as in URLs."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """URL path of the collection (no name), of one object, or of its subresource."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


_ALL = (
    *(Resource(names.API_VERSION, kind, plural) for kind, plural in names.PLURALS.items()),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Service", "services"),
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "Namespace", "namespaces", namespaced=False),
    Resource("v1", "Node", "nodes", namespaced=False),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("batch/v1", "Job", "jobs"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource("karpenter.sh/v1", "NodePool", "nodepools", namespaced=False),
    Resource("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer", "capacitybuffers"),
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("events.k8s.io/v1", "Event", "events"),
    Resource("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False),
    Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
)

RESOURCES = MappingProxyType({(resource.api_version, resource.kind): resource for resource in _ALL})


def find_resource(api_version: str, kind: str) -> Resource:
    """The table's entry; raises a PortError that is not retryable for any other kind."""
    try:
        return RESOURCES[(api_version, kind)]
    except KeyError:
        raise PortError(
            f"{api_version} {kind} is not a kind this operator handles", reason="UnknownKind", retryable=False
        ) from None
