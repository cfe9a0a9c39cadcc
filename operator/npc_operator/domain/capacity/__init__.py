"""How many replicas of a tier are on demand and how many on spot, now: floor, fallback, return and storm."""

from npc_operator.domain.capacity.decide import decide_capacity
from npc_operator.domain.capacity.facts import CapacityDecision, CapacityFacts, CapacityState, SliceFact
from npc_operator.domain.capacity.observe import look_at_slice
from npc_operator.domain.capacity.pace import pace
from npc_operator.domain.capacity.record import read_capacity, write_capacity

__all__ = [
    "CapacityDecision",
    "CapacityFacts",
    "CapacityState",
    "SliceFact",
    "decide_capacity",
    "look_at_slice",
    "pace",
    "read_capacity",
    "write_capacity",
]
