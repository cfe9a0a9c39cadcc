"""What the capacity decision looks at, what it remembers, and what it says. All times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.api.capacity import Capacity, CapacityMode
from npc_operator.domain.replicas import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFact:
    """One half of a tier as it is known now. A pod is counted once: leaving, ready, starting or pending."""

    desired: int
    """`spec.replicas` of the live Deployment; 0 where there is none."""
    ready: int = 0
    """Pods that serve and stay."""
    starting: int = 0
    """Pods on a node whose engine is not ready."""
    pending: int = 0
    """Pods without a node that is up."""
    oldest_pending: float | None = None
    """When the oldest of the pending was created."""
    leaving: int = 0
    """Pods on nodes that are going away (an interruption's notice), not being deleted yet: the Deployment still counts
    them. Replaced before they are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityState:
    """What must outlive the process; kept in GpuTierStatus.capacity."""

    mode: CapacityMode = "Normal"
    since: float = 0.0
    extra_on_demand: int = 0
    """On-demand replicas beyond the floor."""
    proven_spot: int = 0
    """Spot replicas that were ready at once, at most as many as are wanted: fewer is a loss, more is a start."""
    storm_until: float | None = None
    last_reversal: float | None = None
    """Last change of direction: growth after a return, a return after growth."""
    last_return: float | None = None
    enough_since: float | None = None
    """Since when one on-demand replica could go without being missed."""
    waiting_since: float | None = None
    """Since when a spot pod waits for a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityFacts:
    """One look at one tier."""

    wanted: int
    """Replicas that must serve, within the tier's bounds."""
    max_replicas: int
    capacity: Capacity
    spot: SliceFact | None
    """None: not known (nothing heard, caches not synced)."""
    on_demand: SliceFact | None
    interruptions: tuple[float, ...] = ()
    """When each distinct node of the spot slice was interrupted, at least back to `storm.windowSeconds` ago."""
    struck: int = 0
    """Spot pods that are still on such nodes: more than there are nodes, where one has several."""
    state: CapacityState | None = None
    """What status said last; None: nothing, or it was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityDecision:
    """What both Deployments should have. Publish `state` before acting on it: whoever takes over then knows at least as
    much as was done."""

    split: Split | None
    """None: leave both as they are."""
    state: CapacityState | None
    reason: str
    message: str
    wake_at: float | None = None
    """When to look again though nothing happened."""
