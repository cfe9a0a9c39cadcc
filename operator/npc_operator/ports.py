"""The outside world as the reconcilers see it. Contracts are in the docstrings; recording fakes live beside the tests
and honour the same words.

Every call may raise `PortError`; its `retryable` says whether trying the same call again later can help. Nothing here
blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.nodepools.groups import GroupDescription, LiveGroup
from npc_runtime.wire import Accepted, AgentReport, DesiredSet, GatewayReport, RouteTable, Stamp

Manifest = Mapping[str, Any]


class PortError(Exception):
    """A call failed. The message never contains credentials."""

    def __init__(self, message: str, *, reason: str = "Unavailable", retryable: bool = True, code: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.code = code


class Conflict(PortError):
    """The object changed since it was read, or a precondition (uid, resourceVersion) does not hold."""


class NotFound(PortError):
    """The object (or, for apply, its namespace) is not there."""


class Blocked(PortError):
    """A PodDisruptionBudget does not allow it now."""


class Unsettled(PortError):
    """What was said is remembered, and cannot be written down yet; nothing failed. `reason` says what is missing."""


class StaleLeader(PortError):
    """The receiver has a newer order than ours: `current` says which."""

    def __init__(self, message: str, *, current: Stamp) -> None:
        super().__init__(message, reason="StaleOrder", retryable=True, code=409)
        self.current = current


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One Kubernetes object. `api_version` and `kind` as in its manifest; namespace empty for cluster-scoped kinds."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


class Kube(Protocol):
    """The API server. All writes are idempotent and name their field manager."""

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, or None if it is not there."""
        ...

    def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        """All objects, paged; namespace None means everywhere this operator may look."""
        ...

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        """Server-side apply with force: after it the fields sent are ours, all others as they were. Returns the live
        object.

        Raises NotFound if the namespace (or, for a subresource, the object) is gone.
        """
        ...

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        """Create; raises Conflict if it exists."""
        ...

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        """Delete exactly the object of ref.uid at resource_version; gone already is success; raises Conflict if it
        changed."""
        ...

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        """Ask for the eviction of exactly the pod of ref.uid at resource_version: budgets are kept, and it has its own
        grace. Gone already is success; raises Conflict if it changed, and Blocked (retryable) while a budget does not
        allow it."""
        ...


class Agents(Protocol):
    """The agents in engine pods, addressed by pod IP, verified against the namespace's certificate.

    `pod_uid` says which pod is meant, because IPs are used again: what another pod answers there is no word of the one
    that is meant, and raises a retryable PortError like an address where nobody listens.
    """

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        """Hand over the whole desired set. Raises StaleLeader when the agent has a newer order."""
        ...

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> AgentReport:
        """Long poll: answers when revision > after, the boot id differs, or wait_seconds passed."""
        ...


class Gateways(Protocol):
    """The gateways of a region, addressed by pod IP and uid like agents."""

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        """Hand over the whole route table; returns when every worker applied it. Raises StaleLeader when it has a
        newer one."""
        ...

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> GatewayReport:
        """Long poll of what is applied."""
        ...


class NodeGroups(Protocol):
    """AutoScaling groups of a cloud, seen and changed with the identity of the operator's own pod.

    PortErrors have these reasons: `CloudCredentials` (the pod has no identity that the cloud knows), `Forbidden` (a
    right is missing), `QuotaExceeded`, `Invalid`, and for what may pass `Throttled`, `Busy`, `Unreachable` and
    `NoAnswer` (something answered, and not the cloud). Desired capacity is never sent.
    """

    async def find(self, region: str, *, named: Collection[str], tagged: Mapping[str, str]) -> tuple[LiveGroup, ...]:
        """The groups that have one of the names, or all of the tags."""
        ...

    async def create(self, region: str, desired: GroupDescription) -> None:
        """Create it with its tags, at its minimum. Raises Conflict if one of that name exists."""
        ...

    async def update(self, region: str, name: str, desired: GroupDescription) -> None:
        """Settings first, then tags; whoever is cut off in between sees the rest as a difference. Raises NotFound if it
        is gone."""
        ...

    async def shrink(self, region: str, name: str) -> None:
        """Minimum and maximum become 0. Raises NotFound if it is gone."""
        ...

    async def delete(self, region: str, name: str) -> None:
        """Delete a group without instances; gone already is success. Raises a retryable PortError where instances are
        left."""
        ...

    async def last_failure(self, region: str, name: str) -> str:
        """Why the newest scaling activity failed, in the cloud's words; empty where it did not, or long ago."""
        ...


class Recorder(Protocol):
    """Kubernetes Events, deduplicated and rate-limited; never raises, never blocks (a lost Event is not a fault)."""

    def normal(self, ref: ObjectRef, reason: str, message: str) -> None: ...

    def warning(self, ref: ObjectRef, reason: str, message: str) -> None: ...


class Meter(Protocol):
    """What was decided about traffic, counted for dashboards and alerts; never raises, never blocks."""

    def decided(self, namespace: str, decision: str, reason: str, *, after_first_bad: float | None) -> None:
        """One entry of a history was published. `reason` says why a candidate was taken back, and is empty for any
        other decision; `after_first_bad` is in seconds, where that was for bad answers."""
        ...

    def interrupted(self, namespace: str, tier: str, kind: str) -> None:
        """Something is said of an engine pod that was not said before (`domain.interruption.notices.Kind`)."""
        ...

    def interruption_step(self, namespace: str, step: str, seconds: float) -> None:
        """An engine pod was Unrouted, Covered, Replaced, Drained or (granted by its budget) Evicted so long after the
        first word that presses: a cordon, a recommendation, or maintenance that is still far away are none."""
        ...

    def interruption_cost(
        self, namespace: str, tier: str, *, lost: int, rerouted: int, downgraded: int, seconds_below_target: float
    ) -> None:
        """What the interruption of a tier cost since this was called last."""
        ...

    def node_word_ignored(self, word: str) -> None:
        """A known sender said something of a node that this version does not understand: `sender/reason`."""
        ...


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class Stamps(Protocol):
    """Orders carry a stamp (epoch of this leadership, generation within it), so that receivers can refuse a leader of
    the past."""

    def next(self) -> Stamp:
        """A stamp newer than every one this process handed out before."""
        ...

    async def outrank(self, current: Stamp) -> bool:
        """A receiver holds `current`, newer than ours: re-read the Lease and, if it is still ours, go above it.

        True: later stamps beat `current`. False: leadership is gone and this work is about to be cancelled.
        """
        ...


@dataclass(frozen=True, slots=True)
class Images:
    """Which images children run unless their objects say otherwise. `pull_policy` is empty for the cluster's
    default."""

    engine: str
    fleet: str
    pull_policy: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything that one leadership acts through."""

    kube: Kube
    agents: Agents
    gateways: Gateways
    groups: NodeGroups
    recorder: Recorder
    meter: Meter
    clock: Clock
    stamps: Stamps
    images: Images


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One message of a queue, ours until its visibility timeout is over."""

    id: str
    handle: str
    """For this reception only; another reception has another one."""
    body: str
    receptions: int
    """How often it was handed out, this time included; 1 at first. Approximate."""
    sent: float | None = None
    """When the queue got it, by the queue's clock; Unix seconds, None where it does not say."""


class InterruptionQueue(Protocol):
    """A queue of messages about machines. Only the leader reads it: every reader takes messages from the others.

    At least once, in any order: a message that was not deleted comes again.
    """

    async def receive(self, max_messages: int, wait_seconds: int) -> tuple[QueueMessage, ...]:
        """Up to `max_messages` (1 to 10), waiting for the first at most `wait_seconds` (0 to 20). Cancelled, it gives
        back at once what it may still receive."""
        ...

    async def delete(self, handles: tuple[str, ...]) -> tuple[str, ...]:
        """Take these off the queue for good; returns the handles of those that could not be."""
        ...

    async def postpone(self, waits: Mapping[str, int]) -> None:
        """Hand these out again only so many seconds from now (0 to 43,200), by handle."""
        ...

    async def set_aside(self, message: QueueMessage, reason: str) -> str:
        """A message that cannot be understood. Returns what becomes of it: `Redrive` (the queue has a dead letter
        queue, which gets it after its own number of receptions), `Retry` (it will be handed out again) or `Deleted`."""
        ...


class Listener(Protocol):
    """Whoever acts on what is said of machines. A queue's message is deleted once this has returned."""

    async def hear(self, notice: Notice, *, namespaces: frozenset[str] | None = None) -> None:
        """Returns when what was said cannot be lost any more: it is written down at every pod that it concerns, or it
        concerns none. `namespaces` are the only ones whose pods it may concern, because whoever can name a queue can
        send to it; None for a queue of the operator's own. Hearing it again is harmless. Raises PortError if it could
        not be written down, or if nodes are not known yet: the message then comes again. Raises Unsettled if nobody
        knows a node of that machine yet (UNKNOWN_MACHINE), or if it is not noted yet of a tier whose pods may not be
        written to (NOT_NOTED)."""
        ...
