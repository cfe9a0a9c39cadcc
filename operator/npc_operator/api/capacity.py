"""How a tier's replicas are shared between on-demand and spot, when that share moves, and what both cost."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, Rule

CapacityMode = Literal["Normal", "Fallback", "Returning", "Storm"]
Price = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?$")]


class Fallback(ApiModel):
    """When on-demand pods stand in for spot pods, and when they go again."""

    after_seconds: int = Field(default=60, ge=1, le=86_400)
    """Spot pods that have waited so long for a node are replaced by on-demand pods. Give a new node the time it takes
    to come up, or every start of one looks like a market without room. Ready pods lost to an interruption are replaced
    at once."""
    return_after_seconds: int = Field(default=300, ge=1, le=86_400)
    """Spot pods must have been ready so long before the first on-demand pod goes. Whatever this says, ten minutes
    pass between falling back and returning."""


class Storm(ApiModel):
    """When interruptions come so thick that spot is left alone for a while."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.holdSeconds) || self.holdSeconds >= self.windowSeconds",
            "must not be below windowSeconds: the interruptions of one storm would be counted twice",
            field_path=".holdSeconds",
        ),
    )

    interruptions: int | None = Field(default=None, ge=0, le=10_000)
    """So many interrupted nodes within the window are a storm; 0 for never. Unset means as many as spot replicas are
    wanted, and at least 3."""
    window_seconds: int = Field(default=600, ge=1, le=86_400)
    """The window."""
    hold_seconds: int = Field(default=1800, ge=1, le=604_800)
    """So long after the last of them everything stays on demand."""


class Capacity(ApiModel):
    """How wanted replicas are split into on-demand and spot."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.overprovisionReplicas) || self.overprovisionReplicas == 0 "
            "|| self.onDemandPercentageAboveBase < 100",
            "overprovisioned replicas are spot pods, and at onDemandPercentageAboveBase 100 there are none",
            field_path=".overprovisionReplicas",
        ),
    )

    on_demand_base: int = Field(default=1, ge=0, le=10_000)
    """The first so many replicas are on-demand: the floor that survives any spot storm."""
    on_demand_percentage_above_base: int = Field(default=0, ge=0, le=100)
    """Of the rest, this percentage (rounded up) is on-demand too."""
    overprovision_replicas: int = Field(default=0, ge=0, le=1000)
    """Spot pods beyond the wanted number. They serve like the others, so that losing as many costs no line; not counted
    in maxReplicas, and absent where no spot replica is wanted."""
    fallback: Fallback = Fallback()
    """When on-demand pods stand in for spot pods."""
    storm: Storm = Storm()
    """When spot is left alone for a while."""


class Prices(ApiModel):
    """What one replica costs an hour, in the currency of your budget: nodes with all their accelerators."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "double(self.spotPerHour) <= double(self.onDemandPerHour)",
            "must not be above onDemandPerHour: where spot costs more, set capacity.onDemandPercentageAboveBase to 100",
            field_path=".spotPerHour",
        ),
    )

    on_demand_per_hour: Price
    """On demand, as a decimal, e.g. "1.006"."""
    spot_per_hour: Price
    """On spot, as a decimal, e.g. "0.302"."""


class CapacityStatus(ApiModel):
    """Which slice stands in for which, why, and since when: enough for another operator process to go on from."""

    mode: CapacityMode | None = None
    """Normal; Fallback: on-demand pods stand in for spot pods; Returning: they go, one by one; Storm: everything is on
    demand for a while."""
    reason: str = Field(default="", max_length=256)
    """Why, as one CamelCase word."""
    message: str = Field(default="", max_length=2048)
    """Why, for people."""
    since: str = Field(default="", max_length=64)
    """When the mode began (RFC 3339)."""
    extra_on_demand: int = 0
    """On-demand replicas beyond the floor."""
    proven_spot: int = 0
    """Spot replicas that have been ready at the same time; fewer than these is a loss."""
    storm_until: str = Field(default="", max_length=64)
    """When the storm's hold ends (RFC 3339)."""
    last_reversal: str = Field(default="", max_length=64)
    """When on-demand last began to grow after shrinking, or to shrink after growing (RFC 3339)."""
    last_return: str = Field(default="", max_length=64)
    """When the last on-demand replica beyond the floor went (RFC 3339)."""
    enough_since: str = Field(default="", max_length=64)
    """Since when enough spot pods are ready for one such replica to go (RFC 3339)."""
    waiting_since: str = Field(default="", max_length=64)
    """Since when a spot pod waits for a node (RFC 3339)."""
