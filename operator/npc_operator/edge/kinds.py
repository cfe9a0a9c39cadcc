"""Which kinds are watched and listed: the users' three everywhere, and of everything else only what carries our
label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.domain.facts import Adapter, Child, Pod, Region, Tier, Unreadable

OURS = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"


@dataclass(frozen=True, slots=True)
class Watched:
    """One watched kind; `selector` limits it on the server's side."""

    group: str
    version: str
    plural: str
    kind: str
    selector: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


WATCHED = (
    *(Watched(names.GROUP, names.VERSION, plural, kind) for kind, plural in names.PLURALS.items()),
    Watched("", "v1", "pods", "Pod", OURS),
    Watched("apps", "v1", "deployments", "Deployment", OURS),
    Watched("", "v1", "services", "Service", OURS),
    Watched("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", OURS),
    Watched("batch", "v1", "jobs", "Job", OURS),
    Watched("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", OURS),
)

LISTED_FACTS: tuple[type[Any], ...] = (Region, Tier, Adapter, Pod, Child, Unreadable)
"""Fact types that are whole once every watched kind was listed."""
