"""What is said of a pod now, joined with what the record says was said before: repeated, more urgent, less urgent,
taken back, or not heard yet by an operator that has only begun to listen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npc_operator.domain.interruption.notices import PATIENCE_SECONDS, STRENGTH, Kind, Notice, merge
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.wishes import PodInterruption, Told

SCHEDULED_LEAD_SECONDS = 600.0
"""Maintenance is told days before. What is done about it begins so long before it begins."""

LEAVING = frozenset((Kind.TERMINATION, Kind.INTERRUPTION, Kind.DRAIN, Kind.SCHEDULED))
"""Kinds after which the pod ends. A lost node is not among them: it may only be out of sight, and Kubernetes ends its
pods when it gives it up."""
UNPRESSING = frozenset((Kind.SCHEDULED, Kind.REBALANCE, Kind.CORDON))
"""Kinds that may stand for days before something worse is said."""
HURRIED = frozenset((Kind.TERMINATION, Kind.INTERRUPTION))
"""Kinds whose node does not wait for a replacement to be ready."""


@dataclass(frozen=True, slots=True)
class Said:
    """The record with what is said now, and what is new in that."""

    record: Record
    confirmed: bool
    """It is said now, or a queue's word still holds: the record is not only memory."""
    events: tuple[Told, ...] = ()


def join(facts: PodInterruption, now: float) -> Said | None:
    """What counts now; None if nothing does.

    A deadline moves towards us only: a notice that an operator sees for the first time after a restart has no more time
    than it had. Maintenance that is still far away may be put off.
    """
    notices = tuple(sorted(merge(facts.notices), key=lambda notice: _rank(notice.kind, _end_of(notice), now)))
    told = _record_of(notices, now) if notices else None
    old = facts.record
    if old is None:
        return None if told is None else Said(told, True, (_noticed(told, notices),))
    old = _set_back(old, now)
    held = old.held_until is not None and old.held_until > now
    if told is None:
        return Said(old, held) if held or not facts.known else None
    weaker = told.kind is not old.kind and _rank(told.kind, told.deadline, now) > _rank(old.kind, old.deadline, now)
    if weaker and facts.known and not held:
        # What was stronger was taken back, what is left begins for itself.
        return Said(told, True, (withdrawn(old, now), _noticed(told, notices)))
    if weaker:
        return Said(replace(old, deadline=_earliest(old.deadline, told.deadline)), held)
    if told.kind is not old.kind:
        record = replace(
            old,
            kind=told.kind,
            raised=_first_said(told.kind, notices, now) if old.kind in UNPRESSING else old.raised,
            deadline=_earliest(old.deadline, told.deadline),
            held_until=told.held_until,
        )
        return Said(record, True, (_noticed(record, notices),))
    put_off = told.kind is Kind.SCHEDULED and not held and old.deadline is not None
    if put_off and old.deadline is not None and now < old.deadline - SCHEDULED_LEAD_SECONDS:
        return Said(replace(old, deadline=told.deadline), True)
    record = replace(
        old,
        deadline=_earliest(old.deadline, told.deadline),
        held_until=_latest(old.held_until, told.held_until),
    )
    return Said(record, True, _brought_forward(old, record))


def _rank(kind: Kind, deadline: float | None, now: float) -> float:
    """How much it says, the least for the most. Maintenance whose time has not come says less than a node that is lost
    today."""
    if kind is Kind.SCHEDULED and deadline is not None and now < deadline - SCHEDULED_LEAD_SECONDS:
        return STRENGTH.index(Kind.NODE_LOST) + 0.5
    return STRENGTH.index(kind)


def _record_of(notices: tuple[Notice, ...], now: float) -> Record:
    """A record of what is said now alone; the strongest comes first."""
    strongest = notices[0].kind
    return Record(
        kind=strongest,
        since=min(now, *(notice.seen for notice in notices)),
        deadline=min((_end_of(notice) for notice in notices if notice.kind in LEAVING), default=None),
        held_until=max(
            (at for notice in notices if notice.kind is strongest and (at := notice.held_until) is not None),
            default=None,
        ),
    )


def _first_said(kind: Kind, notices: tuple[Notice, ...], now: float) -> float:
    return min(now, *(notice.seen for notice in notices if notice.kind is kind))


def _end_of(notice: Notice) -> float:
    last = notice.last_moment
    return notice.seen + PATIENCE_SECONDS if last is None else last


def _set_back(record: Record, now: float) -> Record:
    """The record as this clock would have written it: one that begins in our future was written by a clock ahead of
    ours (or ours was set back), and all its times are moved with it.
    """
    ahead = max(record.since, record.begun) - now
    if ahead <= 0:
        return record

    def moved(at: float | None) -> float | None:
        return None if at is None else at - ahead

    return replace(
        record,
        since=min(now, record.since - ahead),
        raised=moved(record.raised),
        deadline=moved(record.deadline),
        held_until=moved(record.held_until),
        replaced=moved(record.replaced),
        unrouted=moved(record.unrouted),
        covered=moved(record.covered),
        drained=moved(record.drained),
        evicted=moved(record.evicted),
    )


def _noticed(record: Record, notices: tuple[Notice, ...]) -> Told:
    first = notices[0]
    left = "" if record.deadline is None else f"; its time is up in {max(0.0, record.deadline - record.begun):.0f} s"
    where = first.node or first.instance or "the pod itself"
    return Told("InterruptionNoticed", f"{first.source} says {first.kind} of {where}{left}", record.kind in HURRIED)


def _brought_forward(old: Record, record: Record) -> tuple[Told, ...]:
    if record.deadline is None or old.deadline is None or record.deadline > old.deadline - 1.0:
        return ()
    sooner = old.deadline - record.deadline
    return (Told("InterruptionBroughtForward", f"its time is up {sooner:.0f} s sooner than was said", True),)


def withdrawn(record: Record, now: float) -> Told:
    return Told("InterruptionWithdrawn", f"nobody says {record.kind} of it any more, {ago(record, now)}")


def steps_begin(record: Record) -> float:
    """From when on it is measured how long steps take: what was said days before is no notice of them."""
    if record.kind is Kind.SCHEDULED and record.deadline is not None:
        return max(record.begun, record.deadline - SCHEDULED_LEAD_SECONDS)
    return record.begun


def ago(record: Record, now: float) -> str:
    """How long after the notice, in words."""
    return f"{max(0.0, now - steps_begin(record)):.1f} s after the notice"


def _earliest(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _latest(one: float | None, other: float | None) -> float | None:
    return max((at for at in (one, other) if at is not None), default=None)
