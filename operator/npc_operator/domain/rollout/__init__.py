"""Moving one tier's traffic for one voice from the stable digest to the candidate, and back when the candidate is bad.

The candidate loads beside the stable digest on every pod with a ready engine. Then it takes over at once, or in steps
of NPCs, each of them judged. The stable digest stays on every pod until the candidate has all traffic and has proven
itself with it, so taking it back needs neither fetch nor load. A pod that cannot get the candidate holds the move and
is named, and the old digest serves on.
"""

from npc_operator.domain.rollout.decide import decide_rollout, freeze
from npc_operator.domain.rollout.facts import GRANTED, STAND_INS, Decision, RolloutFacts, StandIn, Turn
from npc_operator.domain.rollout.history import HISTORY

__all__ = [
    "GRANTED",
    "HISTORY",
    "STAND_INS",
    "Decision",
    "RolloutFacts",
    "StandIn",
    "Turn",
    "decide_rollout",
    "freeze",
]
