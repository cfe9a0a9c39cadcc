"""Machines whose time is up and that live on, with nothing that keeps pods away: who is evicted there comes back."""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain.interruption.notices import Kind
from tests.component.operator.machines import SPOT, Machines, start
from tests.component.operator.test_interruption_memory import said_of

LEAD_SECONDS = 100.0


async def begin_maintenance() -> tuple[Machines, str, str]:
    """A machine whose maintenance should have begun half a minute ago, the pod that was there, and no other room."""
    world = await start()
    pod = world.spot_pod()
    machine = world.node_of(pod)
    taken = {one["spec"].get("nodeName") for one in world.engine_pods()}
    for node in world.peek("Node"):
        name = node["metadata"]["name"]
        if name not in taken and node["metadata"]["labels"]["slice"] == SPOT:
            world.cordon(name)
    told = replace(said_of(world, pod, Kind.SCHEDULED), deadline=world.clock.now() + 600 + LEAD_SECONDS)
    await world.reconcilers.interruptions.hear(told)
    await world.settle(600 + LEAD_SECONDS + 30)
    return world, machine, pod


def evicted(world: Machines) -> list[str]:
    return [pod for pod, reason, _ in world.recorder.events if reason == "InterruptedPodEvicted"]


async def test_a_pod_that_comes_to_a_machine_whose_time_is_up_is_not_evicted_again_and_again() -> None:
    world, machine, pod = await begin_maintenance()
    assert evicted(world) == [pod]
    there = world.pod_on(machine)
    assert there != pod
    assert there not in world.routed(), "as long as it is said that the machine goes"
    assert len(world.routed()) == 3, "its replacement is somewhere else"
    world.lead_elsewhere()
    world.hear_nodes()
    await world.settle(60)
    assert evicted(world) == [pod], "whoever leads"
    await world.settle(1200)
    assert evicted(world) == [pod]
    assert len(world.routed()) == len(world.engine_pods()) == 3, "the machine was spared"


async def test_a_pod_that_came_late_goes_once_nothing_can_follow_it() -> None:
    world, machine, pod = await begin_maintenance()
    there = world.pod_on(machine)
    world.cordon(machine)
    await world.settle(10)
    assert evicted(world) == [pod, there]
    assert machine not in {one["spec"]["nodeName"] for one in world.engine_pods()}
