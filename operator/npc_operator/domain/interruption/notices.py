"""What is known of a node or pod that goes away, whoever said it: one small value, whatever the source.

Sources repeat each other (a cloud's message, a handler's taint, Karpenter's taint for one and the same instance) and
themselves. So a notice has an identity of its own, `key`: what happens to whom, without who said it and when.

Times are Unix seconds. `seen` is this operator's clock, `deadline` is the cloud's or the node's; `last_moment` is where
the two meet, and the only place that must think of clocks that disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

MAX_NAME = 253
"""Characters of a node's name, an instance's or a pod's uid: what Kubernetes allows for a name."""


class Source(StrEnum):
    """Who said it."""

    KARPENTER = "Karpenter"
    NODE_TERMINATION_HANDLER = "NodeTerminationHandler"
    GKE = "GKE"
    AKS = "AKS"
    KUBERNETES = "Kubernetes"
    EVENT_BRIDGE = "EventBridge"
    METADATA = "Metadata"


class Kind(StrEnum):
    """What happens."""

    TERMINATION = "Termination"  # it goes now: a pod being deleted, an instance shutting down
    INTERRUPTION = "Interruption"  # the cloud takes a spot node after its notice
    DRAIN = "Drain"  # somebody empties the node in their own time
    SCHEDULED = "Scheduled"  # maintenance at a time told beforehand
    NODE_LOST = "NodeLost"  # the node was not heard of any more: unknown, not dead
    REBALANCE = "Rebalance"  # a spot node may be taken soon
    CORDON = "Cordon"  # nothing new goes there; what runs may stay


STRENGTH = (
    Kind.TERMINATION,
    Kind.INTERRUPTION,
    Kind.DRAIN,
    Kind.SCHEDULED,
    Kind.NODE_LOST,
    Kind.REBALANCE,
    Kind.CORDON,
)
"""Of several notices about one pod, the first of these says what is done."""

LONGEST_NOTICE = {
    Source.EVENT_BRIDGE: 120.0,  # EC2: two minutes
    Source.NODE_TERMINATION_HANDLER: 120.0,
    Source.METADATA: 150.0,  # Compute Engine: 30 s, or up to 120 s before them where the VM asks for it
    Source.AKS: 60.0,  # 30 s at least; 38 s and 39 s were seen
    Source.GKE: 60.0,
}
"""The longest notice a cloud gives before it takes a spot node, in seconds. A deadline further away than this is a
clock that disagrees."""
USUAL_NOTICE = {
    Source.NODE_TERMINATION_HANDLER: 120.0,
    Source.GKE: 30.0,
    Source.AKS: 30.0,
    Source.METADATA: 30.0,
    Source.EVENT_BRIDGE: 120.0,
}
"""Where a source says no deadline, in seconds."""
_SHORTEST_NOTICE = 30.0

PATIENCE_SECONDS = 900.0
"""Where nobody says when the node goes, so long is waited for a replacement: longer than any engine takes to start."""
HELD_SECONDS = 600.0
"""A message from a queue is said once and never taken back. It is believed until so long after its deadline (or after
it was seen): a node that still lives then was spared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that was said about a node or a pod. At least one of node, instance and pod_uid is set."""

    source: Source
    kind: Kind
    node: str | None
    """Name of the Node object."""
    instance: str | None
    """EC2's id of the machine (`i-...`), where it is one of EC2."""
    pod_uid: str | None
    """Set where only this pod is meant."""
    seen: float
    deadline: float | None
    """As it was said; see `last_moment`."""

    @property
    def key(self) -> str:
        """Identity: two notices with one key are one notice, said twice or by two."""
        return f"{self.kind}/{self.pod_uid or self.instance or self.node}"

    @property
    def last_moment(self) -> float | None:
        """When the node goes, by this operator's clock; None where nobody set a time.

        The time left is never believed to be longer than the cloud ever gives, nor to have been over before the notice
        was here: a clock that is wrong makes us act early, not late.
        """
        if self.kind is Kind.TERMINATION:
            return self.seen if self.deadline is None else max(self.seen, self.deadline)
        if self.kind is Kind.INTERRUPTION:
            told = self.deadline
            if told is None:
                told = self.seen + USUAL_NOTICE.get(self.source, _SHORTEST_NOTICE)
            longest = LONGEST_NOTICE.get(self.source, max(LONGEST_NOTICE.values()))
            return min(max(told, self.seen), self.seen + longest)
        if self.deadline is None or self.kind in (Kind.NODE_LOST, Kind.REBALANCE, Kind.CORDON):
            return None
        return max(self.seen, self.deadline)

    @property
    def held_until(self) -> float | None:
        """Until when it counts although nobody repeats it; None for sources whose silence means that it is over."""
        if self.source is not Source.EVENT_BRIDGE:
            return None
        last = self.last_moment
        if last is None and self.kind is Kind.DRAIN:
            last = self.seen + PATIENCE_SECONDS
        return (self.seen if last is None else last) + HELD_SECONDS


@dataclass(frozen=True, slots=True)
class Ignored:
    """Input that says nothing of what is looked for. Counted by source and reason, never an error."""

    source: Source
    reason: str
    """A CamelCase word of a closed set."""
    malformed: bool = False
    """It is not even what the source should send, so it is worth a look; a queue sets it aside."""


Parsed = Notice | Ignored


def name_of(value: object) -> str | None:
    """A name from outside, if it can be one."""
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable():
        return value
    return None


def merge(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """One notice per identity, the strongest kind first: first seen, earliest deadline, every name that any of them
    knows."""
    found: dict[str, Notice] = {}
    for notice in notices:
        known = found.get(notice.key)
        found[notice.key] = notice if known is None else _join(known, notice)
    return tuple(sorted(found.values(), key=lambda notice: (STRENGTH.index(notice.kind), notice.key)))


def _join(one: Notice, other: Notice) -> Notice:
    first = one if (one.seen, one.source) <= (other.seen, other.source) else other
    deadlines = [at for at in (one.last_moment, other.last_moment) if at is not None]
    return replace(
        first,
        node=one.node or other.node,
        instance=one.instance or other.instance,
        deadline=min(deadlines) if deadlines else None,
    )
