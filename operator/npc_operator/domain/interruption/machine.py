"""What to do with one pod whose node goes away, from what is said of it now and how far it had come.

    Notice -> Unrouted -> Covered (and a replacement asked for) -> Drained -> Evicted

Nothing here is remembered but the record (see `record`): the same facts, record and time give the same wishes, so it
does not matter who asks, how often, or after which restart. Wishes are levels, not commands: they are repeated as long
as they hold, and whoever carries them out compares first.

Three promises, whatever is said in whatever order (tests/unit/domain/interruption holds them with random sequences):
the pod leaves the routes only while others can take its lines, or ROUTE_MARGIN_SECONDS before its node goes, or once it
is being deleted anyway; it is evicted only when it has drained or its time is up; and where its node goes, it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npc_operator.domain.interruption.joining import (
    HURRIED,
    LEAVING,
    SCHEDULED_LEAD_SECONDS,
    ago,
    join,
    withdrawn,
)
from npc_operator.domain.interruption.notices import PATIENCE_SECONDS, Kind, Source
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.wishes import PodInterruption, Steps, Told

ROUTE_MARGIN_SECONDS = 25.0
"""Before the node goes, the pod leaves the routes even if nobody can take its lines: those that run need as long. Below
the 30 s that Compute Engine and Azure give."""
SETTLE_SECONDS = 1.0
"""After a pod left the routes, lines may still be on their way to it: only then does `none runs` mean something."""
LATE_SECONDS = 5.0
"""A pod that was made less than this before its machine's end came after it: clocks differ, and no engine starts in so
short a time."""


def decide_interruption(facts: PodInterruption, now: float) -> Steps:
    """The next wishes for one pod. `now` in Unix seconds."""
    said = join(facts, now)
    if said is None:
        return _over(facts, now)
    record, events = said.record, said.events
    moment = _Moment(facts, record, said.confirmed, now)
    unroute, cover = moment.unroute(), moment.cover()
    if unroute and record.unrouted is None:
        record = replace(record, unrouted=now)
        events += (Told("LinesMovedAway", _why_unrouted(moment)),)
    elif not unroute and record.unrouted is not None:
        record = replace(record, unrouted=None, drained=None)
        events += (Told("LinesCameBack", "no other pod can take its lines any more, so it takes new ones again"),)
    if facts.covered and cover and record.covered is None:
        record = replace(record, covered=now)
        events += (Told("AdaptersCovered", f"its adapters are resident elsewhere, {ago(record, now)}"),)
    elif not facts.covered and record.covered is not None:
        record = replace(record, covered=None)
    granted = moment.wants_replacement() and record.replaced is None
    if granted:
        record = replace(record, replaced=now)
        events += (Told("ReplacementRequested", f"one more pod is wanted in its place, {ago(record, now)}"),)
    if record.drained is not None and facts.lines:
        record = replace(record, drained=None)
    elif record.drained is None and _is_drained(facts, record, now):
        record = replace(record, drained=now)
        events += (Told("LinesDrained", f"no line runs there any more, {ago(record, now)}"),)
    moment = _Moment(facts, record, said.confirmed, now)
    evict = moment.evict()
    if evict and record.evicted is None:
        record = replace(record, evicted=now)
    return Steps(
        unroute=unroute,
        cover=cover,
        replacement="Now" if record.replaced is not None else "None",
        granted=granted and record.kind is Kind.REBALANCE,
        evict=evict,
        wake_at=moment.wake_at(),
        record=record,
        events=events,
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """The rules, each about one wish."""

    facts: PodInterruption
    record: Record
    confirmed: bool
    now: float

    @property
    def leaving(self) -> bool:
        """The pod ends, and it is time to do something about it."""
        return self.record.kind in LEAVING and self.begins_at <= self.now

    @property
    def begins_at(self) -> float:
        if self.record.kind is Kind.SCHEDULED and self.record.deadline is not None:
            return self.record.deadline - SCHEDULED_LEAD_SECONDS
        return self.record.since

    @property
    def end(self) -> float:
        """When the pod ends at the latest."""
        return self.record.since + PATIENCE_SECONDS if self.record.deadline is None else self.record.deadline

    @property
    def ready_to_swap(self) -> bool:
        """The replacement stands, and no new pod can take the place of the old one on its node."""
        return self.facts.replacement_ready and self.facts.node_closed

    @property
    def succeeds(self) -> bool:
        """It came after its machine's time was up, and another one could come after it: maintenance that begins hours
        after its time, or a machine that was spared. To evict it would make the next one, without end."""
        created = self.facts.created
        if created is None or self.facts.node_closed:
            return False
        # An agent is never heard before its pod is made, so what it says is taken as it was said.
        told = [one.deadline for one in self.facts.notices if one.source is Source.METADATA and one.kind in LEAVING]
        return any(end is not None and created > end - LATE_SECONDS for end in (self.record.deadline, *told))

    def unroute(self) -> bool:
        if self.facts.deleting:
            return True
        if self.record.kind is Kind.NODE_LOST:
            return self.facts.others_can_take
        if self.record.kind is Kind.REBALANCE:
            return self.facts.others_can_take and self.ready_to_swap and self.record.replaced is not None
        if not self.leaving:
            return False
        return self.facts.others_can_take or self.now >= self.end - ROUTE_MARGIN_SECONDS

    def cover(self) -> bool:
        """Also for a cordon, which often is the beginning of a drain and costs nothing else."""
        return self.leaving or self.record.kind not in LEAVING

    def wants_replacement(self) -> bool:
        if self.record.kind is Kind.REBALANCE:
            return self.facts.rebalance_at <= self.now
        return self.leaving or self.record.kind is Kind.NODE_LOST

    def evict(self) -> bool:
        if self.facts.deleting or self.record.unrouted is None or not self.confirmed:
            return False
        if self.leaving and self.now >= self.end and not self.succeeds:
            return True
        if self.record.drained is None or self.record.covered is None or not self.facts.node_closed:
            # On a node that is open, the pod that comes after it could land in its place.
            return False
        if self.record.kind in HURRIED:
            return True
        return (self.leaving or self.record.kind is Kind.REBALANCE) and self.facts.replacement_ready

    def wake_at(self) -> float | None:
        """The next moment at which time alone changes something."""
        times = [self.record.held_until]
        if self.record.kind in LEAVING:
            times += [self.begins_at, self.end - ROUTE_MARGIN_SECONDS, self.end]
        if self.record.kind is Kind.REBALANCE and self.record.replaced is None:
            times.append(self.facts.rebalance_at)
        if self.record.unrouted is not None and self.record.drained is None:
            times.append(self.record.unrouted + SETTLE_SECONDS)
        return min((at for at in times if at is not None and at > self.now), default=None)


def tell_eviction(record: Record | None) -> Told:
    """That a pod was evicted, once it was: the wish alone may meet a budget."""
    late = record is None or record.drained is None
    why = "its time is up and lines may still run" if late else "no line runs there any more"
    return Told("InterruptedPodEvicted", why, warning=late)


def _over(facts: PodInterruption, now: float) -> Steps:
    """Nothing is said: the pod is as any other, unless it is on its way out without a word."""
    events = () if facts.record is None else (withdrawn(facts.record, now),)
    return Steps(unroute=facts.deleting, events=events)


def _is_drained(facts: PodInterruption, record: Record, now: float) -> bool:
    return record.unrouted is not None and facts.lines == 0 and now >= record.unrouted + SETTLE_SECONDS


def _why_unrouted(moment: _Moment) -> str:
    if moment.facts.deleting:
        return "it is being deleted"
    if moment.facts.others_can_take:
        return "other pods take its lines"
    left = max(0.0, moment.end - moment.now)
    return f"no other pod can take its lines, and its node goes in {left:.0f} s"
