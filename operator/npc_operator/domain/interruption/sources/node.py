"""A Node object as a fact: what every sender that marks nodes says of it, and whether new pods can come to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.notices import Ignored, Notice
from npc_operator.domain.interruption.sources import parse_node
from npc_operator.domain.interruption.sources.kubernetes import TAINT_CORDON
from npc_operator.domain.interruption.sources.reading import mapping, name_of_node, taints_of

KEEP_AWAY = ("NoSchedule", "NoExecute")
MAX_TAINTS = 64
_CORDON = (TAINT_CORDON, "", "NoSchedule")
_UNUSUAL = frozenset(("UnknownTaint", "UnknownMessage", "UnknownEvent"))
"""Reasons that say that a sender says something new, and not that it says nothing."""


def read_node(node: object) -> NodeFact:
    """The fact; of anything that is no Node one without a name."""
    name = name_of_node(node)
    if name is None:
        return NodeFact(name="", strange=("Kubernetes/NotANode",))
    found = parse_node(node, seen=0.0)
    taints = tuple((taint.key, taint.value, taint.effect) for taint in taints_of(node) if taint.effect in KEEP_AWAY)
    return NodeFact(
        name=name.node,
        instance=name.instance,
        cordoned=mapping(node, "spec").get("unschedulable") is True,
        taints=taints[:MAX_TAINTS],
        notices=tuple(item for item in found if isinstance(item, Notice)),
        strange=tuple(
            f"{item.source}/{item.reason}" for item in found if isinstance(item, Ignored) and item.reason in _UNUSUAL
        ),
    )


def is_closed(node: NodeFact | None, tolerations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no new pod with these tolerations (as in manifests) can come to a node; None: the node is gone."""
    if node is None:
        return True
    # To the scheduler a cordon is this taint, though nobody may have set it yet: who tolerates all comes all the same.
    taints = (*node.taints, _CORDON) if node.cordoned else node.taints
    return any(not any(_tolerates(one, taint) for one in tolerations) for taint in taints)


def _tolerates(toleration: Mapping[str, Any], taint: tuple[str, str, str]) -> bool:
    """As the scheduler decides it (k8s.io/api/core/v1, Toleration.ToleratesTaint)."""
    key, value, effect = taint
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == value
