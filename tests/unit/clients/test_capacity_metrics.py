"""What Prometheus hears of a tier's slices."""

from __future__ import annotations

from typing import Any

from npc_operator.clients.capacity_metrics import CapacityCollector
from tests.support.builders import tier_fact

STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "wantedReplicas": 6,
    "capacity": {"mode": "Fallback", "extraOnDemand": 2},
    "slices": {"onDemand": {"desired": 3, "ready": 3}, "spot": {"desired": 5, "ready": 2}},
}


def samples(**options: Any) -> dict[tuple[str, str], float]:
    """Values by name and last label."""
    fact = tier_fact(**options)
    return {
        (sample.name.removeprefix("npc_operator_"), list(sample.labels.values())[-1]): sample.value
        for family in CapacityCollector(lambda: [fact]).collect()
        for sample in family.samples
    }


def test_a_tier_that_fell_back_says_so_and_what_it_costs() -> None:
    assert samples(status=STATUS, spec={"prices": {"onDemandPerHour": "1.1", "spotPerHour": "0.33"}}) == {
        ("wanted_replicas", "gold"): 6,
        ("fallback_replicas", "gold"): 2,
        ("capacity_mode", "Fallback"): 1,
        ("slice_desired_replicas", "on-demand"): 3,
        ("slice_desired_replicas", "spot"): 5,
        ("slice_ready_replicas", "on-demand"): 3,
        ("slice_ready_replicas", "spot"): 2,
        ("hourly_cost", "on-demand"): 3.3,
        ("hourly_cost", "spot"): 0.66,
    }


def test_without_prices_there_is_no_cost() -> None:
    assert not [name for name, _ in samples(status=STATUS) if name == "hourly_cost"]


def test_of_a_tier_that_nobody_has_looked_at_nothing_is_said() -> None:
    assert samples() == {}
