"""What the agent of a pod read from its machine's metadata service, as it stands in the agent's report.

The agent sees its own machine only, so the notice is about the node that its pod is on, which the caller knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source, name_of
from npc_operator.domain.interruption.sources.reading import mapping
from npc_runtime.wire import InterruptionReport

KINDS = {kind.value: kind for kind in (Kind.INTERRUPTION, Kind.REBALANCE, Kind.SCHEDULED, Kind.TERMINATION)}
_SOURCE = Source.METADATA
UNKNOWN_KIND = "UnknownKind"


def parse_report(report: object, *, node: str | None, instance: str | None, seen: float) -> Parsed:
    """The `interruption` of an AgentReport, as a message or as it was on the wire, and where the agent's pod is."""
    if report is None:
        return Ignored(_SOURCE, "Nothing")
    if isinstance(report, InterruptionReport):
        kind_name, deadline_ms = report.kind, report.deadline_ms
    elif isinstance(report, Mapping):
        fields = mapping(report)
        kind_name, deadline_ms = str(fields.get("kind")), _milliseconds(fields.get("deadlineMs"))
    else:
        return Ignored(_SOURCE, "NotAReport", malformed=True)
    kind = KINDS.get(kind_name)
    if kind is None:
        return Ignored(_SOURCE, UNKNOWN_KIND)
    node, instance = name_of(node), name_of(instance)
    if node is None and instance is None:
        return Ignored(_SOURCE, "NoNode")
    return Notice(
        source=_SOURCE,
        kind=kind,
        node=node,
        instance=instance,
        pod_uid=None,
        seen=seen,
        deadline=None if deadline_ms is None else deadline_ms / 1000,
    )


def _milliseconds(value: object) -> int | None:
    # Far beyond any time there will be, and far below what a float cannot hold.
    return value if type(value) is int and 0 <= value < 1 << 50 else None
