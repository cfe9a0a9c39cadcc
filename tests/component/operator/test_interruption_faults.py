"""What clouds and handlers do to machines beside saying so: they take the Node away, drain by themselves, and repeat
what they said long ago.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import Pod, Tier
from npc_operator.domain.interruption.record import MAX_RECORD
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.ports import PortError, Unsettled
from npc_operator.reconcilers import interruption_look
from tests.component.operator.machines import KARPENTER, KEY, NTH, ON_DEMAND, SPOT, Machines, start
from tests.component.operator.test_capacity_nodes import mode, up
from tests.component.operator.test_interruption_memory import said_of
from tests.support.builders import NAMESPACE, pod_fact


async def test_a_machine_that_is_taken_off_the_cluster_takes_nothing_back() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    node = world.node_of(pod)
    world.mark(node, NTH, added=world.clock.now())
    await world.settle(5)
    noted = world.note(pod)
    world.api.remove("Node", "", node)
    await world.settle(50)  # until Kubernetes collects the pods of machines that are not there any more
    assert pod not in world.routed()
    assert "InterruptionWithdrawn" not in world.recorder.reasons(pod)
    assert world.note(pod) == noted
    assert world.asked(SPOT) == 3
    world.api.end_pod(NAMESPACE, pod)
    world.stuck.clear()
    await world.settle(10)
    assert not world.is_there(pod)
    assert world.asked(SPOT) == 2


async def test_a_machine_that_comes_again_under_its_name_and_says_nothing_takes_its_word_back() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    node = world.node_of(pod)
    world.mark(node, NTH, added=world.clock.now())
    await world.settle(5)
    world.api.remove("Node", "", node)
    await world.settle(5)
    world.put_node(node, SPOT)
    await world.settle(5)
    assert world.recorder.reasons(pod)[-1] == "InterruptionWithdrawn"
    assert pod in world.routed()
    assert world.asked(SPOT) == 2


async def test_machines_that_their_provider_drains_by_itself_buy_nothing_on_demand() -> None:
    world = await up()
    for _ in range(3):
        pod = world.spot_pod()
        world.mark(world.node_of(pod), KARPENTER)
        await world.settle(0.5)
        await drain(world, pod)
        assert bought(world) == (1, 3, "Normal")


async def test_machines_that_somebody_drains_by_hand_buy_nothing_on_demand() -> None:
    world = await up()
    for _ in range(3):
        pod = world.spot_pod()
        world.cordon(world.node_of(pod))
        await world.settle(5)
        await drain(world, pod)
        assert bought(world) == (1, 3, "Normal")


async def drain(world: Machines, pod: str) -> None:
    """As `kubectl drain` and Karpenter do it: a word at the pod, and its deletion."""
    world.stuck.add(pod)
    world.api.end_pod(NAMESPACE, pod, disrupted=True)
    await world.settle(5)
    assert world.interruptions()["nodes"] == ""
    world.stuck.discard(pod)
    await world.settle(30)
    assert not world.is_there(pod)


def bought(world: Machines) -> tuple[int, int, str]:
    return world.asked(ON_DEMAND), world.asked(SPOT), mode(world)


async def test_a_machine_that_was_cordoned_long_ago_is_interrupted_when_its_cloud_says_so() -> None:
    world = await up()
    pod = world.spot_pod()
    world.stuck.add(pod)
    world.cordon(world.node_of(pod))
    await world.settle(3000)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(1)
    assert bought(world) == (2, 4, "Fallback")
    world.stuck.clear()
    await world.settle(10)
    assert not world.is_there(pod)
    steps = dict(world.meter.steps)
    assert steps.keys() == {"Covered", "Unrouted", "Replaced", "Drained", "Evicted"}
    assert max(steps.values()) < 15, "the cordon was no notice of what came an hour later"


async def test_a_budget_that_says_no_is_not_asked_for_every_pod_of_a_zone() -> None:
    world = await start(wanted=41, spot=50, maxReplicas=200)
    forbid(world)
    doomed = [str(pod["metadata"]["name"]) for pod in world.engine_pods(SPOT)]
    begun = world.clock.now()
    for pod in doomed:
        world.mark(world.node_of(pod), NTH, added=begun)
    await world.settle(30)
    assert all(world.note(pod)["drained"] for pod in doomed)
    world.api.forget_calls()
    await world.settle(10)
    asked = [call for call in world.writes() if call.startswith("evict")]
    assert 10 <= len(asked) < 60, f"{len(asked)} questions in 10 s about {len(doomed)} pods"
    allow(world)
    await world.settle(60)
    assert not any(world.is_there(pod) for pod in doomed)


def forbid(world: Machines) -> None:
    world.api.set_status("PodDisruptionBudget", NAMESPACE, budget_of(world), {"disruptionsAllowed": 0})


def allow(world: Machines) -> None:
    world.api.set_status("PodDisruptionBudget", NAMESPACE, budget_of(world), {"disruptionsAllowed": 100})


def budget_of(world: Machines) -> str:
    (name,) = (
        one["metadata"]["name"]
        for one in world.peek("PodDisruptionBudget")
        if one["spec"]["selector"]["matchLabels"].get(names.LABEL_TIER) == "gold"
    )
    return str(name)


PART = 100


async def test_a_look_at_thousands_of_pods_lets_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption_look, "PART", PART)
    world = await start()
    pod, ticks = world.spot_pod(), 0
    for number in range(4 * PART):
        fact = pod_fact(f"gold-more-{number}", node=f"spot-more-{number}")
        world.store.put(Pod, NAMESPACE, fact.name, fact)
    world.mark(world.node_of(pod), NTH, added=world.clock.now())

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    let_in: list[int] = []
    world.store.subscribe(lambda change: let_in.append(ticks) if change.kind is TierInterruptions else None)
    ticking = asyncio.create_task(tick())
    await world.reconcilers.interruptions.reconcile(KEY)
    ticking.cancel()
    assert let_in[0] >= 4, "before it was decided"
    assert world.told().unrouted == {world.live("Pod", pod)["metadata"]["uid"]}


async def test_a_tier_that_is_deleted_while_its_pods_are_looked_at_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interruption_look, "PART", PART)
    world = await start()
    for number in range(2 * PART):
        fact = pod_fact(f"gold-more-{number}", node=f"spot-more-{number}")
        world.store.put(Pod, NAMESPACE, fact.name, fact)
    world.mark(world.node_of(world.spot_pod()), NTH, added=world.clock.now())
    looking = asyncio.create_task(world.reconcilers.interruptions.reconcile(KEY))
    await asyncio.sleep(0)
    world.store.drop(Tier, NAMESPACE, "gold")
    world.store.drop(TierInterruptions, NAMESPACE, "gold")
    await looking
    assert world.store.get(TierInterruptions, NAMESPACE, "gold") is None


async def test_a_note_that_somebody_made_a_book_of_is_not_kept_and_is_written_over() -> None:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    book = "x" * 200_000
    world.edit("Pod", pod, lambda live: live["metadata"]["annotations"].update({names.ANNOTATION_INTERRUPTION: book}))
    fact = world.store.get(Pod, NAMESPACE, pod)
    assert fact is not None
    assert len(fact.interruption) <= MAX_RECORD + 1
    world.mark(world.node_of(pod), NTH, added=world.clock.now())
    await world.settle(3)
    assert world.note(pod)["kind"] == "Interruption"


async def test_messages_that_come_together_are_answered_by_few_looks_and_each_only_once_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await start(wanted=21, spot=25, maxReplicas=60)
    pods = [str(pod["metadata"]["name"]) for pod in world.engine_pods(SPOT)][:20]
    world.stuck |= set(pods)
    world.api.forget_calls()
    looker, looks = world.reconcilers.interruptions._looker, 0
    look_in_parts = looker.look_in_parts

    async def counted(*given: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look_in_parts(*given)

    monkeypatch.setattr(looker, "look_in_parts", counted)
    refused = pods[7]
    world.api.fail(PortError("no"), where=lambda call: (call.kind, call.name) == ("Pod", refused))
    heard = await asyncio.gather(
        *(world.reconcilers.interruptions.hear(said_of(world, pod)) for pod in pods), return_exceptions=True
    )
    assert [pod for pod, one in zip(pods, heard, strict=True) if isinstance(one, PortError)] == [refused]
    assert all(world.note(pod) for pod in pods if pod != refused)
    assert looks <= 3


async def test_a_tier_that_is_suspended_while_a_look_waits_for_its_turn_has_nothing_written_at_its_pods() -> None:
    world = await start()
    first, second = (str(pod["metadata"]["name"]) for pod in world.engine_pods(SPOT))
    interruptions = world.reconcilers.interruptions
    kube, begun, go_on = interruptions._acts._kube, asyncio.Event(), asyncio.Event()
    apply = kube.apply

    async def hang(*given: Any, **named: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await apply(*given, **named)

    kube.apply = hang  # type: ignore[method-assign]
    looks = [asyncio.create_task(interruptions.hear(said_of(world, pod))) for pod in (first, second)]
    await begun.wait()
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(suspend=True))
    go_on.set()
    heard = await asyncio.gather(*looks, return_exceptions=True)
    assert world.note(first), "that was on its way"
    assert world.note(second) == {}
    assert isinstance(heard[1], Unsettled)


async def test_a_look_that_is_cut_off_lets_nobody_think_that_it_acted() -> None:
    world = await start(wanted=4)
    pods = [str(pod["metadata"]["name"]) for pod in world.engine_pods(SPOT)]
    interruptions = world.reconcilers.interruptions
    kube, turns = interruptions._acts._kube, asyncio.Semaphore(0)
    apply, waiting = kube.apply, asyncio.Semaphore(0)

    async def hang(*given: Any, **named: Any) -> Any:
        waiting.release()
        await turns.acquire()
        return await apply(*given, **named)

    kube.apply = hang  # type: ignore[method-assign]
    first, cut, last = (asyncio.create_task(interruptions.hear(said_of(world, pod))) for pod in pods)
    await waiting.acquire()  # the first look, and both others wait for its end
    turns.release()
    await first
    await waiting.acquire()  # the second one, for both
    cut.cancel()
    await asyncio.wait([cut])
    assert not last.done()
    for _ in range(10):
        turns.release()
    await last
    assert world.note(pods[2])["kind"] == "Interruption"
