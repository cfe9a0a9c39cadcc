"""One parser per kind of sender. Each takes what that sender says as it comes and gives a Notice, or Ignored with a
reason; none of them raises, whatever the input.
"""

from __future__ import annotations

from npc_operator.domain.interruption.notices import Parsed
from npc_operator.domain.interruption.sources import aks, gke, karpenter, kubernetes, nth

__all__ = ["parse_node"]


def parse_node(node: object, *, seen: float) -> tuple[Parsed, ...]:
    """What each of the senders that mark Node objects says about this one."""
    return tuple(
        parse(node, seen=seen)
        for parse in (
            karpenter.parse_node,
            nth.parse_node,
            gke.parse_node,
            aks.parse_node,
            kubernetes.parse_node,
        )
    )
