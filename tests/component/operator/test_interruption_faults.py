"""What clouds and handlers do to machines beside saying so: they take the Node away, drain by themselves, and repeat
what they said long ago.
"""

from __future__ import annotations

from tests.component.operator.machines import KARPENTER, NTH, ON_DEMAND, SPOT, Machines
from tests.component.operator.test_capacity_nodes import mode, up
from tests.component.operator.test_interruptions import start
from tests.support.builders import NAMESPACE


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
