"""Interruptions through the eyes of several leaders, of queues' readers, and of those who count what they cost."""

from __future__ import annotations

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.notices import Kind, Notice, Source
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.domain.interruption.visibility import NODES, NODES_VISIBLE, NodesFact
from npc_operator.domain.keys import KeyKind
from npc_operator.ports import PortError
from npc_operator.reconcilers import triggers
from npc_operator.reconcilers.hearing import SILENT_SECONDS
from npc_runtime.wire import TierLines
from tests.component.operator.machines import KEY, NTH, SPOT, Machines, start
from tests.support.builders import NAMESPACE, at_once


async def start_with_notice() -> tuple[Machines, str]:
    """Engines that serve, and one of them whose node had its notice 3 s ago; lines run on it to the end."""
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(3)
    return world, pod


def said_of(world: Machines, pod: str, kind: Kind = Kind.INTERRUPTION) -> Notice:
    now = world.clock.now()
    return Notice(
        source=Source.EVENT_BRIDGE,
        kind=kind,
        node=None,
        instance=f"i-{world.node_of(pod)}",
        pod_uid=None,
        seen=now,
        deadline=now + 120,
    )


# --- several leaders ---


async def test_another_leader_goes_on_from_the_notes_and_nothing_swings_back() -> None:
    world, pod = await start_with_notice()
    before, asked = world.note(pod), world.asked(SPOT)
    assert pod not in world.routed()
    world.api.forget_calls()
    world.lead_elsewhere()
    await world.settle(5)
    assert pod not in world.routed(), "as long as machines were not heard, what is written counts"
    assert world.asked(SPOT) == asked
    assert world.note(pod)["since"] == before["since"]
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"], "nobody is evicted for what is remembered"
    world.hear_nodes()
    world.stuck.clear()
    await world.settle(10)
    assert not world.is_there(pod)
    assert world.asked(SPOT) == 2


async def test_a_new_leader_takes_a_pod_for_one_that_goes_before_its_first_look_if_that_is_written_there() -> None:
    world, pod = await start_with_notice()
    world.lead_elsewhere()
    engines = world.reconcilers._world.engines(NAMESPACE, "gold")
    assert [engine.unrouted for engine in engines if engine.pod.name == pod] == [True]
    assert not any(engine.unrouted for engine in engines if engine.pod.name != pod)


async def test_a_new_leader_brings_no_lines_back_before_it_could_hear_who_takes_them() -> None:
    world, pod = await start_with_notice()
    uid, begun = world.live("Pod", pod)["metadata"]["uid"], len(world.recorder.events)
    world.lead_elsewhere()
    world.hear_nodes()
    look = world.reconcilers.interruptions.reconcile
    await look(KEY)
    assert uid in world.told().unrouted
    world.clock.time += SILENT_SECONDS - 0.1
    await look(KEY)
    assert uid in world.told().unrouted
    world.clock.time += 0.1
    await look(KEY)
    assert uid not in world.told().unrouted, "who was not heard by now may be gone"
    await world.settle(3)
    assert uid in world.told().unrouted
    said = [reason for who, reason, _ in world.recorder.events[begun:] if who == pod]
    assert said[:2] == ["LinesCameBack", "LinesMovedAway"]


async def test_the_first_look_of_a_leader_makes_routes_anew_where_it_says_otherwise_than_what_is_written() -> None:
    world, pod = await start_with_notice()
    world.lead_elsewhere()
    routes, marked = world.reconcilers._world, list[KeyKind]()
    world.store.subscribe(lambda change: marked.extend(key.kind for key in triggers(world.store, change)))
    before = routes.version(NAMESPACE)
    world.store.put(TierInterruptions, NAMESPACE, "gold", TierInterruptions())
    assert KeyKind.ROUTES in marked
    assert routes.version(NAMESPACE) > before
    world.store.drop(TierInterruptions, NAMESPACE, "gold")
    marked.clear()
    before = routes.version(NAMESPACE)
    unrouted = frozenset({world.live("Pod", pod)["metadata"]["uid"]})
    world.store.put(TierInterruptions, NAMESPACE, "gold", TierInterruptions(unrouted=unrouted))
    assert KeyKind.ROUTES not in marked, "it is what is written"
    assert routes.version(NAMESPACE) == before


async def test_a_notice_that_was_taken_back_while_nobody_led_is_undone() -> None:
    world, pod = await start_with_notice()
    world.lead_elsewhere()
    world.mark(world.node_of(pod))
    await world.settle(3)
    world.hear_nodes()
    await world.settle(5)
    assert pod in world.routed()
    assert world.note(pod) == {}


async def test_an_operator_that_was_away_during_the_notice_acts_by_the_first_time_that_is_written() -> None:
    world = await start()
    world.hold_new_engines()
    pod = world.spot_pod()
    world.stuck.add(pod)
    begun = float(int(world.clock.now()))
    world.mark(world.node_of(pod), NTH, added=begun)
    await world.settle(3)
    world.clock.time += 130
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(3)
    assert world.live("Pod", pod)["metadata"]["deletionTimestamp"]


# --- queues ---


async def test_what_a_queue_says_is_written_at_every_pod_before_it_counts_as_heard() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    await world.reconcilers.interruptions.hear(said_of(world, pod))
    assert world.note(pod)["kind"] == "Interruption"
    assert world.note(pod)["held_until"] == pytest.approx(world.clock.now() + 720)
    await world.settle(1)
    assert pod not in world.routed()
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(5)
    assert pod not in world.routed(), "a queue says it once"


async def test_what_cannot_be_written_is_not_heard() -> None:
    world = await start()
    pod = world.spot_pod()
    mend = world.api.fail(PortError("no"), where=lambda call: call.kind == "Pod")
    with pytest.raises(PortError):
        await world.reconcilers.interruptions.hear(said_of(world, pod))
    mend()
    world.stuck.add(pod)
    await world.reconcilers.interruptions.hear(said_of(world, pod))
    assert world.note(pod)["kind"] == "Interruption"
    assert world.recorder.reasons(pod)[0] == "InterruptionNoticed"


async def test_a_queue_speaks_of_its_own_namespaces_alone() -> None:
    world = await start()
    pod = world.spot_pod()
    await world.reconcilers.interruptions.hear(said_of(world, pod), namespaces=frozenset({"elsewhere"}))
    world.look_again()
    await world.settle(5)
    assert pod in world.routed()
    assert world.note(pod) == {}
    world.stuck.add(pod)
    await world.reconcilers.interruptions.hear(said_of(world, pod), namespaces=frozenset({NAMESPACE}))
    await world.settle(1)
    assert pod not in world.routed()


async def test_nothing_is_heard_before_it_is_known_which_machine_is_whose() -> None:
    world = await start()
    notice = said_of(world, world.spot_pod())
    world.lead_elsewhere()
    with pytest.raises(PortError):
        await world.reconcilers.interruptions.hear(notice)


async def test_a_queue_that_speaks_again_does_not_move_the_end_away() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    await world.reconcilers.interruptions.hear(said_of(world, pod))
    end = world.note(pod)["deadline"]
    await world.settle(60)
    await world.reconcilers.interruptions.hear(said_of(world, pod))
    await world.settle(3)
    assert world.note(pod)["deadline"] == end


# --- what it costs ---


async def test_what_an_interruption_cost_is_in_the_status_in_an_event_and_in_metrics() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    first, second = world.doors().values()
    first.lines = (TierLines(tier="gold", lost=7),)
    world.report()
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(3)
    assert world.interruptions()["over"] is False
    first.lines = (TierLines(tier="gold", lost=9, rerouted=4), TierLines(tier="silver", lost=100))
    second.lines = (TierLines(tier="gold", downgraded=5),)
    world.report()
    await world.settle(3)
    world.stuck.clear()
    await world.settle(60)
    said = world.interruptions()
    assert (said["lostLines"], said["reroutedLines"], said["downgradedLines"]) == (2, 4, 5)
    assert said["over"] is True
    assert said["ledger"] == ""
    message = next(text for who, reason, text in world.recorder.events if reason == "InterruptionOver")
    assert "2 lines lost, 4 re-routed, 5 downgraded" in message
    assert (world.meter.costs["lost"], world.meter.costs["rerouted"], world.meter.costs["downgraded"]) == (2, 4, 5)


async def test_what_it_cost_until_now_survives_the_leader() -> None:
    world, _ = await start_with_notice()
    door = next(iter(world.doors().values()))
    door.lines = (TierLines(tier="gold", lost=3),)
    world.report()
    await world.settle(12)
    assert world.interruptions()["lostLines"] == 3
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(3)
    door.lines = (TierLines(tier="gold", lost=4),)
    world.report()
    await world.settle(3)
    world.stuck.clear()
    await world.settle(60)
    assert world.interruptions()["lostLines"] == 4


async def test_seconds_below_target_are_counted_while_too_few_pods_are_ready() -> None:
    world = await start(wanted=2, on_demand=1)
    world.hold_new_engines()
    pod = world.spot_pod()
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(60)
    assert 50 <= world.interruptions()["secondsBelowTarget"] <= 61


async def test_each_machine_is_one_recent_interruption_however_many_pods_it_takes_and_the_status_knows_it() -> None:
    world = await start(wanted=5, spot=2, per_machine=2)
    for node in ("spot-0", "spot-1"):
        assert sum(pod["spec"].get("nodeName") == node for pod in world.engine_pods(SPOT)) == 2
    world.mark("spot-0", NTH, added=world.clock.now())
    await world.settle(2)
    assert len(world.told().recent) == 1
    await world.settle(30)
    assert len(world.told().recent) == 1
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(2)
    assert len(world.told().recent) == 1
    world.mark("spot-1", NTH, added=world.clock.now())
    await world.settle(2)
    assert len(world.told().recent) == 2


async def test_a_gateway_that_does_not_say_where_lines_run_is_waited_for_until_the_end() -> None:
    world = await start()
    for gateway in world.doors().values():
        gateway.counting = False
    world.report()
    pod = world.spot_pod()
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(100)
    assert world.is_there(pod)
    await world.settle(25)
    assert not world.is_there(pod)


# --- adapters ---


async def test_where_pods_hold_different_adapters_those_of_a_pod_that_goes_come_to_others_and_it_keeps_them() -> None:
    world = Machines(wanted=3, spot=4, engine={"image": "vllm:test", "maxCpuLoras": 4, "maxLoras": 2})
    for number in range(4):
        world.put(at_once(f"voice-{number}"))
    await world.settle(60)
    pod = world.spot_pod()
    world.stuck.add(pod)
    mine = world.residents(pod)
    assert mine
    world.hold_new_engines()
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(10)
    others = set().union(*(set(agent.resident) for name, agent in world.pods("gold").items() if name != pod))
    assert mine <= others
    assert "AdaptersCovered" in world.recorder.reasons(pod)


async def test_the_first_look_of_a_leader_drops_what_an_earlier_one_thought() -> None:
    world, pod = await start_with_notice()
    assert world.told().leaving
    world.lead()
    assert world.reconcilers.interruptions.of_tier(KEY).leaving == {world.live("Pod", pod)["metadata"]["uid"]}


async def test_a_tier_says_that_nodes_may_not_be_seen_for_as_long_as_they_may_not() -> None:
    world = await start()
    world.store.put(NodesFact, "", NODES, NodesFact(hidden=True))
    await world.settle(3)
    assert world.said(names.KIND_TIER, "gold", NODES_VISIBLE)[:2] == ("False", "NodesForbidden")
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    world.store.drop(NodesFact, "", NODES)
    world.lead_elsewhere()
    await world.settle(5)
    assert world.said(names.KIND_TIER, "gold", NODES_VISIBLE)[0] == "False", "the next leader has not looked yet"
    world.store.put(NodesFact, "", NODES, NodesFact(hidden=False))
    await world.settle(3)
    assert world.said(names.KIND_TIER, "gold", NODES_VISIBLE) == ("", "", "")


async def test_facts_of_machines_are_small_and_speak_of_nothing_else() -> None:
    world = await start()
    fact = world.store.get(NodeFact, "", "spot-0")
    assert fact == NodeFact(name="spot-0", instance="i-spot-0")
