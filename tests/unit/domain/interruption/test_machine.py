"""The way of one interrupted pod, case by case: state in, wishes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.api.interruption import InterruptionStatus
from npc_operator.domain.interruption.joining import SCHEDULED_LEAD_SECONDS, steps_begin
from npc_operator.domain.interruption.machine import ROUTE_MARGIN_SECONDS, decide_interruption
from npc_operator.domain.interruption.notices import Kind, Notice, Source
from npc_operator.domain.interruption.rebalance import MAX_NODES, Replacements, read_replacements
from npc_operator.domain.interruption.record import MAX_RECORD, Record, read_record
from npc_operator.domain.interruption.waves import decide_wave
from npc_operator.domain.interruption.wishes import PodInterruption, Steps

T = 1_000_000.0


def notice(kind: Kind, *, seen: float = T, deadline: float | None = None, **changes: Any) -> Notice:
    made = Notice(
        source=Source.KUBERNETES, kind=kind, node="spot-1", instance=None, pod_uid=None, seen=seen, deadline=deadline
    )
    return replace(made, **changes)


def spot(seconds: float = 120.0, *, seen: float = T) -> Notice:
    return notice(Kind.INTERRUPTION, seen=seen, deadline=seen + seconds, source=Source.NODE_TERMINATION_HANDLER)


def facts(*notices: Notice, **changes: Any) -> PodInterruption:
    """A pod that serves, whose siblings can take its lines, on a node that is closed; nothing replaced it yet."""
    made = PodInterruption(
        notices=notices,
        known=True,
        record=None,
        deleting=False,
        node_closed=True,
        others_can_take=True,
        covered=True,
        lines=3,
        replacement_ready=False,
        rebalance_at=0.0,
    )
    return replace(made, **changes)


def reasons(steps: Steps) -> list[str]:
    return [event.reason for event in steps.events]


def test_a_notice_takes_the_pod_off_the_routes_at_once_and_asks_for_a_replacement() -> None:
    steps = decide_interruption(facts(spot()), T)
    assert (steps.unroute, steps.cover, steps.replacement, steps.evict) == (True, True, "Now", False)
    assert reasons(steps) == ["InterruptionNoticed", "LinesMovedAway", "AdaptersCovered", "ReplacementRequested"]
    assert steps.wake_at == T + 1, "when lines on their way have arrived"


def test_it_is_evicted_once_no_line_runs_and_not_before() -> None:
    steps = decide_interruption(facts(spot()), T)
    for after, lines, evict in ((0.5, 0, False), (2, 1, False), (3, None, False), (4, 0, True), (5, 0, True)):
        steps = decide_interruption(facts(spot(), record=steps.record, lines=lines), T + after)
        assert steps.evict is evict, after
    assert reasons(decide_interruption(facts(spot(), record=steps.record, lines=0), T + 6)) == [], "said once"


def test_lines_that_came_after_all_are_waited_for_again() -> None:
    steps = decide_interruption(facts(spot(), node_closed=False), T)
    steps = decide_interruption(facts(spot(), record=steps.record, node_closed=False, lines=0), T + 3)
    assert steps.record is not None
    assert steps.record.drained is not None
    steps = decide_interruption(facts(spot(), record=steps.record, lines=1), T + 4)
    assert not steps.evict
    assert decide_interruption(facts(spot(), record=steps.record, lines=0), T + 5).evict


def test_where_nobody_else_can_take_its_lines_it_serves_until_25_seconds_before_the_end() -> None:
    alone = facts(spot(), others_can_take=False, covered=False)
    steps = decide_interruption(alone, T)
    assert (steps.unroute, steps.cover, steps.replacement) == (False, True, "Now")
    assert steps.wake_at == T + 95
    alone = replace(alone, record=steps.record)
    assert not decide_interruption(alone, T + 94.9).unroute
    steps = decide_interruption(alone, T + 95)
    assert steps.unroute
    assert not steps.evict
    assert decide_interruption(replace(alone, record=steps.record), T + 120).evict


def test_the_lines_go_as_soon_as_another_pod_can_take_them() -> None:
    steps = decide_interruption(facts(spot(), others_can_take=False), T)
    steps = decide_interruption(facts(spot(), record=steps.record), T + 40)
    assert steps.unroute
    assert reasons(steps) == ["LinesMovedAway"]


def test_a_second_wave_that_takes_the_others_gives_the_lines_back_until_the_last_moment() -> None:
    steps = decide_interruption(facts(spot()), T)
    steps = decide_interruption(facts(spot(), record=steps.record, others_can_take=False), T + 10)
    assert not steps.unroute
    assert reasons(steps) == ["LinesCameBack"]
    assert decide_interruption(facts(spot(), record=steps.record, others_can_take=False), T + 96).unroute


def test_a_second_notice_with_less_time_counts_and_one_with_more_does_not() -> None:
    steps = decide_interruption(facts(spot(), others_can_take=False), T)
    sooner = notice(Kind.INTERRUPTION, seen=T + 5, deadline=T + 40, source=Source.AKS)
    steps = decide_interruption(facts(spot(), sooner, record=steps.record, others_can_take=False), T + 5)
    assert steps.record is not None
    assert steps.record.deadline == T + 40
    assert reasons(steps) == ["InterruptionBroughtForward"]
    steps = decide_interruption(facts(spot(seen=T + 6), record=steps.record, others_can_take=False), T + 6)
    assert steps.record is not None
    assert steps.record.deadline == T + 40


def test_a_drained_pod_on_an_open_node_waits_for_the_end_lest_its_successor_lands_there() -> None:
    steps = decide_interruption(facts(spot(), node_closed=False), T)
    steps = decide_interruption(facts(spot(), record=steps.record, node_closed=False, lines=0), T + 5)
    assert steps.record is not None
    assert steps.record.drained == T + 5
    assert not steps.evict
    assert decide_interruption(facts(spot(), record=steps.record, node_closed=False, lines=0), T + 120).evict


def test_a_pod_that_came_to_an_open_node_after_its_end_is_not_evicted_lest_the_next_one_comes() -> None:
    for created, evict in ((T - 500, True), (T + 100, True), (T + 116, False), (T + 130, False), (None, True)):
        late = facts(spot(), node_closed=False, created=created)
        assert decide_interruption(late, T + 131).evict is evict, created
        closed = decide_interruption(replace(late, node_closed=True), T + 131)
        assert closed.evict, "none can come after it"
        steps = decide_interruption(late, T + 131)
        assert (steps.unroute, steps.replacement) == (True, "Now"), "it is none to rely on, either way"


def test_what_the_agent_of_a_pod_that_came_late_says_is_taken_as_the_machine_said_it() -> None:
    overdue = notice(Kind.SCHEDULED, seen=T, deadline=T - 3600, source=Source.METADATA)
    pod = facts(overdue, node_closed=False, created=T - 90)
    assert not decide_interruption(pod, T).evict
    assert decide_interruption(replace(pod, created=T - 7200), T).evict
    lost = facts(notice(Kind.TERMINATION), node_closed=False, created=T - 90)
    assert decide_interruption(lost, T).evict, "what is said of a node was heard before this pod came, if it was"


def test_a_node_that_somebody_empties_in_their_own_time_waits_for_the_replacement() -> None:
    drain = notice(Kind.DRAIN, source=Source.KARPENTER)
    steps = decide_interruption(facts(drain), T)
    assert (steps.unroute, steps.replacement) == (True, "Now")
    steps = decide_interruption(facts(drain, record=steps.record, lines=0), T + 60)
    assert not steps.evict
    assert decide_interruption(facts(drain, record=steps.record, lines=0, replacement_ready=True), T + 61).evict


def test_a_drain_that_nobody_can_replace_ends_all_the_same() -> None:
    drain = notice(Kind.DRAIN)
    alone = {"others_can_take": False, "covered": False}
    steps = decide_interruption(facts(drain, **alone), T)
    assert not steps.unroute
    steps = decide_interruption(facts(drain, record=steps.record, **alone), T + 900 - ROUTE_MARGIN_SECONDS)
    assert steps.unroute
    assert decide_interruption(facts(drain, record=steps.record, **alone), T + 900).evict


def test_a_drain_that_a_queue_said_once_counts_until_nobody_waits_any_more() -> None:
    """A group that ends an instance waits for its hook for an hour, and says so once."""
    said = notice(Kind.DRAIN, source=Source.EVENT_BRIDGE, instance="i-1", node=None)
    steps = decide_interruption(facts(said, node_closed=False), T)
    for after in (5, 601, 899):
        now = T + after
        told = () if said.held_until is None or said.held_until <= now else (said,)
        steps = decide_interruption(facts(*told, record=steps.record, node_closed=False, lines=0), now)
        assert (steps.unroute, steps.evict) == (True, False), after
    assert decide_interruption(facts(said, record=steps.record, node_closed=False, lines=0), T + 900).evict


def test_a_zone_of_recommendations_makes_no_book_that_a_status_cannot_take() -> None:
    nodes = {f"uid-{number:04}": f"{number:0>253}" for number in range(1500)}
    pods = {uid: facts(notice(Kind.REBALANCE, node=node)) for uid, node in nodes.items()}
    wave = decide_wave(pods, nodes, Replacements(), T)
    book = wave.replacements
    for uid, steps in wave.steps.items():
        assert steps.record is not None
        assert steps.record.replaced is not None
        book = book.known(nodes[uid], steps.record.replaced)
    pods = {uid: replace(pod, record=wave.steps[uid].record) for uid, pod in pods.items()}
    wave = decide_wave(pods, nodes, book, T + 1)
    assert not any(steps.granted for steps in wave.steps.values())
    assert all(wave.replacements.next_at(node, T + 1) > T + 1 for node in nodes.values())
    text = wave.replacements.write()
    InterruptionStatus.model_validate({"replacements": text})
    assert len(read_replacements(text).at) == MAX_NODES


def test_a_pod_that_is_being_deleted_is_off_the_routes_and_evicted_by_nobody() -> None:
    going = notice(Kind.TERMINATION, deadline=T + 80)
    steps = decide_interruption(facts(going, deleting=True, others_can_take=False, lines=0), T)
    assert (steps.unroute, steps.replacement, steps.evict) == (True, "Now", False)
    steps = decide_interruption(facts(going, deleting=True, record=steps.record, lines=0), T + 200)
    assert not steps.evict
    assert decide_interruption(facts(deleting=True), T) == Steps(unroute=True)


def test_a_notice_that_is_taken_back_leaves_nothing_behind() -> None:
    steps = decide_interruption(facts(spot()), T)
    steps = decide_interruption(facts(record=steps.record), T + 20)
    assert steps == Steps(events=steps.events)
    assert reasons(steps) == ["InterruptionWithdrawn"]


def test_silence_is_no_withdrawal_before_every_source_was_heard() -> None:
    record = decide_interruption(facts(spot()), T).record
    steps = decide_interruption(facts(record=record, known=False, lines=0), T + 20)
    assert steps.unroute
    assert not steps.evict, "nobody says it any more, so nothing is taken down for it"
    late = decide_interruption(facts(record=steps.record, known=False), T + 500)
    assert not late.evict
    assert decide_interruption(facts(spot(), record=late.record), T + 501).evict


def test_a_word_from_a_queue_holds_although_nobody_repeats_it() -> None:
    told = notice(Kind.INTERRUPTION, deadline=T + 120, source=Source.EVENT_BRIDGE)
    steps = decide_interruption(facts(told), T)
    steps = decide_interruption(facts(record=steps.record, lines=0), T + 10)
    assert steps.evict
    assert steps.record is not None
    steps = decide_interruption(facts(record=steps.record), T + 120 + 600)
    assert reasons(steps) == ["InterruptionWithdrawn"], "a node that lives ten minutes after its end was spared"


def test_what_is_left_of_an_interruption_that_was_taken_back_begins_for_itself() -> None:
    cordon = notice(Kind.CORDON)
    steps = decide_interruption(facts(spot(), cordon), T)
    steps = decide_interruption(facts(cordon, record=steps.record), T + 20)
    assert (steps.unroute, steps.cover, steps.replacement, steps.evict) == (False, True, "None", False)
    assert steps.record is not None
    assert (steps.record.kind, steps.record.replaced) == (Kind.CORDON, None)


def test_a_cordon_only_has_the_adapters_brought_elsewhere() -> None:
    steps = decide_interruption(facts(notice(Kind.CORDON), lines=0, replacement_ready=True), T)
    assert (steps.unroute, steps.cover, steps.replacement, steps.evict) == (False, True, "None", False)


def test_a_lost_node_is_left_by_lines_that_others_can_take_and_never_evicted() -> None:
    lost = notice(Kind.NODE_LOST)
    for others in (True, False):
        steps = decide_interruption(facts(lost, others_can_take=others, lines=None), T)
        assert (steps.unroute, steps.replacement) == (others, "Now")
        steps = decide_interruption(facts(lost, record=steps.record, lines=0, replacement_ready=True), T + 9000)
        assert not steps.evict


def test_maintenance_next_week_changes_nothing_until_ten_minutes_before() -> None:
    week = 7 * 86400.0
    told = notice(Kind.SCHEDULED, deadline=T + week)
    steps = decide_interruption(facts(told), T)
    assert (steps.unroute, steps.cover, steps.replacement, steps.evict) == (False, False, "None", False)
    assert steps.wake_at == T + week - 600
    put_off = notice(Kind.SCHEDULED, deadline=T + 2 * week)
    steps = decide_interruption(facts(put_off, record=steps.record), T + 1)
    assert steps.wake_at == T + 2 * week - 600
    steps = decide_interruption(facts(put_off, record=steps.record), T + 2 * week - 600)
    assert (steps.unroute, steps.replacement) == (True, "Now")


def test_a_recommendation_brings_a_replacement_first_and_the_pod_goes_only_when_that_is_ready() -> None:
    told = notice(Kind.REBALANCE)
    steps = decide_interruption(facts(told), T)
    assert (steps.unroute, steps.cover, steps.replacement, steps.granted) == (False, True, "Now", True)
    steps = decide_interruption(facts(told, record=steps.record), T + 60)
    assert (steps.unroute, steps.replacement, steps.granted) == (False, "Now", False)
    steps = decide_interruption(facts(told, record=steps.record, replacement_ready=True), T + 90)
    assert steps.unroute
    steps = decide_interruption(facts(told, record=steps.record, replacement_ready=True, lines=0), T + 95)
    assert steps.evict


def test_a_recommendation_for_an_open_node_only_pre_warms() -> None:
    told = notice(Kind.REBALANCE)
    ready: dict[str, Any] = {"replacement_ready": True, "node_closed": False, "lines": 0}
    steps = decide_interruption(facts(told, **ready), T)
    steps = decide_interruption(facts(told, record=steps.record, **ready), T + 599)
    assert (steps.unroute, steps.replacement, steps.evict) == (False, "Now", False)


def test_an_interruption_after_a_recommendation_keeps_the_replacement_it_has() -> None:
    steps = decide_interruption(facts(notice(Kind.REBALANCE)), T)
    steps = decide_interruption(facts(notice(Kind.REBALANCE), spot(seen=T + 30), record=steps.record), T + 30)
    assert steps.record is not None
    assert (steps.record.replaced, steps.record.kind) == (T, Kind.INTERRUPTION)
    assert "ReplacementRequested" not in reasons(steps)
    assert steps.unroute


def test_a_node_of_two_pods_gets_one_replacement_in_ten_minutes() -> None:
    told = notice(Kind.REBALANCE)
    pods = {"b": facts(told), "a": facts(told)}
    nodes = {"a": "spot-1", "b": "spot-1"}
    wave = decide_wave(pods, nodes, Replacements(), T)
    assert {uid: steps.replacement for uid, steps in wave.steps.items()} == {"a": "Now", "b": "None"}
    assert wave.wake_at == T + 600
    again = {uid: facts(told, record=wave.steps[uid].record) for uid in pods}
    book = read_replacements(wave.replacements.write())
    assert decide_wave(again, nodes, book, T + 599).steps["b"].replacement == "None"
    assert decide_wave(again, nodes, book, T + 600).steps["b"].replacement == "Now"


def test_a_clock_set_back_keeps_nobody_waiting_for_longer_than_the_rule() -> None:
    book = Replacements({"spot-1": T + 5000})
    assert book.next_at("spot-1", T) == T + 600


@pytest.mark.parametrize("ahead", [0.0, 40.0, 5000.0])
def test_a_record_from_a_clock_ahead_of_ours_means_the_time_that_was_left(ahead: float) -> None:
    there = decide_interruption(facts(spot(seen=T + ahead), others_can_take=False), T + ahead)
    steps = decide_interruption(facts(spot(seen=T), record=there.record, others_can_take=False), T)
    assert steps.record is not None
    assert steps.record.deadline == T + 120
    assert decide_interruption(facts(spot(), record=steps.record, others_can_take=False), T + 95).unroute


def test_a_record_survives_being_written_and_is_small() -> None:
    full = Record(
        kind=Kind.INTERRUPTION,
        since=T + 0.1234,
        deadline=T,
        held_until=T,
        replaced=T,
        unrouted=T,
        covered=T,
        drained=T,
        evicted=T,
    )
    assert read_record(full.write()) == replace(full, since=T + 0.123)
    assert len(full.write()) < MAX_RECORD / 2


@pytest.mark.parametrize(
    "text",
    [
        None, "", "{}", "[]", "nul", "{" * 500, '{"v":2,"kind":"Drain","since":1}', '{"v":1,"kind":"Drain"}',
        '{"v":1,"kind":"Teleport","since":1}', '{"v":1,"kind":"Drain","since":"1"}',
        '{"v":1,"kind":"Drain","since":NaN}',
        '{"v":1,"kind":"Drain","since":1e999}', '{"v":1,"kind":["x"],"since":1}', " " * 2000 + "{}",
    ],
)  # fmt: skip
def test_what_is_no_record_counts_as_none(text: str | None) -> None:
    assert read_record(text) is None


@pytest.mark.parametrize("mild", [Kind.CORDON, Kind.REBALANCE])
def test_what_is_said_an_hour_after_a_milder_word_begins_when_it_is_said(mild: Kind) -> None:
    first = decide_interruption(facts(notice(mild)), T).record
    later = T + 3600
    steps = decide_interruption(facts(notice(mild), spot(seen=later), record=first), later + 1)
    assert steps.record is not None
    assert (steps.record.since, steps.record.begun) == (T, later)
    assert read_record(steps.record.write()) == steps.record
    told = {event.reason: event.message for event in steps.events}
    if mild is Kind.CORDON:
        assert "1.0 s after the notice" in told["ReplacementRequested"]
    else:
        assert "ReplacementRequested" not in told, "it was requested with the recommendation"
    assert told["InterruptionNoticed"].endswith("its time is up in 120 s")
    worse = notice(Kind.TERMINATION, seen=later + 30)
    steps = decide_interruption(facts(worse, record=steps.record), later + 30)
    assert steps.record is not None
    assert steps.record.begun == later, "it went on, it did not begin anew"
    # A clock that was set back takes all of it along, to no later than now.
    steps = decide_interruption(facts(worse, record=steps.record), T - 100)
    assert steps.record is not None
    assert (steps.record.since, steps.record.begun) == (T - 100 - 3600, T - 100)


def test_a_clock_that_is_set_back_leaves_a_notice_that_followed_a_cordon_the_time_it_had() -> None:
    alone: dict[str, Any] = {"others_can_take": False, "covered": False}
    cordon = notice(Kind.CORDON, seen=T - 86_400)
    first = decide_interruption(facts(cordon, **alone), T - 86_400).record
    record = decide_interruption(facts(cordon, spot(), record=first, **alone), T).record
    back = T - 3600
    steps = decide_interruption(facts(cordon, spot(), record=record, **alone), back)
    assert steps.record is not None
    assert steps.record.deadline == back + 120
    assert decide_interruption(facts(cordon, spot(), record=steps.record, **alone), back + 95).unroute


@pytest.mark.parametrize("queued", [False, True])
def test_maintenance_that_is_days_away_hides_no_node_that_is_lost_today(queued: bool) -> None:
    far = notice(Kind.SCHEDULED, deadline=T + 5 * 86_400, instance="i-1", node=None)
    if queued:
        far = replace(far, source=Source.EVENT_BRIDGE)
    lost = notice(Kind.NODE_LOST, seen=T + 10)
    first = decide_interruption(facts(far), T).record
    steps = decide_interruption(facts(far, lost, record=first), T + 10)
    assert (steps.unroute, steps.replacement, steps.evict) == (True, "Now", False)
    assert steps.record is not None
    assert steps.record.kind is Kind.NODE_LOST
    found = decide_interruption(facts(far, record=steps.record), T + 60)
    assert (found.unroute, found.replacement) == (False, "None")
    assert found.record == replace(first, since=T) if first is not None else None
    # Once the maintenance begins it says more: the node ends whether it is seen again or not.
    due = T + 5 * 86_400 - SCHEDULED_LEAD_SECONDS
    steps = decide_interruption(facts(far, replace(lost, seen=due - 60), record=found.record), due)
    assert steps.record is not None
    assert steps.record.kind is Kind.SCHEDULED


def test_maintenance_that_is_put_off_after_it_was_begun_with_keeps_its_time() -> None:
    record = decide_interruption(facts(notice(Kind.SCHEDULED, deadline=T + 300)), T).record
    steps = decide_interruption(facts(notice(Kind.SCHEDULED, deadline=T + 9000), record=record), T + 10)
    assert steps.record is not None
    assert steps.record.deadline == T + 300
    assert steps.unroute


def test_steps_of_maintenance_are_measured_from_when_it_is_begun_with() -> None:
    told = notice(Kind.SCHEDULED, deadline=T + 9000)
    record = decide_interruption(facts(told), T).record
    assert record is not None
    assert steps_begin(record) == T + 9000 - SCHEDULED_LEAD_SECONDS
    steps = decide_interruption(facts(told, record=record), T + 8400.5)
    assert any("0.5 s after the notice" in event.message for event in steps.events)
