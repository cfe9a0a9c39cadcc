"""Reports of agents become one fact, however they arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.holdings import Held
from npc_operator.domain.reports import lost_contact, merge_report
from npc_runtime.wire import (
    AdapterPhase,
    AdapterReport,
    AgentReport,
    EngineReport,
    EngineState,
    Stamp,
    served_name,
)
from tests.support.builders import digest


def report(archetype: str, value: str, phase: AdapterPhase = AdapterPhase.RESIDENT, since: int = 1) -> AdapterReport:
    name = served_name(archetype, value)
    return AdapterReport(served_name=name, archetype=archetype, digest=value, phase=phase, resident_since_ms=since)


def said(
    *reports: AdapterReport, full: bool = False, removed: tuple[str, ...] = (), boot: str = "b1", revision: int = 1
) -> AgentReport:
    return AgentReport(
        boot_id=boot,
        revision=revision,
        stamp=Stamp(epoch=1, generation=revision),
        full=full,
        ready=True,
        draining=False,
        engine=EngineReport(state=EngineState.READY),
        adapters=reports,
        removed=removed,
    )


A, B = report("a", digest("a")), report("b", digest("b"))


def test_a_full_report_replaces_and_a_partial_one_is_laid_over() -> None:
    first = merge_report(None, said(A, full=True), pod_uid="u")
    second = merge_report(first, said(B), pod_uid="u")
    assert set(second.adapters.entries) == {A.served_name, B.served_name}
    third = merge_report(second, said(removed=(A.served_name,)), pod_uid="u")
    assert set(third.adapters.entries) == {B.served_name}
    fourth = merge_report(third, said(A, full=True), pod_uid="u")
    assert set(fourth.adapters.entries) == {A.served_name}


def test_another_boot_or_pod_begins_anew() -> None:
    first = merge_report(None, said(A, full=True), pod_uid="u")
    assert set(merge_report(first, said(B, boot="b2"), pod_uid="u").adapters.entries) == {B.served_name}
    assert set(merge_report(first, said(B), pod_uid="other").adapters.entries) == {B.served_name}


def test_unchanged_reports_keep_their_identity() -> None:
    first = merge_report(None, said(A, B, full=True), pod_uid="u")
    again = merge_report(first, said(A.model_copy(), B.model_copy(), full=True), pod_uid="u")
    assert again.adapters is first.adapters
    assert again == first


def test_pods_that_say_the_same_share_one_entry_whenever_they_proved_it() -> None:
    known: dict[str, Held] = {}
    facts = [
        merge_report(
            None,
            said(report("a", digest("a"), since=number), full=True),
            pod_uid=f"u{number}",
            sharing=lambda held: known.setdefault(held.served_name, held),
        )
        for number in (1, 2)
    ]
    assert facts[0].adapters.entries[A.served_name] is facts[1].adapters.entries[A.served_name]


def test_lost_contact_keeps_the_last_words() -> None:
    first = merge_report(None, said(A, full=True), pod_uid="u")
    lost = lost_contact(first)
    assert lost.reachable is False
    assert lost.adapters == first.adapters
    assert merge_report(lost, said(), pod_uid="u").reachable is True


NAMES = st.sampled_from(["a", "b", "c", "d"])
STATES = st.dictionaries(NAMES, st.sampled_from(list(AdapterPhase)), max_size=4)


@given(st.lists(STATES, min_size=1, max_size=6))
def test_deltas_lead_to_the_same_as_a_full_report(states: list[dict[str, AdapterPhase]]) -> None:
    fact, known = None, dict[str, AdapterReport]()
    for number, state in enumerate(states):
        reports = {name: report(name, digest(name), phase) for name, phase in state.items()}
        changed = [one for name, one in reports.items() if known.get(name) != one]
        removed = tuple(one.served_name for name, one in known.items() if name not in reports)
        fact = merge_report(fact, said(*changed, removed=removed, full=number == 0, revision=number + 1), pod_uid="u")
        known = reports
        whole = merge_report(None, said(*reports.values(), full=True, revision=number + 1), pod_uid="u")
        assert fact == whole
