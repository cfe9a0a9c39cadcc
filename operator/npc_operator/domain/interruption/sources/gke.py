"""Google Kubernetes Engine: the taints and the label it puts on nodes before a host event or a preemption.

Spot VMs get 30 s. Nodes with GPUs cannot migrate, so host maintenance ends them: a window opens (a taint that lasts
until it is over), then the termination impends.
"""

from __future__ import annotations

from npc_operator.domain.interruption.notices import USUAL_NOTICE, Ignored, Kind, Notice, Parsed, Source
from npc_operator.domain.interruption.sources.reading import mapping, name_of_node, taints_of

TAINT_IMPENDING = "cloud.google.com/impending-node-termination"
TAINT_WINDOW = "cloud.google.com/maintenance-window-started"
LABEL_MAINTENANCE = "cloud.google.com/active-node-maintenance"
_SOURCE = Source.GKE


def parse_node(node: object, *, seen: float) -> Parsed:
    """A Node object."""
    name = name_of_node(node)
    if name is None:
        return Ignored(_SOURCE, "NotANode", malformed=True)
    there = {taint.key: taint for taint in taints_of(node)}
    deadline: float | None = None
    if TAINT_IMPENDING in there:
        kind, added = Kind.INTERRUPTION, there[TAINT_IMPENDING].added
        deadline = None if added is None else added + USUAL_NOTICE[_SOURCE]
    elif mapping(node, "metadata", "labels").get(LABEL_MAINTENANCE) == "ONGOING" or TAINT_WINDOW in there:
        kind = Kind.DRAIN
    else:
        return Ignored(_SOURCE, "NoTaint")
    return Notice(
        source=_SOURCE,
        kind=kind,
        node=name.node,
        instance=name.instance,
        pod_uid=None,
        seen=seen,
        deadline=deadline,
    )
