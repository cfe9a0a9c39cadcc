"""EventBridge messages of EC2, EC2 Auto Scaling and AWS Health, as they lie in an SQS queue.

One message may name several machines (AWS Health), so it gives several results; there is always at least one. What is
well formed and not meant for us is Ignored; what is not an EventBridge message at all is Ignored as malformed, and the
reader sets it aside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source, name_of
from npc_operator.domain.interruption.sources.reading import http_date, items, mapping, rfc3339, text

MAX_BODY = 1 << 20
"""Characters of a message: SQS takes no larger one."""
MAX_MACHINES = 1000
"""Machines of one message that are looked at."""
SPOT_NOTICE_SECONDS = 120.0
"""EC2 takes a spot instance two minutes after the warning was made (its `time`)."""
GOING = frozenset(("stopping", "stopped", "shutting-down", "terminated"))
_STAYING = frozenset(("pending", "running"))
_SOURCE = Source.EVENT_BRIDGE


def parse_message(body: object, *, seen: float) -> tuple[Parsed, ...]:
    """The body of one SQS message."""
    if not isinstance(body, str) or len(body) > MAX_BODY:
        return (_malformed("NotText"),)
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return (_malformed("NotJson"),)
    if not isinstance(event, Mapping) or not text(event.get("detail-type")) or not text(event.get("source")):
        return (_malformed("NotAnEvent"),)
    parse = _PARSERS.get((text(event["source"]), text(event["detail-type"])))
    if parse is None:
        return (Ignored(_SOURCE, "OtherEvent"),)
    return parse(event, seen)


def _spot(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    made = rfc3339(event.get("time"))
    return _one(event, "instance-id", Kind.INTERRUPTION, seen, None if made is None else made + SPOT_NOTICE_SECONDS)


def _reserved(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    at = rfc3339(mapping(event, "detail").get("instance-termination-time"))
    return _one(event, "instance-id", Kind.INTERRUPTION, seen, at)


def _rebalance(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    return _one(event, "instance-id", Kind.REBALANCE, seen, None)


def _state(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    state = text(mapping(event, "detail").get("state"))
    if state in GOING:
        return _one(event, "instance-id", Kind.TERMINATION, seen, None)
    return (Ignored(_SOURCE, "StaysUp" if state in _STAYING else "UnknownState"),)


def _lifecycle(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    """A group ends an instance and waits for its hook, which whoever owns the hook completes."""
    detail = mapping(event, "detail")
    if "autoscaling:TEST_NOTIFICATION" in (detail.get("Event"), detail.get("LifecycleTransition")):
        return (Ignored(_SOURCE, "TestNotification"),)
    return _one(event, "EC2InstanceId", Kind.DRAIN, seen, None)


def _health(event: Mapping[str, object], seen: float) -> tuple[Parsed, ...]:
    detail = mapping(event, "detail")
    if detail.get("service") != "EC2":
        return (Ignored(_SOURCE, "OtherService"),)
    if detail.get("eventTypeCategory") != "scheduledChange":
        return (Ignored(_SOURCE, "OtherCategory"),)
    if text(detail.get("statusCode")) == "closed":
        return (Ignored(_SOURCE, "Closed"),)
    starts = http_date(detail.get("startTime"))
    found: list[Parsed] = []
    for entity in items(detail.get("affectedEntities")):
        instance = name_of(entity.get("entityValue"))
        if len(found) < MAX_MACHINES and instance is not None:
            found.append(_notice(Kind.SCHEDULED, instance, seen, starts))
    return tuple(found) or (Ignored(_SOURCE, "NoMachine"),)


_PARSERS: Mapping[tuple[str, str], Callable[[Mapping[str, object], float], tuple[Parsed, ...]]] = {
    ("aws.ec2", "EC2 Spot Instance Interruption Warning"): _spot,
    ("aws.ec2", "EC2 Interruptible Capacity Reservation Instance Interruption Warning"): _reserved,
    ("aws.ec2", "EC2 Instance Rebalance Recommendation"): _rebalance,
    ("aws.ec2", "EC2 Instance State-change Notification"): _state,
    ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action"): _lifecycle,
    ("aws.health", "AWS Health Event"): _health,
}


def _one(
    event: Mapping[str, object], field: str, kind: Kind, seen: float, deadline: float | None
) -> tuple[Parsed, ...]:
    instance = name_of(mapping(event, "detail").get(field))
    if instance is None:
        return (_malformed("NoMachine"),)
    return (_notice(kind, instance, seen, deadline),)


def _notice(kind: Kind, instance: str, seen: float, deadline: float | None) -> Notice:
    return Notice(source=_SOURCE, kind=kind, node=None, instance=instance, pod_uid=None, seen=seen, deadline=deadline)


def _malformed(reason: str) -> Ignored:
    return Ignored(_SOURCE, reason, malformed=True)
