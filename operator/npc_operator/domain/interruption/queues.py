"""Which interruption queue a tier hears from, and what its status says of that queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import Condition
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, condition

QUEUE_READY = "InterruptionQueueReady"
"""The condition: there while the tier, or the operator, names a queue. The tier serves whatever it says."""
UNKNOWN_MACHINE = "UnknownMachine"
"""Why a message waits, or was nothing: no node of its machine is listed."""
NOT_NOTED = "NotNotedYet"
"""Why a message waits: its tier is suspended, and what it says is not in the tier's status yet."""
OWN = "own"
"""Under which name, in no namespace, the fact of the operator's own queue is filed; others are under their key."""

ADVICE = {
    reasons.QUEUE_MISSING: "there is no such queue: correct its URL and region, or create it",
    reasons.QUEUE_FORBIDDEN: "the operator's identity may not read it: grant the policy of docs/clouds/aws.md",
    reasons.CLOUD_CREDENTIALS: "the operator's pod has no identity that AWS knows: give its ServiceAccount a role",
    reasons.QUEUE_UNREACHABLE: "SQS does not answer: see the operator's log, and its way to the queue's endpoint",
    reasons.NOTICES_NOT_KEPT: "what it says cannot be written down at the pods it concerns; its messages stay and "
    "are tried again: see the operator's log",
}
"""What to do, by reason."""


@dataclass(frozen=True, slots=True)
class QueueRef:
    """One queue. The same URL in another region is another queue."""

    url: str
    region: str

    @property
    def key(self) -> str:
        """Under which name its fact is filed."""
        return f"{self.region}/{self.url}"

    @property
    def name(self) -> str:
        """Its name without account and host."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class QueueFact:
    """The last word about a queue that is listened to."""

    queue: QueueRef
    trouble: str | None = None
    """A reason of domain.reasons; empty while it is read, None before the first answer."""


def queue_of(spec: GpuTierSpec) -> QueueRef | None:
    """The queue that the tier itself names."""
    named = spec.interruption.queue
    return None if named is None else QueueRef(url=named.url, region=named.region)


def fact_name(spec: GpuTierSpec) -> str:
    """Where the word about the tier's queue is filed: its own, or else the operator's."""
    queue = queue_of(spec)
    return OWN if queue is None else queue.key


def queue_entries(
    spec: GpuTierSpec, fact: QueueFact | None, previous: Sequence[Condition]
) -> tuple[tuple[str, str, Finding], ...]:
    """The tier's condition, as `build_conditions` takes it. Before a new leader's first word the last one still
    holds."""
    if fact is None and queue_of(spec) is None:
        return ()
    if fact is None or fact.trouble is None:
        said = condition(previous, QUEUE_READY)
        return () if said is None else ((QUEUE_READY, said.status, Finding(said.reason, said.message)),)
    name = f"queue {fact.queue.name} in {fact.queue.region}"
    if not fact.trouble:
        return ((QUEUE_READY, "True", Finding(reasons.QUEUE_READ, f"{name} is read")),)
    advice = ADVICE.get(fact.trouble, ADVICE[reasons.QUEUE_UNREACHABLE])
    return ((QUEUE_READY, "False", Finding(fact.trouble, f"{name}: {advice}")),)
