"""How many replicas a tier wants, and how they are split into slices.

A deterministic on-demand floor needs no balancing at run time: for n wanted replicas the first `onDemandBase` are on-
demand, and of the rest a percentage, rounded up, so that the floor never falls below what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.api.gputier import Capacity, GpuTierSpec


@dataclass(frozen=True, slots=True)
class Split:
    """Wanted replicas by slice."""

    on_demand: int
    spot: int

    def of(self, slice_: str) -> int:
        return self.on_demand if slice_ == names.SLICE_ON_DEMAND else self.spot


def derive_replicas(population: int, npcs_per_replica: int) -> int:
    """Pods needed so that none speaks for more than `npcs_per_replica` NPCs."""
    return -(-population // npcs_per_replica)


def decide_replicas(spec: GpuTierSpec, population: int | None) -> int:
    """Wanted replicas within the tier's bounds. `population` None: no region names the tier, so only the minimum is
    kept.
    """
    if spec.replicas is not None:
        wanted = spec.replicas
    elif population is None:
        wanted = spec.min_replicas
    else:
        wanted = derive_replicas(population, spec.npcs_per_replica)
    return max(spec.min_replicas, min(wanted, spec.max_replicas))


def split_replicas(wanted: int, capacity: Capacity) -> Split:
    """on-demand = min(n, base) + ceil(pct * max(0, n - base) / 100), spot = the rest."""
    above = max(0, wanted - capacity.on_demand_base)
    on_demand = min(wanted, capacity.on_demand_base) + -(-capacity.on_demand_percentage_above_base * above // 100)
    return Split(on_demand=on_demand, spot=wanted - on_demand)
