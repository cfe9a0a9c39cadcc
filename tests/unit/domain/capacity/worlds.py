"""Small builders for capacity decisions, and a market that draws its moves from hypothesis."""

from __future__ import annotations

from typing import Any

from npc_operator.api.capacity import Capacity
from npc_operator.domain.capacity import CapacityFacts, CapacityState, SliceFact

NOW = 1_800_000_000.0


def slice_(ready: int = 0, *, desired: int | None = None, **more: Any) -> SliceFact:
    counted = ready + more.get("starting", 0) + more.get("pending", 0) + more.get("leaving", 0)
    return SliceFact(desired=counted if desired is None else desired, ready=ready, **more)


def facts(
    spot: SliceFact | None,
    on_demand: SliceFact | None = None,
    *,
    wanted: int = 10,
    max_replicas: int = 20,
    ago: tuple[float, ...] = (),
    now: float = NOW,
    state: CapacityState | None = None,
    capacity: dict[str, Any] | None = None,
) -> CapacityFacts:
    """Ten replicas, one of them on demand; `ago`: seconds since each interruption."""
    return CapacityFacts(
        wanted=wanted,
        max_replicas=max_replicas,
        capacity=Capacity.model_validate(capacity or {}),
        spot=spot,
        on_demand=slice_(1) if on_demand is None else on_demand,
        interruptions=tuple(now - one for one in ago),
        state=state,
    )


def state(mode: str = "Normal", extra: int = 0, *, proven: int = 9, **more: Any) -> CapacityState:
    """A memory an hour old."""
    return CapacityState(
        **{
            "mode": mode,
            "since": NOW - 3600,
            "extra_on_demand": extra,
            "proven_spot": proven,
            "last_reversal": NOW - 3600 if extra else None,
            **more,
        }
    )
