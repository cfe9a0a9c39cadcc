"""What a queue says that cannot be written at any pod yet: of a machine that nobody knows, of a suspended tier's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.heardbook import read_heard
from npc_operator.domain.interruption.notices import Kind, Notice
from npc_operator.domain.interruption.queues import NOT_NOTED, UNKNOWN_MACHINE
from npc_operator.ports import PortError, Unsettled
from tests.component.operator.machines import SPOT, Machines, start
from tests.component.operator.test_interruption_memory import said_of

# --- a machine that nobody knows ---


async def test_a_message_about_a_machine_that_is_not_listed_waits_and_writes_nothing() -> None:
    world = await start()
    world.api.forget_calls()
    with pytest.raises(Unsettled) as waiting:
        await hear(world, replace(said_of(world, world.spot_pod()), instance="i-0"))
    assert waiting.value.reason == UNKNOWN_MACHINE
    await world.settle(5)
    assert world.writes() == []


async def test_a_machine_whose_node_comes_later_has_its_word_at_once() -> None:
    """Not only when the queue says it again."""
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    node = world.node_of(pod)
    notice = said_of(world, pod)
    fact = world.store.get(NodeFact, "", node)
    assert fact is not None
    world.store.drop(NodeFact, "", node)
    await world.settle(1)
    with pytest.raises(Unsettled):
        await hear(world, notice)
    await world.settle(10)
    assert pod in world.routed()
    world.store.put(NodeFact, "", node, fact)
    await world.settle(0.9)
    assert pod not in world.routed()
    assert world.note(pod)["deadline"] == notice.deadline
    await hear(world, replace(notice, seen=world.clock.now()))
    assert world.note(pod)["deadline"] == notice.deadline


async def test_before_nodes_are_listed_no_machine_is_foreign() -> None:
    world = await start()
    notice = said_of(world, world.spot_pod())
    world.lead_elsewhere()
    with pytest.raises(PortError) as failed:
        await hear(world, notice)
    assert not isinstance(failed.value, Unsettled)


# --- a suspended tier ---


async def suspended() -> tuple[Machines, str]:
    world = await start()
    pod = world.spot_pod()
    world.stuck.add(pod)
    suspend(world, True)
    await world.settle(5)
    return world, pod


def suspend(world: Machines, suspend: bool) -> None:
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(suspend=suspend))


async def hear(world: Machines, notice: Notice) -> None:
    await world.reconcilers.interruptions.hear(notice)


async def test_what_a_queue_says_of_a_suspended_tier_stays_there_until_the_tiers_status_has_it() -> None:
    world, pod = await suspended()
    notice = said_of(world, pod)
    with pytest.raises(Unsettled) as waiting:
        await hear(world, notice)
    assert waiting.value.reason == NOT_NOTED
    await world.settle(1.5)
    assert pod not in world.routed()
    assert world.note(pod) == {}
    assert read_heard(world.interruptions()["heard"]) == (notice,)
    await hear(world, replace(notice, seen=world.clock.now()))
    # Another word of the same machine is another message.
    with pytest.raises(Unsettled):
        await hear(world, said_of(world, pod, Kind.TERMINATION))


async def test_a_status_that_cannot_be_written_keeps_the_message_on_the_queue() -> None:
    world, pod = await suspended()
    mend = world.api.fail(PortError("no"), where=lambda call: (call.kind, call.name) == (names.KIND_TIER, "gold"))
    for _ in range(2):
        with pytest.raises(Unsettled):
            await hear(world, said_of(world, pod))
        await world.settle(20)
    mend()
    await world.settle(20)
    await hear(world, said_of(world, pod))


async def test_another_leader_knows_what_was_said_of_a_suspended_tier_and_of_when() -> None:
    world, pod = await suspended()
    notice = said_of(world, pod)
    with pytest.raises(Unsettled):
        await hear(world, notice)
    await world.settle(10)
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(2)
    assert pod not in world.routed(), "a queue says it once"
    assert world.told().draining[0].deadline == notice.deadline
    assert world.note(pod) == {}


async def test_a_tier_that_goes_on_has_it_written_at_its_pods_and_no_more_in_its_status() -> None:
    world, pod = await suspended()
    notice = said_of(world, pod)
    with pytest.raises(Unsettled):
        await hear(world, notice)
    await world.settle(10)
    mend = world.api.fail(PortError("no"), where=lambda call: (call.kind, call.name) == ("Pod", pod))
    suspend(world, False)
    await world.settle(10)
    assert read_heard(world.interruptions()["heard"]) == (notice,), "until it is written elsewhere"
    mend()
    await world.settle(5)
    assert world.note(pod)["deadline"] == notice.deadline
    await world.settle(35)
    assert world.interruptions()["heard"] == ""
    assert world.asked(SPOT) == 3


async def test_what_is_out_of_date_leaves_the_status_of_a_suspended_tier() -> None:
    world, pod = await suspended()
    with pytest.raises(Unsettled):
        await hear(world, said_of(world, pod))
    await world.settle(700)
    assert pod not in world.routed()
    assert world.interruptions()["heard"]
    await world.settle(60)
    assert pod in world.routed()
    assert world.interruptions()["heard"] == ""
