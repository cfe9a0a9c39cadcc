"""Whether the operator may see the cluster's machines at all: a tier says so while it may not, and serves on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npc_operator.api.meta import Condition
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, condition

NODES_VISIBLE = "NodesVisible"
"""The condition: there only while it is False."""
NODES = "nodes"
"""Under which name, in no namespace, the one NodesFact is filed."""


@dataclass(frozen=True, slots=True)
class NodesFact:
    """The last word of the watch of nodes."""

    hidden: bool


def node_entries(fact: NodesFact | None, previous: Sequence[Condition]) -> tuple[tuple[str, str, Finding], ...]:
    """The tier's condition, as `build_conditions` takes it. Before a new leader's first word the last one still
    holds."""
    if fact is None:
        said = condition(previous, NODES_VISIBLE)
        return () if said is None else ((NODES_VISIBLE, said.status, Finding(said.reason, said.message)),)
    if not fact.hidden:
        return ()
    text = (
        "the operator may not see nodes, so it hears of their end from pods and agents alone;"
        " grant it get, list and watch of nodes with a ClusterRole"
    )
    return ((NODES_VISIBLE, "False", Finding(reasons.NODES_FORBIDDEN, text)),)
