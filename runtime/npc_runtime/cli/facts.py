"""What was read from the cluster, as far as anybody here looks at it: frozen, so that one look stays one look.

Times are RFC 3339 as the API server writes them, empty where there is none; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import vocabulary as v
from .conditions import NO_CONDITIONS, Condition, Conditions, Meta
from .rollouts import Decision, Progress, Rejection, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """An NPCRegion."""

    meta: Meta
    conditions: Conditions = NO_CONDITIONS
    tiers: tuple[str, ...] = ()
    suspend: bool = False
    quarantined: tuple[str, ...] = ()
    ceiling: int = 100
    max_concurrent: int = 5
    auth_mode: str = "ApiKey"
    auth_secret: str = ""
    tls: bool = False
    """Whether its gateways speak HTTPS."""
    adapter_labels: Mapping[str, str] = field(default_factory=dict)
    population: int = 0
    ready_tiers: int = 0
    archetypes: int = 0
    gateway_ready: int = 0
    gateway_wanted: int = 0
    endpoint: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Whether on-demand stands in for spot, and why."""

    mode: str
    reason: str = ""
    message: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """Pods whose nodes go, and what the last interruption cost until now."""

    pods: int = 0
    """Of which something is said of their nodes."""
    unrouted: int = 0
    """Of these, pods that take no new lines."""
    since: str = ""
    over: bool = True
    lost: int = 0
    rerouted: int = 0
    downgraded: int = 0
    below: int = 0
    """Seconds with fewer pods ready than wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A GpuTier."""

    meta: Meta
    conditions: Conditions = NO_CONDITIONS
    quality: str = ""
    model_uri: str = ""
    suspend: bool = False
    fallback: str = ""
    """The tier that answers where this one cannot; empty for none."""
    wanted: int = 0
    ready: int = 0
    adapters: int = 0
    resident: int = 0
    model_progress: str = ""
    capacity: Capacity | None = None
    """None: the operator does not say."""
    interruption: Interruption | None = None
    """None: the operator does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What an adapter's spec wants on one tier."""

    tier: str
    digest: str
    uri: str
    rank: int = 0
    secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantState:
    """What an adapter's status says of one tier."""

    tier: str
    serving: str = ""
    """Stable, or what stands in for it; empty where the operator does not say."""
    stable: str = ""
    candidate: str = ""
    revisions: tuple[Revision, ...] = ()
    """Stable and candidate with where they come from."""
    candidate_since: str = ""
    rollout: Progress | None = None
    rejected: Rejection | None = None
    percent: int = 0
    resident: int = 0
    wanted: int = 0
    reason: str = ""
    message: str = ""
    history: tuple[Decision, ...] = ()
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A tier on which players hear less than the voice's adapter there, as its status says."""

    tier: str
    level: str
    """Tier, BaseModel or Scripted, as the gateways' `X-NPC-Degraded` has it."""
    since: str = ""
    message: str = ""
    """What answers and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An ArchetypeAdapter."""

    meta: Meta
    conditions: Conditions = NO_CONDITIONS
    archetype: str = ""
    importance: str = "Normal"
    suspend: bool = False
    quarantined: tuple[str, ...] = ()
    approved: str = ""
    ceiling: int = 100
    steps: tuple[int, ...] = ()
    min_requests: int = 50
    digest: str = ""
    ready_variants: str = ""
    variants: tuple[Variant, ...] = ()
    states: tuple[VariantState, ...] = ()
    degraded: tuple[Degradation, ...] = ()

    def state(self, tier: str) -> VariantState | None:
        return next((one for one in self.states if one.tier == tier), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """State of one container or init container of a pod."""

    name: str
    init: bool = False
    ready: bool = False
    running_since: str = ""
    restarts: int = 0
    waiting: str = ""
    """Why it waits, as kubelet says; empty if it does not."""
    waiting_message: str = ""
    ended: str = ""
    """Why it ended, now or last time; empty if it never did."""
    exit_code: int | None = None
    ended_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """An engine or gateway pod."""

    meta: Meta
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    node: str = ""
    conditions: tuple[Condition, ...] = ()
    containers: tuple[Container, ...] = ()
    grace_seconds: int = 30

    @property
    def tier(self) -> str:
        return self.meta.labels.get(v.LABEL_TIER, "")

    @property
    def slice(self) -> str:
        return self.meta.labels.get(v.LABEL_SLICE, "")

    @property
    def component(self) -> str:
        return self.meta.labels.get(v.LABEL_COMPONENT, "")

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)

    def ready(self) -> bool:
        found = self.condition("Ready")
        return found is not None and found.status == "True" and not self.meta.deleted

    def container(self, name: str) -> Container | None:
        return next((one for one in self.containers if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One slice of a tier, or a region's gateways."""

    meta: Meta
    wanted: int = 0
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node, as far as it can be the cause of something."""

    meta: Meta
    ready: bool = True
    since: str = ""
    message: str = ""
    cordoned: bool = False
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One Event about one object."""

    kind: str
    name: str
    type: str
    reason: str
    message: str
    last: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The operator's election."""

    namespace: str
    holder: str = ""
    renewed: str = ""
    seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that could not be looked at, and why: nothing is concluded from its absence."""

    what: str
    why: str
    refused: bool = True
    """Whether the caller lacks a right; else nobody answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One look at one namespace."""

    namespace: str
    regions: tuple[Region, ...] = ()
    tiers: tuple[Tier, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    pods: tuple[Pod, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    nodes: tuple[Node, ...] = ()
    events: tuple[Event, ...] = ()
    lease: Lease | None = None
    operator_namespace: str = v.OPERATOR_NAMESPACE
    unread: tuple[Unread, ...] = ()

    def was_read(self, what: str) -> bool:
        return all(one.what != what for one in self.unread)

    def tier(self, name: str) -> Tier | None:
        return next((one for one in self.tiers if one.meta.name == name), None)

    def pods_of(self, tier: str) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.component == v.COMPONENT_ENGINE and pod.tier == tier)

    def gateways_of(self, region: str) -> tuple[Pod, ...]:
        return tuple(
            pod
            for pod in self.pods
            if pod.component == v.COMPONENT_GATEWAY and pod.meta.labels.get(v.LABEL_REGION) == region
        )

    def region(self) -> Region | None:
        """The region that holds the namespace: the oldest, by name where they are equally old."""
        return min(
            self.regions, key=lambda one: (bool(one.meta.deleted), one.meta.created, one.meta.name), default=None
        )
