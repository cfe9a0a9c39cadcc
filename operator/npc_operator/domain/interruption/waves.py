"""All pods of a tier that something is said of, decided together: of the pods of one node, only one may have a
replacement because of a recommendation, and each decision must know of the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from npc_operator.domain.interruption.machine import decide_interruption
from npc_operator.domain.interruption.rebalance import Replacements
from npc_operator.domain.interruption.wishes import PodInterruption, Steps


@dataclass(frozen=True, slots=True)
class Wave:
    """What is wished for each pod, by its uid, and the book of replacements with what was granted now."""

    steps: Mapping[str, Steps]
    replacements: Replacements
    wake_at: float | None


def decide_wave(
    pods: Mapping[str, PodInterruption], nodes: Mapping[str, str], replacements: Replacements, now: float
) -> Wave:
    """The wishes for pods by uid, each on the node that `nodes` names. The order does not depend on that of `pods`."""
    steps: dict[str, Steps] = {}
    for uid in sorted(pods):
        node = nodes.get(uid, "")
        # Without a node there is nothing that could be limited, and nothing that could be recommended.
        at = replacements.next_at(node, now) if node else now
        decided = decide_interruption(replace(pods[uid], rebalance_at=at), now)
        if decided.granted and node:
            replacements = replacements.granted(node, now)
        steps[uid] = decided
    wakes = [step.wake_at for step in steps.values() if step.wake_at is not None]
    return Wave(steps, replacements, min(wakes, default=None))
