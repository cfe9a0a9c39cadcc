"""Pods whose machines go away: what happens to their lines, their adapters, their replacements and themselves."""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.queue import Lane
from npc_operator.ports import PortError
from npc_operator.reconcilers.triggers import pick_lane
from npc_runtime.wire import InterruptionReport
from tests.component.operator.machines import KARPENTER, NTH, ON_DEMAND, REBALANCE, SPOT, start
from tests.support.builders import NAMESPACE


async def test_a_spot_notice_moves_the_lines_at_once_and_the_pod_goes_when_its_replacement_is_asked_for() -> None:
    world = await start()
    world.lines = 3
    pod = world.spot_pod()
    world.stuck.add(pod)  # a line that takes long
    await world.settle(5)
    begun = world.clock.now()
    world.mark(world.node_of(pod), NTH, added=begun)
    await world.settle(0.9)
    assert pod not in world.routed()
    assert world.asked(SPOT) == 3
    note = world.note(pod)
    assert (note["kind"], note["deadline"]) == ("Interruption", float(int(begun)) + 120)
    assert note["unrouted"] - begun < 1
    assert note["replaced"] - begun < 1
    await world.settle(20)
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"]
    world.stuck.clear()
    await world.settle(10)
    assert not world.is_there(pod)
    assert world.asked(SPOT) == 2
    assert len(world.routed()) >= 3
    told = world.recorder.reasons(pod)
    assert told == [
        "InterruptionNoticed",
        "LinesMovedAway",
        "AdaptersCovered",
        "ReplacementRequested",
        "LinesDrained",
        "InterruptedPodEvicted",
    ]
    assert "InterruptionOver" in world.recorder.reasons("gold")
    assert dict(world.meter.steps)["Unrouted"] < 1
    assert world.meter.interruptions[0] == ("gold", "Interruption")


async def test_a_pod_whose_lines_nobody_can_take_serves_until_25_seconds_before_its_end() -> None:
    world = await start(wanted=1, minReplicas=1, capacity={"onDemandBase": 0})
    world.hold_new_engines()
    pod = world.spot_pod()
    world.lines = 1
    world.stuck.add(pod)
    begun = float(int(world.clock.now()))
    world.mark(world.node_of(pod), NTH, added=begun)
    await world.settle(90)
    assert world.routed() == {pod}
    await world.settle(10)
    assert world.routed() == set()
    assert begun + 95 <= world.note(pod)["unrouted"] <= begun + 96
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"]
    await world.settle(25)
    assert world.live("Pod", pod)["metadata"]["deletionTimestamp"]


async def test_a_notice_that_is_taken_back_leaves_nothing_behind() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(3)
    assert pod not in world.routed()
    world.mark(world.node_of(pod))
    await world.settle(3)
    assert pod in world.routed()
    assert world.note(pod) == {}
    assert world.asked(SPOT) == 2
    assert world.interruptions()["pods"] == 0
    assert world.recorder.reasons(pod)[-1] == "InterruptionWithdrawn"
    annotations = world.live("Pod", pod)["metadata"]["annotations"]
    assert names.ANNOTATION_DELETION_COST not in annotations
    assert annotations[names.ANNOTATION_ENGINE_KEY], "what others wrote there stays"


async def test_a_second_wave_gives_the_first_pod_its_lines_back_until_its_end_is_near() -> None:
    world = await start(wanted=2, on_demand=1)
    world.hold_new_engines()
    first = world.spot_pod()
    second = world.engine_pods(ON_DEMAND)[0]["metadata"]["name"]
    world.stuck |= {first, second}
    world.mark(world.node_of(first), NTH, added=world.clock.now())
    await world.settle(5)
    assert world.routed() == {second}
    world.mark(world.node_of(second), NTH, added=world.clock.now())
    await world.settle(3)
    assert world.routed() == {first, second}
    assert "LinesCameBack" in world.recorder.reasons(first)


async def test_an_eviction_that_a_budget_forbids_is_asked_for_until_it_is_allowed_and_said_once() -> None:
    world = await start()
    pod = world.spot_pod()
    (budget,) = (
        one["metadata"]["name"]
        for one in world.peek("PodDisruptionBudget")
        if one["spec"]["selector"]["matchLabels"].get(names.LABEL_TIER) == "gold"
    )
    world.api.set_status("PodDisruptionBudget", NAMESPACE, budget, {"disruptionsAllowed": 0})
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(20)
    asked = [call for call in world.writes() if call.startswith("evict")]
    assert len(asked) > 5
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"]
    assert world.recorder.reasons(pod).count("EvictionBlocked") == 1
    assert "InterruptedPodEvicted" not in world.recorder.reasons(pod)
    assert "Evicted" not in dict(world.meter.steps), "it is not"
    world.api.set_status("PodDisruptionBudget", NAMESPACE, budget, {"disruptionsAllowed": 1})
    await world.settle(3)
    assert 19 < dict(world.meter.steps)["Evicted"] < 24
    assert not world.is_there(pod)
    assert world.recorder.reasons(pod).count("InterruptedPodEvicted") == 1


async def test_an_api_server_that_takes_no_note_keeps_no_pod_on_the_routes_and_is_asked_again_soon() -> None:
    world = await start()
    mend = world.api.fail(PortError("no"), where=lambda call: call.verb == "apply" and call.kind == "Pod")
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(0.9)
    assert pod not in world.routed()
    await world.settle(123)
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"], "nothing is done that is not written down"
    mend()
    await world.settle(3)
    assert world.live("Pod", pod)["metadata"]["deletionTimestamp"]


async def test_a_lost_machine_costs_its_pods_their_lines_and_brings_others_and_ends_none() -> None:
    world = await start()
    pod = world.spot_pod()
    world.lose(world.node_of(pod))
    world.pods("gold")[pod].deaf = True
    await world.settle(3)
    assert pod not in world.routed()
    assert world.asked(SPOT) == 3
    await world.settle(200)
    assert "deletionTimestamp" not in world.live("Pod", pod)["metadata"]
    assert not [call for call in world.writes() if call.startswith("evict")]


async def test_a_lost_machine_that_is_heard_of_again_serves_again() -> None:
    world = await start()
    pod = world.spot_pod()
    node = world.node_of(pod)
    world.lose(node)
    await world.settle(3)
    assert pod not in world.routed()
    world.put_node(node, SPOT)
    world.mark(node)
    await world.settle(5)
    assert pod in world.routed()
    assert world.asked(SPOT) == 2


async def test_a_drain_waits_for_the_replacement_to_be_ready() -> None:
    world = await start()
    pod = world.spot_pod()
    world.hold_new_agents = True
    world.mark(world.node_of(pod), KARPENTER)
    await world.settle(30)
    assert pod not in world.routed()
    assert world.is_there(pod)
    assert world.note(pod)["kind"] == "Drain"
    world.hold_new_agents = False
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    await world.settle(5)
    assert not world.is_there(pod)


async def test_a_cordon_alone_ends_nothing_and_asks_for_nothing() -> None:
    world = await start()
    pod = world.spot_pod()
    world.cordon(world.node_of(pod))
    await world.settle(30)
    assert pod in world.routed()
    assert world.asked(SPOT) == 2
    assert world.note(pod)["kind"] == "Cordon"


async def test_a_recommendation_brings_a_replacement_first_and_the_old_pod_goes_only_then() -> None:
    world = await start()
    pod = world.spot_pod()
    world.hold_new_agents = True
    world.mark(world.node_of(pod), REBALANCE)
    await world.settle(30)
    assert pod in world.routed()
    assert world.asked(SPOT) == 3
    world.hold_new_agents = False
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    await world.settle(10)
    assert not world.is_there(pod)
    assert world.asked(SPOT) == 2
    assert len(world.routed()) == 3


async def test_of_several_pods_on_a_machine_one_is_replaced_in_ten_minutes_whoever_leads() -> None:
    world = await start(wanted=3, spot=4, per_machine=2)
    node = next(
        name
        for name in ("spot-0", "spot-1", "spot-2", "spot-3")
        if sum(pod["spec"].get("nodeName") == name for pod in world.engine_pods()) >= 1
    )
    first = [pod["metadata"]["name"] for pod in world.engine_pods() if pod["spec"].get("nodeName") == node]
    other = next(pod["metadata"]["name"] for pod in world.engine_pods(SPOT) if pod["metadata"]["name"] not in first)
    world.api.edit("Pod", NAMESPACE, other, lambda live: live["spec"].update(nodeName=node))
    world.hold_new_engines()
    begun = world.clock.now()
    world.mark(node, REBALANCE)
    await world.settle(100)
    assert world.asked(SPOT) == 3
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(400)
    assert world.asked(SPOT) == 3
    await world.settle(begun + 600 - world.clock.now() + 5)
    assert world.asked(SPOT) == 4


async def test_a_machine_whose_first_pod_was_replaced_and_is_gone_still_had_its_turn_whoever_leads() -> None:
    world = await start(wanted=3, spot=4, per_machine=2)
    first, second = (pod["metadata"]["name"] for pod in world.engine_pods(SPOT))
    node = world.node_of(first)
    world.api.edit("Pod", NAMESPACE, second, lambda live: live["spec"].update(nodeName=node))
    begun = world.clock.now()
    world.mark(node, REBALANCE)
    await world.settle(60)
    assert [world.is_there(pod) for pod in (first, second)].count(True) == 1
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(begun + 590 - world.clock.now())
    assert [world.is_there(pod) for pod in (first, second)].count(True) == 1
    await world.settle(60)
    assert not world.is_there(first)
    assert not world.is_there(second)


async def test_what_an_agent_hears_of_its_machine_counts() -> None:
    world = await start(interruption={"agentMetadata": "GCP"})
    pod = world.spot_pod()
    world.stuck.add(pod)
    end = world.clock.now() + 30
    world.pods("gold")[pod].interruption = InterruptionReport(
        kind="Interruption", deadline_ms=int(end * 1000), source="GCP"
    )
    world.report()
    await world.settle(0.9)
    assert pod not in world.routed()
    assert world.note(pod)["deadline"] == end
    world.pods("gold")[pod].interruption = None
    world.report()
    await world.settle(2)
    assert pod in world.routed()


async def test_a_pod_that_a_rollout_ends_is_nobodys_interruption() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.api.end_pod(NAMESPACE, pod)
    await world.settle(5)
    assert pod not in world.routed()
    assert world.recorder.reasons(pod) == []
    assert world.interruptions()["pods"] == 0
    assert world.interruptions()["since"] == ""


async def test_a_pod_that_somebody_drains_away_is_an_interruption_and_is_not_evicted_twice() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.api.end_pod(NAMESPACE, pod, disrupted=True)
    await world.settle(5)
    assert world.recorder.reasons(pod)[:2] == ["InterruptionNoticed", "LinesMovedAway"]
    assert not [call for call in world.writes() if call.startswith("evict")]
    assert world.asked(SPOT) == 2, "the Deployment replaces it by itself"


async def test_a_suspended_tier_moves_its_lines_and_changes_no_pod() -> None:
    world = await start()
    pod = world.spot_pod()
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(suspend=True))
    await world.settle(5)
    world.api.forget_calls()
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(200)
    assert pod not in world.routed()
    assert world.is_there(pod)
    assert world.note(pod) == {}
    assert world.asked(SPOT) == 2


async def test_at_rest_nothing_is_written_although_a_notice_stands() -> None:
    world = await start()
    pod = world.spot_pod()
    world.cordon(world.node_of(pod))
    await world.settle(60)
    world.api.forget_calls()
    world.look_again()
    await world.settle(600)
    assert world.writes() == []


async def test_a_note_that_somebody_took_away_is_written_again_and_a_strange_one_breaks_nothing() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.edit("Pod", pod, lambda live: live["metadata"]["annotations"].update({names.ANNOTATION_INTERRUPTION: "??"}))
    await world.settle(3)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(3)
    since = world.note(pod)["since"]
    world.edit("Pod", pod, lambda live: live["metadata"]["annotations"].pop(names.ANNOTATION_INTERRUPTION))
    await world.settle(3)
    assert world.note(pod)["since"] == since


async def test_a_tier_whose_pods_go_asks_for_their_replacements_before_voices_are_looked_at_again() -> None:
    world = await start()
    gold = Key(KeyKind.TIER, NAMESPACE, "gold")
    assert pick_lane(world.store, gold) is Lane.NORMAL
    world.mark(world.node_of(world.spot_pod()), NTH, added=world.clock.now())
    await world.settle(0.5)
    assert pick_lane(world.store, gold) is Lane.URGENT
