"""Azure Kubernetes Service: conditions that its node problem detector sets from the VM's scheduled events, and the
taint of its remediator.

A condition's message begins with what happens and how far it is: `Preempt Scheduled: Sat, 01 Aug 2026 05:41:02 GMT.
...`. The type of the condition says less than the message: advisories set it as well. A Freeze is a pause of seconds
that loses nothing.
"""

from __future__ import annotations

import re

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source
from npc_operator.domain.interruption.sources.reading import (
    Condition,
    NodeName,
    conditions_of,
    http_date,
    name_of_node,
    taints_of,
)

CONDITIONS = frozenset(
    (
        "VMEventScheduled",
        "PreemptionScheduled",
        "PreemptScheduled",
        "TerminateScheduled",
        "RedeployScheduled",
        "RebootScheduled",
    )
)
TAINT_UNSCHEDULABLE = frozenset(
    ("remediator.kubernetes.azure.com/unschedulable", "remediator.aks.microsoft.com/unschedulable")
)
EVENTS = {
    "Preempt": Kind.INTERRUPTION,
    "Terminate": Kind.SCHEDULED,
    "Redeploy": Kind.SCHEDULED,
    "Reboot": Kind.SCHEDULED,
    "SpotRebalanceRecommendation": Kind.REBALANCE,
}
_HARMLESS = frozenset(("Freeze",))
_GONE = {"Completed", "Canceled"}
_MESSAGE = re.compile(
    r"\s*([A-Za-z]{1,64})\s+(Scheduled|Started|Advisory|Completed|Canceled)\b(?:\s*:\s*([^.]{0,64}))?"
)
_SOURCE = Source.AKS
_ORDER = (Kind.INTERRUPTION, Kind.SCHEDULED, Kind.REBALANCE)


def parse_node(node: object, *, seen: float) -> Parsed:
    """A Node object."""
    name = name_of_node(node)
    if name is None:
        return Ignored(_SOURCE, "NotANode", malformed=True)
    told = [
        _parse_condition(name, condition, seen)
        for condition in conditions_of(node)
        if condition.type in CONDITIONS and condition.status == "True"
    ]
    notices = [item for item in told if isinstance(item, Notice)]
    if notices:
        return min(notices, key=lambda notice: _ORDER.index(notice.kind))
    if any(taint.key in TAINT_UNSCHEDULABLE for taint in taints_of(node)):
        return _notice(name, Kind.DRAIN, seen, None)
    return told[0] if told else Ignored(_SOURCE, "NoCondition")


def _parse_condition(name: NodeName, condition: Condition, seen: float) -> Parsed:
    match = _MESSAGE.match(condition.message)
    if match is None:
        return Ignored(_SOURCE, "UnknownMessage", malformed=True)
    event, status, when = match.groups()
    if event in _HARMLESS or status in _GONE:
        return Ignored(_SOURCE, "HarmlessEvent")
    kind = EVENTS.get(event)
    if kind is None:
        return Ignored(_SOURCE, "UnknownEvent")
    if status == "Advisory":
        return _notice(name, Kind.REBALANCE, seen, None)
    if status == "Started":
        return _notice(name, kind, seen, seen)
    return _notice(name, kind, seen, http_date(when.strip()) if when else None)


def _notice(name: NodeName, kind: Kind, seen: float, deadline: float | None) -> Notice:
    return Notice(
        source=_SOURCE,
        kind=kind,
        node=name.node,
        instance=name.instance,
        pod_uid=None,
        seen=seen,
        deadline=deadline,
    )
