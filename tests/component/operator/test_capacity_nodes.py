"""From what is said of machines to the replicas of both slices, with nothing made up in between."""

from __future__ import annotations

import pytest

from npc_operator.api import names
from npc_operator.ports import PortError
from tests.component.operator.machines import KARPENTER, NTH, ON_DEMAND, SPOT, Machines


async def up(**capacity: object) -> Machines:
    """Four replicas that serve, one of them on demand, and machines to spare."""
    world = Machines(wanted=4, spot=8, on_demand=6, capacity=capacity, maxReplicas=12)
    await world.settle(20)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 3)
    return world


def mode(world: Machines) -> str:
    return str(world.status(names.KIND_TIER, "gold")["capacity"]["mode"])


async def test_one_taint_brings_a_stand_in_and_a_replacement_within_a_second() -> None:
    world = await up()
    pod = world.spot_pod()
    world.stuck.add(pod)  # lines that take long
    world.mark(world.node_of(pod), NTH)
    await world.settle(1)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (2, 4)
    assert mode(world) == "Fallback"
    world.stuck.clear()
    await world.settle(150)
    assert not world.is_there(pod)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (2, 3)
    await world.settle(1200)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 3)
    assert mode(world) == "Normal"


async def test_a_machine_with_several_pods_is_stood_in_for_by_as_many() -> None:
    world = Machines(wanted=5, spot=2, on_demand=4, per_machine=4, maxReplicas=12)
    await world.settle(20)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 4)
    node = world.node_of(world.spot_pod())
    struck = [pod for pod in world.engine_pods(SPOT) if pod["spec"]["nodeName"] == node]
    assert len(struck) == 2
    world.mark(node, NTH)
    await world.settle(1)
    assert mode(world) == "Fallback"
    assert world.asked(ON_DEMAND) == 1 + len(struck)


async def test_taints_on_the_whole_slice_are_a_storm() -> None:
    world = await up(storm={"windowSeconds": 300, "holdSeconds": 600})
    nodes = [world.node_of(str(pod["metadata"]["name"])) for pod in world.engine_pods(SPOT)]
    for node in nodes:
        world.mark(node, NTH)
    await world.settle(1)
    assert mode(world) == "Storm"
    assert world.asked(ON_DEMAND) == 4
    assert "StormBegan" in world.recorder.reasons("gold")
    await world.settle(200)
    assert (world.asked(ON_DEMAND), len(world.engine_pods(SPOT))) == (4, 0)
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_spot_machines_that_are_drained_one_after_the_other_buy_nothing_on_demand() -> None:
    world = await up()
    for _ in range(3):
        pod = world.spot_pod()
        world.cordon(world.node_of(pod))
        world.mark(world.node_of(pod), KARPENTER)
        await world.settle(60)
        assert not world.is_there(pod)
        assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 3)
        assert mode(world) == "Normal"


async def test_a_machine_that_nobody_hears_of_is_stood_in_for_and_nobody_is_evicted() -> None:
    world = await up()
    pod = world.spot_pod()
    world.lose(world.node_of(pod))
    await world.settle(2)
    assert mode(world) == "Fallback"
    assert world.asked(ON_DEMAND) == 2
    assert world.is_there(pod)


async def test_an_on_demand_machine_that_is_drained_never_leaves_the_floor_empty() -> None:
    world = await up()
    pod = str(world.engine_pods(ON_DEMAND)[0]["metadata"]["name"])
    world.cordon(world.node_of(pod))
    world.mark(world.node_of(pod), KARPENTER)
    fewest = 9
    for _ in range(60):
        await world.settle(1)
        fewest = min(fewest, sum(world.is_ready(one) for one in world.engine_pods(ON_DEMAND)))
    assert fewest == 1
    assert not world.is_there(pod)
    assert (world.asked(ON_DEMAND), world.asked(SPOT)) == (1, 3)
    assert mode(world) == "Normal"


@pytest.mark.parametrize("slice_", [SPOT, ON_DEMAND])
async def test_nothing_is_made_smaller_before_a_pod_that_leaves_is_marked_as_the_one_to_end(slice_: str) -> None:
    """Whoever makes a Deployment smaller meanwhile would end pods that stay."""
    world = Machines(wanted=6, spot=12, on_demand=8, capacity={"onDemandBase": 3}, maxReplicas=12)
    await world.settle(20)
    pods = [str(pod["metadata"]["name"]) for pod in world.engine_pods(slice_)]
    assert len(pods) == 3
    world.stuck.add(pods[0])
    node = world.node_of(pods[0])
    mend = world.api.fail(PortError("no"), where=lambda call: (call.kind, call.name) == ("Pod", pods[0]))
    world.cordon(node)
    world.mark(node, KARPENTER)
    await world.settle(0.5)
    assert world.asked(slice_) == 4
    fewer = {"replicas": 4, "capacity": {"onDemandBase": 1 if slice_ == ON_DEMAND else 3}}
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(fewer))
    await world.settle(60)
    assert world.asked(slice_) == 4, "nothing says which of them is the one to end"
    mend()
    await world.settle(3)
    marked = world.live("Pod", pods[0])["metadata"]["annotations"]
    assert marked[names.ANNOTATION_DELETION_COST] == names.DELETION_COST_GOING
    assert world.asked(slice_) == 2


async def test_drained_pods_wait_for_their_replacements_although_the_budget_would_let_several_go() -> None:
    """Six are ready where four are wanted, so the budget lets three go at once."""
    world = Machines(wanted=4, spot=12, on_demand=6, capacity={"overprovisionReplicas": 2}, maxReplicas=12)
    await world.settle(20)
    assert world.live("PodDisruptionBudget", "gold-engine")["spec"]["minAvailable"] == 3
    drained = [str(pod["metadata"]["name"]) for pod in world.engine_pods(SPOT)][:3]
    world.hold_new_agents = True
    for pod in drained:
        world.cordon(world.node_of(pod))
        world.mark(world.node_of(pod), KARPENTER)
    await world.settle(60)
    assert all(world.note(pod).get("drained") for pod in drained)
    assert all(world.is_there(pod) for pod in drained), "three would stay, and four are wanted"
    world.hold_new_agents = False
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    await world.settle(20)
    assert not any(world.is_there(pod) for pod in drained)
