"""What status and Events say of a capacity decision."""

from __future__ import annotations

from npc_operator.domain import reasons
from npc_operator.domain.capacity.facts import CapacityState
from npc_operator.domain.conditions import Finding, rfc3339


def tell(
    state: CapacityState,
    *,
    reason: str,
    missing: int,
    wanted_spot: int,
    ready_spot: int,
    short: int,
) -> Finding:
    """The reason and a sentence. Only numbers that a change of pods or of interruptions changes: at rest it stays the
    same. `missing`: spot replicas that `reason` speaks of."""
    extra = state.extra_on_demand
    stand_in = f"{_count(extra, 'on-demand replica')} {'stand' if extra != 1 else 'stands'} in"
    bound = f"; maxReplicas leaves no room for {short} more" if short else ""
    if state.mode == "Storm":
        until = "" if state.storm_until is None else f" until {rfc3339(state.storm_until)}"
        return Finding(reasons.SPOT_STORM, f"Spot nodes are interrupted one after the other: {stand_in}{until}{bound}.")
    if reason == reasons.SPOT_PENDING:
        # While returning, too: what stands in does not go before spot has room again.
        return Finding(reasons.SPOT_PENDING, f"Spot has no room for {_count(missing, 'replica')}: {stand_in}{bound}.")
    if state.mode == "Returning":
        return Finding(
            reasons.RETURNING_TO_SPOT, f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} and will go."
        )
    if reason == reasons.SPOT_LOST:
        were = "were" if missing != 1 else "was"
        return Finding(reasons.SPOT_LOST, f"{_count(missing, 'spot replica')} {were} interrupted: {stand_in}{bound}.")
    if state.mode == "Fallback":
        return Finding(
            reasons.SPOT_NOT_READY_LONG_ENOUGH,
            f"{ready_spot} of {wanted_spot} spot replicas are ready: {stand_in} for now.",
        )
    return Finding(reasons.SPOT_AS_WANTED, "The on-demand slice is its floor.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
