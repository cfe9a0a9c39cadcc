"""How many replicas of a tier are on demand and how many on spot, now: floor, fallback, return and storm."""

from npc_operator.domain.capacity.decide import decide_capacity
from npc_operator.domain.capacity.facts import CapacityDecision, CapacityFacts, CapacityState, SliceFact
from npc_operator.domain.capacity.record import read_capacity, write_capacity

__all__ = [
    "CapacityDecision",
    "CapacityFacts",
    "CapacityState",
    "SliceFact",
    "decide_capacity",
    "read_capacity",
    "write_capacity",
]
