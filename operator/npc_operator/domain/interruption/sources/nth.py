"""AWS Node Termination Handler: the taints it puts on nodes when `taintNode` is on.

Their values are ids of events and say nothing; the effect is the user's choice. Names as in
aws/aws-node-termination-handler, pkg/node/node.go.
"""

from __future__ import annotations

from npc_operator.domain.interruption.notices import USUAL_NOTICE, Ignored, Kind, Notice, Parsed, Source
from npc_operator.domain.interruption.sources.reading import Taint, name_of_node, taints_of

_PREFIX = "aws-node-termination-handler/"
TAINTS = {
    f"{_PREFIX}spot-itn": Kind.INTERRUPTION,
    # The group waits for the hook: whoever drains has time.
    f"{_PREFIX}asg-lifecycle-termination": Kind.DRAIN,
    f"{_PREFIX}scheduled-maintenance": Kind.DRAIN,  # set when it begins to drain, not when it was scheduled
    f"{_PREFIX}rebalance-recommendation": Kind.REBALANCE,
}
"""In the order in which they count."""
_SOURCE = Source.NODE_TERMINATION_HANDLER


def parse_node(node: object, *, seen: float) -> Parsed:
    """A Node object."""
    name = name_of_node(node)
    if name is None:
        return Ignored(_SOURCE, "NotANode", malformed=True)
    there = {taint.key: taint for taint in taints_of(node)}
    for key, kind in TAINTS.items():
        if key in there:
            return Notice(
                source=_SOURCE,
                kind=kind,
                node=name.node,
                instance=name.instance,
                pod_uid=None,
                seen=seen,
                deadline=_deadline(there[key], kind),
            )
    unknown = any(key.startswith(_PREFIX) for key in there)
    return Ignored(_SOURCE, "UnknownTaint" if unknown else "NoTaint")


def _deadline(taint: Taint, kind: Kind) -> float | None:
    if kind is not Kind.INTERRUPTION or taint.added is None:
        return None
    return taint.added + USUAL_NOTICE[_SOURCE]
