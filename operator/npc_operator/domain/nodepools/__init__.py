"""The nodes of a tier: where something of it may be outside of its namespace, what its AutoScaling groups should be,
how long its deletion waits for them, and what is said of it."""

from __future__ import annotations

from npc_operator.domain.nodepools.finalizer import REMOVAL_SECONDS, Hold, decide_hold
from npc_operator.domain.nodepools.groups import GroupDescription, LiveGroup, describe_groups, plan_group
from npc_operator.domain.nodepools.places import HEADROOM, KARPENTER, Place, format_places, parse_places, wanted_places
from npc_operator.domain.nodepools.report import NodePoolsFact, summarize

__all__ = [
    "HEADROOM",
    "KARPENTER",
    "REMOVAL_SECONDS",
    "GroupDescription",
    "Hold",
    "LiveGroup",
    "NodePoolsFact",
    "Place",
    "decide_hold",
    "describe_groups",
    "format_places",
    "parse_places",
    "plan_group",
    "summarize",
    "wanted_places",
]
