"""Rules of GpuTier about on-demand, spot and their prices."""

from __future__ import annotations

from tests.contract.crd.case import Case

CAPACITY = (
    Case(
        name="only a tier with spot pods has more of them",
        kind="GpuTier",
        accept=(
            {"spec.capacity.overprovisionReplicas": 2},
            {"spec.capacity": {"overprovisionReplicas": 0, "onDemandPercentageAboveBase": 100}},
            {"spec.capacity": {"overprovisionReplicas": 1, "onDemandPercentageAboveBase": 99}},
        ),
        refuse=({"spec.capacity": {"overprovisionReplicas": 1, "onDemandPercentageAboveBase": 100}},),
        field="spec.capacity.overprovisionReplicas",
        message="overprovisioned replicas are spot pods",
    ),
    Case(
        name="a storm is counted once",
        kind="GpuTier",
        accept=(
            {"spec.capacity.storm": {"windowSeconds": 300, "holdSeconds": 300}},
            {"spec.capacity.storm.interruptions": 0},
        ),
        refuse=(
            {"spec.capacity.storm": {"windowSeconds": 300, "holdSeconds": 299}},
            {"spec.capacity.storm.windowSeconds": 1801},
        ),
        field="spec.capacity.storm.holdSeconds",
        message="must not be below windowSeconds",
    ),
    Case(
        name="spot is not dearer than on demand",
        kind="GpuTier",
        accept=(
            {"spec.prices": {"onDemandPerHour": "10", "spotPerHour": "9.5"}},
            {"spec.prices": {"onDemandPerHour": "1.006", "spotPerHour": "1.006"}},
        ),
        refuse=({"spec.prices": {"onDemandPerHour": "9.5", "spotPerHour": "10"}},),
        field="spec.prices.spotPerHour",
        message="must not be above onDemandPerHour",
    ),
    Case(
        name="a price is a decimal",
        kind="GpuTier",
        accept=({"spec.prices": {"onDemandPerHour": "0.000001", "spotPerHour": "0"}},),
        refuse=(
            {"spec.prices": {"onDemandPerHour": "1e3", "spotPerHour": "0"}},
            {"spec.prices": {"onDemandPerHour": "$1", "spotPerHour": "0"}},
        ),
        field="spec.prices.onDemandPerHour",
        message="should match",
    ),
)
