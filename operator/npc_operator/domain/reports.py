"""From an agent's reports to one fact: full reports replace, partial ones are laid over what was known.

Messages end here: what is kept of them is frozen, small, and the same object wherever it says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from npc_operator.domain.facts import AgentFact
from npc_operator.domain.holdings import NOTHING, Held, follow
from npc_runtime.wire import AdapterReport, AgentReport

Sharing = Callable[[Held], Held]
"""Gives an equal entry that is known already, perhaps from another pod, or the very one it was asked about."""


def merge_report(
    old: AgentFact | None, report: AgentReport, *, pod_uid: str, sharing: Sharing | None = None
) -> AgentFact:
    """What is known of a pod's agent after `report`. A partial report of another boot than the known one is taken as
    all there is.
    """
    same = old is not None and old.pod_uid == pod_uid and old.boot_id == report.boot_id
    known = old.adapters if old is not None and same else NOTHING
    said = [_strip(one, sharing) for one in report.adapters]
    removed = report.removed
    if report.full:
        removed = tuple(known.entries.keys() - {held.served_name for held in said})
    return AgentFact(
        pod_uid=pod_uid,
        boot_id=report.boot_id,
        stamp=report.stamp,
        draining=report.draining,
        engine=report.engine,
        adapters=follow(known, said, removed),
        interruption=report.interruption,
    )


def lost_contact(old: AgentFact) -> AgentFact:
    """The same words, marked as memory."""
    return replace(old, reachable=False)


def _strip(report: AdapterReport, sharing: Sharing | None) -> Held:
    held = Held(
        served_name=report.served_name,
        archetype=report.archetype,
        digest=report.digest,
        phase=report.phase,
        reason=report.reason,
        message=report.message,
        done_bytes=report.done_bytes,
        total_bytes=report.total_bytes,
        identity_checked=report.identity_checked,
    )
    return held if sharing is None else sharing(held)
