"""Karpenter: the taint it puts on a node before it drains it.

The taint comes for everything that ends in a drain: consolidation, drift, expiry, and the messages of Karpenter's own
queue. It does not say which, and it is taken away again when Karpenter thinks better of it. The time at which Karpenter
stops waiting for pods stands in an annotation, where the pool has a terminationGracePeriod.

Names as in sigs.k8s.io/karpenter v1.14, pkg/apis/v1 (taints.go, labels.go); the taint of the
releases before v1 is known, too.
"""

from __future__ import annotations

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source
from npc_operator.domain.interruption.sources.reading import (
    mapping,
    name_of_node,
    rfc3339,
    taints_of,
)

TAINT_DISRUPTED = "karpenter.sh/disrupted"
TAINT_BEFORE_V1 = "karpenter.sh/disruption"
TERMINATION_ANNOTATION = "karpenter.sh/nodeclaim-termination-timestamp"
_SOURCE = Source.KARPENTER


def parse_node(node: object, *, seen: float) -> Parsed:
    """A Node object."""
    name = name_of_node(node)
    if name is None:
        return Ignored(_SOURCE, "NotANode", malformed=True)
    for taint in taints_of(node):
        if taint.key == TAINT_DISRUPTED or (taint.key == TAINT_BEFORE_V1 and taint.value == "disrupting"):
            deadline = rfc3339(mapping(node, "metadata", "annotations").get(TERMINATION_ANNOTATION))
            return Notice(
                source=_SOURCE,
                kind=Kind.DRAIN,
                node=name.node,
                instance=name.instance,
                pod_uid=None,
                seen=seen,
                deadline=deadline,
            )
    return Ignored(_SOURCE, "NoTaint")
