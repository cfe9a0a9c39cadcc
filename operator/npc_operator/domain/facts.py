"""What is known of the world, stripped at the door to what decisions need.

Facts are immutable and hold no clock: when a fact was seen is kept beside it by the store, and decisions get `now`
handed in. A fact that is missing means unknown, never absent: nothing is deleted because of it (the store's `synced`
gate guards lists).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec, ArchetypeAdapterStatus
from npc_operator.api.gputier import GpuTierSpec, GpuTierStatus
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.npcregion import NPCRegionSpec, NPCRegionStatus
from npc_operator.domain.holdings import Holdings
from npc_operator.domain.interruption.notices import Notice
from npc_runtime.wire import (
    NO_STAMP,
    DegradedReport,
    Departure,
    EngineReport,
    InterruptionReport,
    RolloutReport,
    Stamp,
    TierLines,
)


@dataclass(frozen=True, slots=True)
class Region:
    meta: ObjectMeta
    spec: NPCRegionSpec
    status: NPCRegionStatus


@dataclass(frozen=True, slots=True)
class Tier:
    meta: ObjectMeta
    spec: GpuTierSpec
    status: GpuTierStatus


@dataclass(frozen=True, slots=True)
class ChangedBy:
    """Field managers that last set what moves traffic; nothing where nobody can tell."""

    digests: tuple[tuple[str, str], ...] = ()
    """(tier, manager of its variant's source.digest)."""
    approval: str = ""
    """Of rollout.approvedDigest."""
    quarantine: str = ""
    """Of quarantinedDigests."""

    def digest(self, tier: str) -> str:
        """Who named the digest of a tier's variant; empty if nobody can tell."""
        return next((manager for name, manager in self.digests if name == tier), "")


NOBODY = ChangedBy()


@dataclass(frozen=True, slots=True)
class Adapter:
    meta: ObjectMeta
    spec: ArchetypeAdapterSpec
    status: ArchetypeAdapterStatus
    changed_by: ChangedBy = NOBODY


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A custom resource that this version cannot parse (the CRD is newer or was bypassed): reported, isolated, never
    fatal.
    """

    meta: ObjectMeta
    kind: str
    error: str
    rest: Region | Tier | Adapter | None = None
    """What can be made out of it, suspended: used only while nothing better was ever understood."""


@dataclass(frozen=True, slots=True)
class ContainerFact:
    name: str
    ready: bool = False
    started: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    terminated_reason: str = ""
    exit_code: int | None = None
    termination_message: str = ""
    """Of a gate: its verdict."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of ours."""

    namespace: str
    name: str
    uid: str
    component: str
    """`engine`, `gateway` or `gate` (api.names.COMPONENT_*)."""
    tier: str = ""
    slice: str = ""
    region: str = ""
    adapter: str = ""
    """Of a gate: the ArchetypeAdapter it looks at."""
    gate: str = ""
    """Of a gate: uid of its Job."""
    node: str = ""
    ip: str = ""
    phase: str = ""
    ready: bool = False
    deleting: bool = False
    ends: str = ""
    """When its grace is over, while it is being deleted."""
    created: str = ""
    engine_key_id: str = ""
    prioritised: bool = False
    """The engine orders waiting lines by their priority."""
    slots: int = 0
    """Lines the engine works on at once, where its command line says so; 0: it does not."""
    template_hash: str = ""
    """pod-template-hash, to tell old from new pods while rolling."""
    unschedulable: str = ""
    """The scheduler's message while the pod finds no node."""
    disrupted: bool = False
    """Somebody said that it will be deleted (condition DisruptionTarget)."""
    interruption: str = ""
    """How far its interruption has come, as written (`domain.interruption.record`)."""
    containers: tuple[ContainerFact, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFact:
    """A machine, filed under its name in no namespace: what is said of its end, and who may still come to it. A
    cluster can have thousands, so nothing else is kept."""

    name: str
    instance: str | None = None
    """EC2's id of it, where it is one of EC2."""
    cordoned: bool = False
    taints: tuple[tuple[str, str, str], ...] = ()
    """(key, value, effect) of those that keep new pods away."""
    notices: tuple[Notice, ...] = ()
    """What is said of its end. `seen` is 0 in them: whoever reads this knows when."""
    strange: tuple[str, ...] = ()
    """What could not be understood, as sender/reason."""


@dataclass(frozen=True, slots=True)
class Child:
    """A live object the operator applied: kept as a manifest, because drift is decided by comparing manifests."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    manifest: Mapping[str, Any]
    """Without status and with managedFields reduced to our manager's entry; Secrets' data is never kept here."""
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentFact:
    """The last word of one pod's agent."""

    pod_uid: str
    boot_id: str
    stamp: Stamp
    draining: bool
    engine: EngineReport
    adapters: Holdings
    reachable: bool = True
    """False once the long poll fails: what follows is memory, not news."""
    interruption: InterruptionReport | None = None
    """What its machine's metadata service said, where it is asked."""

    def resident(self) -> frozenset[str]:
        """Served names proven by the present engine process."""
        return self.adapters.resident


@dataclass(frozen=True, slots=True)
class GatewayFact:
    """The last word of one gateway: which table it applied, what it saw of candidates, and who speaks with less."""

    pod_uid: str
    boot_id: str
    stamp: Stamp
    reachable: bool = True
    rollouts: tuple[RolloutReport, ...] = ()
    degraded: tuple[DegradedReport, ...] = ()
    counted: Stamp = NO_STAMP
    """The table from which every worker served when `departures` were counted."""
    departures: tuple[Departure, ...] = ()
    """Pods that it answers lines from although that table does not name them."""
    lines: tuple[TierLines, ...] = ()
    """Lines that did not go as they should, by tier."""


@dataclass(frozen=True, slots=True)
class GateFact:
    """How far the user's own test of a candidate is, filed under `trial_name`."""

    state: Literal["Running", "Passed", "Failed"]
    message: str = ""


def trial_name(archetype: str, tier: str, digest: str) -> str:
    """Under which name what is known of one candidate's trial is filed in its namespace."""
    return f"{archetype}/{tier}/{digest}"


ISSUER = "issuer"
"""Under which name, in no namespace, the one IssuerFact is kept."""


@dataclass(frozen=True, slots=True)
class IssuerFact:
    """Who signs the cluster's service account tokens, and with which keys."""

    issuer: str = ""
    keys: str = ""
    """A JSON Web Key Set; empty while it could not be read."""
    error: str = ""
    """Why it could not be read, for people."""


@dataclass(frozen=True, slots=True)
class UnkeptRoutes:
    """A region's routes do not fit into their Secret: found while writing it, said by the region."""

    packed_bytes: int
    aliases: int


@dataclass(frozen=True, slots=True)
class CertificateFact:
    """What is known of a Secret with a certificate for game servers, filed under its name; nothing of its data."""

    missing: bool = False
    fault: str = ""
    """Why it cannot be used; empty where it can."""
    ends: float | None = None
    """Until when it is valid (Unix seconds)."""


@dataclass(frozen=True, slots=True)
class SecretFact:
    """Data of a Secret somebody referred to. repr hides the values."""

    namespace: str
    name: str
    resource_version: str
    data: Mapping[str, str] = field(repr=False)
