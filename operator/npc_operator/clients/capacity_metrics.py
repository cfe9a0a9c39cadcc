"""Replicas and modes of tiers in Prometheus' words, read from the published statuses when somebody asks.

Only the leader has them, so that sums over replicas of the operator are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from npc_operator.api import names
from npc_operator.domain.facts import Tier


class CapacityCollector(Collector):
    """`tiers` gives every tier known, or nothing while this process does not lead."""

    def __init__(self, tiers: Callable[[], Iterable[Tier]]) -> None:
        self._tiers = tiers

    def collect(self) -> Iterable[Metric]:
        """Every family, in a fixed order."""
        labels = ["namespace", "tier"]
        wanted = GaugeMetricFamily(
            "npc_operator_wanted_replicas", "Replicas that must serve, within the tier's bounds.", labels=labels
        )
        desired = GaugeMetricFamily(
            "npc_operator_slice_desired_replicas",
            "Replicas asked for by slice, with stand-ins, replacements and overprovisioned ones.",
            labels=[*labels, "slice"],
        )
        ready = GaugeMetricFamily(
            "npc_operator_slice_ready_replicas", "Ready replicas by slice.", labels=[*labels, "slice"]
        )
        mode = GaugeMetricFamily(
            "npc_operator_capacity_mode",
            "1 for what the tier's slices do: Normal, Fallback, Returning or Storm.",
            labels=[*labels, "mode"],
        )
        stand_ins = GaugeMetricFamily(
            "npc_operator_fallback_replicas", "On-demand replicas that stand in for spot ones.", labels=labels
        )
        cost = GaugeMetricFamily(
            "npc_operator_hourly_cost",
            "What the ready replicas of a slice cost an hour at the tier's own prices.",
            labels=[*labels, "slice"],
        )
        for tier in self._tiers():
            key, status, prices = (tier.meta.namespace, tier.meta.name), tier.status, tier.spec.prices
            if status.observed_generation < 0:
                continue  # nobody has looked at it yet
            wanted.add_metric(key, status.wanted_replicas)
            stand_ins.add_metric(key, status.capacity.extra_on_demand)
            if status.capacity.mode is not None:
                mode.add_metric((*key, status.capacity.mode), 1)
            for slice_, counts in (
                (names.SLICE_ON_DEMAND, status.slices.on_demand),
                (names.SLICE_SPOT, status.slices.spot),
            ):
                desired.add_metric((*key, slice_), counts.desired)
                ready.add_metric((*key, slice_), counts.ready)
                if prices is not None:
                    price = prices.spot_per_hour if slice_ == names.SLICE_SPOT else prices.on_demand_per_hour
                    cost.add_metric((*key, slice_), float(Decimal(price) * counts.ready))
        yield from (wanted, desired, ready, mode, stand_ins, cost)
