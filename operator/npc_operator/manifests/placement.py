"""Where a pod may go and where its images come from, as its user wants it: the same for engines and gateways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from npc_operator.api.meta import SecretRef
from npc_operator.api.scheduling import Scheduling, Toleration


def build_placement(scheduling: Scheduling, own_tolerations: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Fields of a pod's spec. `own_tolerations` come first; they are what the pod needs whoever runs it."""
    placement: dict[str, Any] = {}
    if tolerations := [*own_tolerations, *(_build_toleration(given) for given in scheduling.tolerations)]:
        placement["tolerations"] = tolerations
    if scheduling.node_selector:
        placement["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.priority_class_name:
        placement["priorityClassName"] = scheduling.priority_class_name
    if scheduling.runtime_class_name:
        placement["runtimeClassName"] = scheduling.runtime_class_name
    return placement


def build_pull_secrets(references: Iterable[SecretRef]) -> dict[str, Any]:
    """The field of a pod's spec; none without Secrets."""
    secrets = [{"name": reference.name} for reference in references]
    return {"imagePullSecrets": secrets} if secrets else {}


def _build_toleration(given: Toleration) -> dict[str, Any]:
    toleration: dict[str, Any] = {"operator": given.operator}
    if given.key:
        toleration["key"] = given.key
    if given.value:
        toleration["value"] = given.value
    if given.effect:
        toleration["effect"] = given.effect
    if given.toleration_seconds is not None:
        toleration["tolerationSeconds"] = given.toleration_seconds
    return toleration
