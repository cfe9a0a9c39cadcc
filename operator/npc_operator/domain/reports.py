"""From an agent's reports to one fact: full reports replace, partial ones are laid over what was known.

Reports that did not change keep their identity, so that comparing two facts with a thousand adapters costs a thousand
pointer comparisons.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain.facts import AgentFact
from npc_runtime.wire import AdapterReport, AgentReport


def merge_report(old: AgentFact | None, report: AgentReport, *, pod_uid: str) -> AgentFact:
    """What is known of a pod's agent after `report`. A partial report of another boot than the known one is taken as
    all there is.
    """
    same = old is not None and old.pod_uid == pod_uid and old.boot_id == report.boot_id
    known = old.adapters if old is not None and same else {}
    if report.full or not same:
        adapters = {one.served_name: _keep(known.get(one.served_name), one) for one in report.adapters}
    elif report.adapters or report.removed:
        adapters = dict(known)
        for gone in report.removed:
            adapters.pop(gone, None)
        for one in report.adapters:
            adapters[one.served_name] = _keep(known.get(one.served_name), one)
    else:
        return AgentFact(
            pod_uid,
            report.boot_id,
            report.stamp,
            report.ready,
            report.draining,
            report.engine,
            known,
            report.slots_used,
            report.slots_total,
        )
    return AgentFact(
        pod_uid=pod_uid,
        boot_id=report.boot_id,
        stamp=report.stamp,
        ready=report.ready,
        draining=report.draining,
        engine=report.engine,
        adapters=adapters,
        slots_used=report.slots_used,
        slots_total=report.slots_total,
    )


def lost_contact(old: AgentFact) -> AgentFact:
    """The same words, marked as memory."""
    return replace(old, reachable=False)


def _keep(known: AdapterReport | None, news: AdapterReport) -> AdapterReport:
    return known if known is not None and known == news else news
