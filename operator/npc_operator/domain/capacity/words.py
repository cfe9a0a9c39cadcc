"""What status and Events say of a capacity decision."""

from __future__ import annotations

from npc_operator.domain.capacity.facts import CapacityState
from npc_operator.domain.conditions import Finding, rfc3339

READY = "SpotAsWanted"
"""Spot has what is wanted of it, or is about to."""
PENDING = "SpotPending"
"""Spot pods get no node."""
LOST = "SpotLost"
"""Ready spot pods were lost to interruptions."""
STORM = "SpotStorm"
"""Interruptions come too thick."""
WAITING = "SpotNotReadyLongEnough"
"""On-demand pods stand in until spot has been ready for a while."""
RETURNING = "ReturningToSpot"
"""On-demand pods that stood in go one by one."""
UNKNOWN = "PodsUnknown"
"""It is not known which pods run: nothing is changed."""


def tell(
    state: CapacityState, *, reason: str, wanted_spot: int, ready_spot: int, short: int, storm_until: float | None
) -> Finding:
    """The reason and a sentence. Only numbers that a change of pods changes: at rest it stays the same."""
    extra = state.extra_on_demand
    stand_in = f"{extra} on-demand replica{'s' if extra != 1 else ''} {'stand' if extra != 1 else 'stands'} in"
    bound = f"; maxReplicas leaves no room for {short} more" if short else ""
    if state.mode == "Storm":
        until = "" if storm_until is None else f" until {rfc3339(storm_until)}"
        return Finding(STORM, f"Spot nodes are interrupted one after the other: {stand_in}{until}{bound}.")
    if state.mode == "Returning":
        return Finding(RETURNING, f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} and will go.")
    if reason == PENDING:
        return Finding(PENDING, f"Spot has no room for {wanted_spot - ready_spot} replicas: {stand_in}{bound}.")
    if reason == LOST:
        return Finding(LOST, f"{wanted_spot - ready_spot} spot replicas were interrupted: {stand_in}{bound}.")
    if state.mode == "Fallback":
        return Finding(WAITING, f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} for now.")
    return Finding(READY, "The on-demand slice is its floor.")
