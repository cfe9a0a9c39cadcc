"""What status and Events say of a capacity decision."""

from __future__ import annotations

from npc_operator.domain import reasons
from npc_operator.domain.capacity.facts import CapacityState
from npc_operator.domain.conditions import Finding, rfc3339


def tell(
    state: CapacityState, *, reason: str, wanted_spot: int, ready_spot: int, short: int, storm_until: float | None
) -> Finding:
    """The reason and a sentence. Only numbers that a change of pods changes: at rest it stays the same."""
    extra = state.extra_on_demand
    stand_in = f"{extra} on-demand replica{'s' if extra != 1 else ''} {'stand' if extra != 1 else 'stands'} in"
    bound = f"; maxReplicas leaves no room for {short} more" if short else ""
    if state.mode == "Storm":
        until = "" if storm_until is None else f" until {rfc3339(storm_until)}"
        return Finding(reasons.SPOT_STORM, f"Spot nodes are interrupted one after the other: {stand_in}{until}{bound}.")
    if state.mode == "Returning":
        return Finding(
            reasons.RETURNING_TO_SPOT, f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} and will go."
        )
    if reason == reasons.SPOT_PENDING:
        return Finding(
            reasons.SPOT_PENDING, f"Spot has no room for {wanted_spot - ready_spot} replicas: {stand_in}{bound}."
        )
    if reason == reasons.SPOT_LOST:
        return Finding(
            reasons.SPOT_LOST, f"{wanted_spot - ready_spot} spot replicas were interrupted: {stand_in}{bound}."
        )
    if state.mode == "Fallback":
        return Finding(
            reasons.SPOT_NOT_READY_LONG_ENOUGH,
            f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} for now.",
        )
    return Finding(reasons.SPOT_AS_WANTED, "The on-demand slice is its floor.")
