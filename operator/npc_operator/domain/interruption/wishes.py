"""What the decision about one pod looks at, and what it wishes: see `machine`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInterruption:
    """All that the decision about one pod looks at."""

    notices: tuple[Notice, ...]
    """What is said now of the pod or its node, by every source that can take it back, and what queues said."""
    known: bool
    """Every source was heard since this operator began to lead: only then does silence mean that a notice was taken
    back."""
    record: Record | None
    deleting: bool
    """The pod has a deletionTimestamp."""
    node_closed: bool
    """Nothing new can be scheduled on the pod's node: it is cordoned or has a taint that the pod does not tolerate."""
    others_can_take: bool
    """Every served name that gets lines here is resident on another pod that takes lines and has no notice."""
    covered: bool
    """Every adapter that is resident here is resident elsewhere, too (or nobody wants it any more)."""
    lines: int | None
    """Lines that run on the pod; None if nobody knows."""
    replacement_ready: bool
    """Without this pod there are as many ready pods as wanted."""
    created: float | None = None
    """When the pod was made, in Unix seconds; None if that is not known."""
    rebalance_at: float
    """From when on the pod's node may be replaced because of a recommendation (`Replacements.next_at`)."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened, for an Event: said once."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is wished for the pod now."""

    unroute: bool = False
    """No new line may go there."""
    cover: bool = False
    """Its adapters must become resident elsewhere: placement goes by as if it were not there."""
    replacement: Literal["None", "Now"] = "None"
    """One more pod must be there instead of it. As long as it is repeated it is the same one."""
    granted: bool = False
    """The replacement was decided just now, because of a recommendation: the node has had its turn (`Replacements`)."""
    evict: bool = False
    """Evict it, through the eviction API, with its uid as a precondition."""
    wake_at: float | None = None
    """When to decide again, if nothing happens before."""
    record: Record | None = None
    """What to write into the pod's annotation; None: no annotation."""
    events: tuple[Told, ...] = ()
