"""Since when something is said: from the first word, whoever repeats it and whatever else is said meanwhile."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import NodeFact, Pod
from npc_operator.domain.interruption.notices import HELD_SECONDS, Kind, Notice, Source
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.sources.node import read_node
from npc_operator.loop.store import Store
from npc_operator.reconcilers.hearing import ENOUGH_MACHINES, MAX_HELD, SILENT_SECONDS, Hearing
from npc_runtime.wire import InterruptionReport
from tests.component.operator.harness import FakeClock
from tests.component.operator.machines import KARPENTER, NTH
from tests.support.builders import agent_fact, pod_fact

POD = pod_fact("gold-1", node="node-1")
QUEUED = Notice(
    source=Source.EVENT_BRIDGE,
    kind=Kind.INTERRUPTION,
    node=None,
    instance="i-1",
    pod_uid=None,
    seen=100.0,
    deadline=220.0,
)


class Ears:
    """One leader's, and the one machine it hears of."""

    def __init__(self) -> None:
        self.store = Store(FakeClock())
        self.strange: list[str] = []
        self.hearing = Hearing(self.store, strange=self.strange.append)
        self.say()

    def say(self, *taints: Any) -> None:
        manifest = {
            "metadata": {"name": "node-1"},
            "spec": {"providerID": "aws:///z/i-1", "taints": [dict(taint) for taint in taints]},
        }
        self.store.put(NodeFact, "", "node-1", read_node(manifest))

    def hear(
        self, now: float, *, pod: Pod = POD, agent: InterruptionReport | None = None, record: Record | None = None
    ) -> list[tuple[Kind, float]]:
        engine = Engine(pod, agent_fact(pod, interruption=agent))
        return [(one.kind, one.seen) for one in self.hearing.about(engine, record, now)]


def test_a_taint_is_heard_once_and_what_comes_beside_it_for_itself() -> None:
    ears = Ears()
    assert ears.hear(10.0) == []
    ears.say(NTH)
    assert ears.hear(20.0) == ears.hear(30.0) == [(Kind.INTERRUPTION, 20.0)]
    ears.say(KARPENTER, NTH)
    assert ears.hear(40.0) == [(Kind.DRAIN, 40.0), (Kind.INTERRUPTION, 20.0)]
    ears.say()
    assert ears.hear(50.0) == []
    ears.say(NTH)
    assert ears.hear(60.0) == [(Kind.INTERRUPTION, 60.0)]


def test_an_agent_that_names_another_end_says_the_same_and_one_that_names_another_kind_does_not() -> None:
    ears = Ears()
    said = InterruptionReport(kind="Rebalance")
    assert ears.hear(10.0, agent=said) == [(Kind.REBALANCE, 10.0)]
    said = InterruptionReport(kind="Interruption", deadline_ms=60_000)
    assert ears.hear(20.0, agent=said) == [(Kind.INTERRUPTION, 20.0)]
    assert ears.hear(30.0, agent=said.model_copy(update={"deadline_ms": 50_000})) == [(Kind.INTERRUPTION, 20.0)]
    assert ears.hear(40.0, agent=InterruptionReport(kind="Unheard")) == []
    assert ears.hear(50.0, agent=None) == []


def test_a_kind_that_only_a_newer_agent_knows_is_nobodys_notice_and_counted_once() -> None:
    ears = Ears()
    newer = InterruptionReport(kind="Hibernation", deadline_ms=60_000)
    assert [ears.hear(now, agent=newer) for now in (10.0, 20.0)] == [[], []]
    assert ears.strange == ["Metadata/UnknownKind"]


def test_a_queue_that_repeats_itself_says_one_thing_until_it_is_out_of_date() -> None:
    ears = Ears()
    ears.hearing.hold(QUEUED, None)
    ears.hearing.hold(replace(QUEUED, seen=150.0, deadline=270.0), None)
    assert ears.hear(200.0) == [(Kind.INTERRUPTION, 100.0)]
    assert ears.hear(219.0 + HELD_SECONDS) == [(Kind.INTERRUPTION, 100.0)]
    assert ears.hear(220.0 + HELD_SECONDS) == []


def test_a_queue_that_names_an_earlier_end_is_heard_and_one_that_names_a_later_one_is_not() -> None:
    ears = Ears()
    far = replace(QUEUED, kind=Kind.SCHEDULED, deadline=500_000.0)
    engine = Engine(POD, agent_fact(POD))
    ears.hearing.hold(far, None)
    ears.hearing.hold(replace(far, seen=150.0, deadline=9000.0), frozenset({"elsewhere"}))
    assert [(one.seen, one.deadline) for one in ears.hearing.about(engine, None, 155.0)] == [(100.0, 500_000.0)]
    ears.hearing.hold(replace(far, seen=160.0, deadline=900.0), None)
    ears.hearing.hold(replace(far, seen=170.0, deadline=700_000.0), None)
    assert [(one.seen, one.deadline) for one in ears.hearing.about(engine, None, 180.0)] == [(100.0, 900.0)]
    assert ears.hear(901.0 + HELD_SECONDS) == []


def test_words_of_machines_that_are_nobodys_here_push_no_word_out_that_still_counts() -> None:
    ears = Ears()
    ears.hearing.hold(replace(QUEUED, kind=Kind.SCHEDULED, deadline=500_000.0), None)
    for number in range(MAX_HELD + 10):
        seen = 100.0 + number
        foreign = replace(QUEUED, kind=Kind.TERMINATION, instance=f"i-foreign-{number}", seen=seen, deadline=None)
        ears.hearing.hold(foreign, None)
    assert ears.hear(100.0 + MAX_HELD) == [(Kind.SCHEDULED, 100.0)]


def test_agents_fall_silent_anew_each_time_and_are_forgotten_with_their_pods() -> None:
    ears, tier = Ears(), ("default", "gold")
    heard, mute = (Engine(POD, agent_fact(POD, reachable=reachable)) for reachable in (True, False))
    silent = ears.hearing.silent
    assert silent(tier, [mute], 10.0) == set()
    assert silent(tier, [mute], 10.0 + SILENT_SECONDS) == {POD.uid}
    assert silent(tier, [mute], 5.0) == set(), "the clock was set back"
    assert silent(tier, [mute], 5.0 + SILENT_SECONDS) == {POD.uid}
    assert silent(tier, [heard], 20.0) == set()
    assert silent(tier, [mute], 30.0) == set()
    assert silent(tier, (), 31.0) == set(), "nobody asks while nothing is said of the tier's pods"
    assert silent(tier, [mute], 3600.0) == set(), "that was another silence"
    other = pod_fact("gold-2", node="node-1")
    assert silent(tier, [Engine(other, agent_fact(other, reachable=False))], 3601.0) == set()
    assert silent(tier, [mute], 3650.0) == set(), "it was gone meanwhile"
    ears.hearing.forget_tier(tier)
    assert silent(tier, [mute], 3660.0) == set()


def test_a_queue_that_speaks_again_after_its_word_is_out_of_date_is_heard_though_nobody_asked_meanwhile() -> None:
    ears = Ears()
    ears.hearing.hold(QUEUED, None)
    later = 221.0 + HELD_SECONDS
    ears.hearing.hold(replace(QUEUED, seen=later, deadline=later + 120), None)
    assert ears.hear(later + 1) == [(Kind.INTERRUPTION, later)]


def test_machines_that_are_gone_are_forgotten_although_nobody_asks_about_them_again() -> None:
    ears = Ears()
    for number in range(5 * ENOUGH_MACHINES):
        name = f"node-{number}"
        ears.store.put(NodeFact, "", name, replace(read_node({"metadata": {"name": name}}), notices=(QUEUED,)))
        ears.hear(10.0, pod=pod_fact(f"gold-{number}", node=name))
        if number >= 10:
            ears.store.drop(NodeFact, "", f"node-{number - 10}")
    gc.collect()
    kept = sum(isinstance(one, NodeFact) for one in gc.get_objects())
    assert kept < 2 * ENOUGH_MACHINES


def test_a_deletion_is_heard_where_it_is_a_disruption_or_the_end_of_something_and_is_not_our_own() -> None:
    going = replace(POD, deleting=True, ends="1970-01-01T00:01:00Z")
    noticed = Record(kind=Kind.DRAIN, since=5.0)
    assert Ears().hear(10.0, pod=going) == []
    assert Ears().hear(10.0, pod=replace(POD, disrupted=True)) == [(Kind.TERMINATION, 10.0)]
    assert Ears().hear(10.0, pod=going, record=noticed) == [(Kind.TERMINATION, 10.0)]
    assert Ears().hear(10.0, pod=going, record=replace(noticed, evicted=9.0)) == []
    ears = Ears()
    ears.say(KARPENTER)
    assert ears.hear(10.0, pod=going) == [(Kind.DRAIN, 10.0), (Kind.TERMINATION, 10.0)]
    assert ears.hear(20.0, pod=going) == [(Kind.DRAIN, 10.0), (Kind.TERMINATION, 10.0)]
