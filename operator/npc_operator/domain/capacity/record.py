"""The decision's memory as it stands in a tier's status, and back. Whole seconds, rounded up: a wait may become longer
by that, never shorter."""

from __future__ import annotations

import math

from npc_operator.api.capacity import CapacityStatus
from npc_operator.domain.capacity.facts import CapacityDecision, CapacityState
from npc_operator.domain.conditions import clip, parse_rfc3339, rfc3339

MESSAGE_LIMIT = 2048


def read_capacity(status: CapacityStatus) -> CapacityState | None:
    """None where nobody has written one. Times that do not parse are as if absent."""
    if status.mode is None:
        return None
    return CapacityState(
        mode=status.mode,
        since=parse_rfc3339(status.since) or 0.0,
        extra_on_demand=max(0, status.extra_on_demand),
        proven_spot=max(0, status.proven_spot),
        storm_until=parse_rfc3339(status.storm_until),
        last_reversal=parse_rfc3339(status.last_reversal),
        last_return=parse_rfc3339(status.last_return),
        enough_since=parse_rfc3339(status.enough_since),
        waiting_since=parse_rfc3339(status.waiting_since),
    )


def write_capacity(decision: CapacityDecision) -> CapacityStatus:
    """What the status says of a decision."""
    state = decision.state
    if state is None:
        return CapacityStatus()
    return CapacityStatus(
        mode=state.mode,
        reason=decision.reason,
        message=clip(decision.message, MESSAGE_LIMIT),
        since=_text(state.since),
        extra_on_demand=state.extra_on_demand,
        proven_spot=state.proven_spot,
        storm_until=_text(state.storm_until),
        last_reversal=_text(state.last_reversal),
        last_return=_text(state.last_return),
        enough_since=_text(state.enough_since),
        waiting_since=_text(state.waiting_since),
    )


def _text(time: float | None) -> str:
    return "" if time is None else rfc3339(math.ceil(time))
