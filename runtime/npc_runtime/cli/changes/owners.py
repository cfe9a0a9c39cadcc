"""Who keeps a field: a tool that applies manifests from a repository puts back what somebody changes by hand.

The API server writes down for each field who set it last (metadata.managedFields). Hands (kubectl, consoles, this tool)
set a field once; keepers set it again at their next sync or upgrade, so a change beside them is either lost or a fight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import vocabulary as v
from ..plain import Json, entries, mapping, text
from .plan import Change, Path

MANAGER = "kubectl-npc"
"""Our own name as a field manager."""
_KEEPERS = re.compile(
    r"(?i)argo|flux|kustomize-controller|helm|terraform|pulumi|fleet|config-?sync|configmanagement|crossplane|spinnaker"
)
"""Tools that write with Update instead of Apply and come again all the same."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """A manager that will set these fields again."""

    manager: str
    fields: tuple[str, ...]
    where: str
    """What to change instead, as a sentence's end."""
    when: str
    """When it sets them again."""


def find_keeper(target: Json, changes: Iterable[Change]) -> Keeper | None:
    """The first manager that keeps one of the fields to be changed; None where nobody does."""
    wanted = tuple(changes)
    meta = mapping(target.get("metadata"))
    for entry in entries(meta.get("managedFields")):
        manager = text(entry.get("manager"))
        if entry.get("subresource") or not _keeps(manager, text(entry.get("operation"))):
            continue
        owned = mapping(entry.get("fieldsV1"))
        fields = tuple(one.name for one in wanted if _owns(owned, one.path))
        if fields:
            return Keeper(manager, fields, *_place(manager, target))
    return None


def _keeps(manager: str, operation: str) -> bool:
    """Whether a manager comes again: kubectl is a hand whichever way it writes, anything else that applies is not."""
    if manager.startswith("kubectl"):
        return False
    return operation == "Apply" or _KEEPERS.search(manager) is not None


def _owns(owned: Json, path: Path) -> bool:
    """Whether a set of fields holds this one, the whole that it is part of, or a part of it."""
    node: Mapping[str, Any] = owned
    for part in path:
        below = _child(node, part)
        if below is None:
            # A leaf above the field is a list or map that is owned as a whole.
            return not node and node is not owned
        node = below
    return True


def _child(node: Mapping[str, Any], part: str | tuple[str, str]) -> Mapping[str, Any] | None:
    if isinstance(part, str):
        found = node.get(f"f:{part}")
        return mapping(found) if found is not None else None
    for key, value in node.items():
        if key.startswith("k:") and _chosen(key[2:]).get(part[0]) == part[1]:
            return mapping(value)
    return None


def _chosen(key: str) -> Json:
    try:
        return mapping(json.loads(key))
    except ValueError:
        return {}


def _place(manager: str, target: Json) -> tuple[str, str]:
    """(what to change instead, when it comes again), as far as labels and annotations tell."""
    meta = mapping(target.get("metadata"))
    labels, notes = mapping(meta.get("labels")), mapping(meta.get("annotations"))
    lowered = manager.lower()
    values = _chart_values(target) if text(labels.get("helm.sh/chart")).startswith("npc-region-") else ""
    place = f"in the values ({values})" if values else "in its manifest"
    if "argo" in lowered:
        name = text(notes.get("argocd.argoproj.io/tracking-id")).partition(":")[0]
        name = name or text(labels.get("app.kubernetes.io/instance"))
        return f"{place} in the repository of Argo CD's application {name or '(unknown)'}", "at its next sync"
    if "kustomize" in lowered or "flux" in lowered:
        name = text(labels.get("kustomize.toolkit.fluxcd.io/name"))
        return f"{place} in the repository of Flux's Kustomization {name or '(unknown)'}", "at its next reconciliation"
    if "helm" in lowered:
        name = text(labels.get("helm.toolkit.fluxcd.io/name"))
        if name:
            return f"{place} of Flux's HelmRelease {name}", "at its next upgrade"
        name = text(notes.get("meta.helm.sh/release-name"))
        return f"{place} of Helm's release {name or '(unknown)'}", "at the next helm upgrade"
    return f"{place}, wherever {manager} applies it from", "when it applies again"


def _chart_values(target: Json) -> str:
    """Where the npc-region chart has this object's spec."""
    name = text(mapping(target.get("metadata")).get("name"))
    kinds = {v.KIND_REGION: "region", v.KIND_TIER: f"tiers.{name}", v.KIND_ADAPTER: f"adapters.{name}"}
    return kinds.get(text(target.get("kind")), "")
