"""On-demand pods stand in for spot pods and go again, on the API server of a test: what is asked of both Deployments,
what the status, the Events and the conditions say, and that neither a crash nor another leader changes the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import Child
from npc_operator.domain.replicas import Split
from npc_operator.ports import PortError
from tests.component.operator.spot import OD, SPOT, SpotWorld
from tests.support.builders import NAMESPACE


async def up(**options: object) -> SpotWorld:
    """Six replicas that serve, one of them on demand."""
    world = SpotWorld(**options)  # type: ignore[arg-type]
    await world.run(120)
    assert world.asked() == Split(1, 5)
    assert world.told() == ("Normal", "SpotAsWanted")
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    return world


async def test_spot_pods_that_wait_for_nodes_too_long_are_replaced_on_demand() -> None:
    world = SpotWorld()
    world.spot_nodes = 2
    await world.run(55)
    assert world.asked() == Split(1, 5)
    await world.run(70)
    assert (world.asked(), world.told()) == (Split(4, 5), ("Fallback", "SpotPending"))
    await world.run(60)
    assert (world.ready(OD), world.ready(SPOT)) == (4, 2)
    assert "FallbackBegan" in world.recorder.reasons("gold")
    # It serves in full; that spot has no room is no work in progress.
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    assert world.said(names.KIND_TIER, "gold", "Reconciling") == ("", "", "")
    status = world.status(names.KIND_TIER, "gold")
    assert "3 replicas" in status["capacity"]["message"], "the status says why, too"
    assert (status["replicas"], status["readyReplicas"], status["wantedReplicas"]) == (6, 6, 6)
    assert status["slices"]["onDemand"] == {"desired": 4, "ready": 4}
    # Nine pods are asked for, three of which wait for nodes: one of the six that serve may be evicted all the same.
    assert world.live("PodDisruptionBudget", "gold-engine")["spec"]["minAvailable"] == 5
    assert world.broken == []


async def test_spot_that_is_back_takes_over_one_by_one() -> None:
    world = SpotWorld()
    world.spot_nodes = 2
    await world.run(300)
    assert world.asked() == Split(4, 5)
    world.spot_nodes = 10
    seen: list[int] = []
    for _ in range(300):
        await world.run(5)
        if not seen or seen[-1] != world.asked().on_demand:
            seen.append(world.asked().on_demand)
    assert seen == [4, 3, 2, 1]
    assert world.told() == ("Normal", "SpotAsWanted")
    said = [
        reason
        for reason in world.recorder.reasons("gold")
        if reason in ("FallbackBegan", "ReturnBegan", "ReturnedToSpot")
    ]
    assert said == ["FallbackBegan", "ReturnBegan", "ReturnedToSpot"]
    assert world.broken == []


async def test_an_interruption_is_answered_on_demand_at_once_and_before_the_pod_is_gone() -> None:
    world = await up()
    (pod,) = world.interrupt()
    await world.settle(seconds=1)
    assert (world.asked(), world.told()) == (Split(2, 6), ("Fallback", "SpotLost"))
    # Stand-in and replacement are no pods that an autoscaler should know of.
    assert world.status(names.KIND_TIER, "gold")["replicas"] == 6
    await world.run(100)
    world.take([pod])
    await world.run(10)
    assert world.asked() == Split(2, 5)
    assert world.ready(OD) + world.ready(SPOT) == 7
    assert world.broken == []


async def test_the_decision_is_in_the_status_before_anybody_acts_on_it() -> None:
    world = await up()
    world.api.forget_calls()
    world.interrupt(2)
    await world.settle(seconds=1)
    calls = [call for call in world.api.calls if call.kind in ("Deployment", names.KIND_TIER)]
    assert (calls[0].kind, calls[0].subresource) == (names.KIND_TIER, "status")
    assert calls[0].manifest["status"]["capacity"]["extraOnDemand"] == 2
    # What grows is asked for first.
    assert [call.name for call in calls if call.kind == "Deployment"] == ["gold-on-demand", "gold-spot"]


async def test_nobody_acts_on_a_decision_that_cannot_be_written_down() -> None:
    world = await up()
    mend = world.api.fail(PortError("no"), where=lambda call: call.subresource == "status")
    world.interrupt(2)
    await world.settle(seconds=5)
    assert world.asked() == Split(1, 5)
    mend()
    await world.settle(seconds=40)
    assert world.asked() == Split(3, 7)


async def test_a_storm_puts_everything_on_demand_and_ends() -> None:
    world = await up(storm={"interruptions": 3, "windowSeconds": 300, "holdSeconds": 600})
    pods = world.interrupt(3)
    await world.settle(seconds=1)
    assert world.told() == ("Storm", "SpotStorm")
    assert world.asked().on_demand == 6
    assert world.ready(SPOT) == 5, "what serves stays until others are ready"
    world.take(pods)
    await world.run(90)
    assert world.asked() == Split(6, 0)
    assert (world.ready(OD), world.ready(SPOT)) == (6, 0)
    await world.run(520)
    assert world.told()[0] == "Fallback"
    assert world.asked() == Split(6, 5)
    await world.run(2000)
    assert (world.told()[0], world.asked()) == ("Normal", Split(1, 5))
    said = [one for one in world.recorder.reasons("gold") if one.startswith(("Storm", "Fallback", "Return"))]
    assert said == ["StormBegan", "StormOver", "ReturnBegan", "ReturnedToSpot"]
    assert world.broken == []


async def test_overprovisioned_pods_serve_beside_and_are_not_told_to_autoscalers() -> None:
    world = SpotWorld(overprovisionReplicas=2)
    await world.run(120)
    assert world.asked() == Split(1, 7)
    status = world.status(names.KIND_TIER, "gold")
    assert (status["replicas"], status["readyReplicas"]) == (6, 8)
    assert world.said(names.KIND_TIER, "gold", "Reconciling") == ("", "", "")
    pods = world.interrupt(2)
    await world.settle(seconds=1)
    assert world.asked() == Split(1, 9), "they cover it"
    world.take(pods)
    await world.run(100)
    assert world.asked() == Split(1, 7)


async def test_an_on_demand_pod_whose_node_goes_is_replaced_first() -> None:
    world = await up()
    (pod,) = world.interrupt(slice_=OD)
    await world.settle(seconds=1)
    assert world.asked() == Split(2, 5)
    await world.run(60)
    assert world.ready(OD) == 2
    world.take([pod])
    await world.run(10)
    assert (world.asked(), world.ready(OD)) == (Split(1, 5), 1)
    assert world.broken == []


@pytest.mark.parametrize(
    ("before", "after", "room"), [pytest.param(1, 4, 9, id="higher"), pytest.param(4, 1, 6, id="lower")]
)
async def test_another_floor_moves_pods_only_as_others_serve(before: int, after: int, room: int) -> None:
    world = SpotWorld(max_replicas=room, onDemandBase=before)
    await world.run(120)
    assert world.asked() == Split(before, 6 - before)
    world.set_tier(capacity={"onDemandBase": after})
    fewest = 99
    for _ in range(60):
        await world.run(5)
        fewest = min(fewest, world.ready(OD) + world.ready(SPOT))
    assert world.asked() == Split(after, 6 - after)
    assert fewest == 6
    assert world.broken == []


async def test_what_grows_is_asked_for_before_what_shrinks() -> None:
    world = SpotWorld(max_replicas=6, onDemandBase=4)
    await world.run(120)
    world.api.forget_calls()
    world.set_tier(capacity={"onDemandBase": 1})
    await world.run(100)
    asked = [call for call in world.api.calls if call.kind == "Deployment"]
    # One more on spot first; when that serves, one more there and one less here.
    assert [(call.name, call.manifest["spec"]["replicas"]) for call in asked][:3] == [
        ("gold-spot", 3),
        ("gold-spot", 4),
        ("gold-on-demand", 3),
    ]


async def test_a_tier_that_never_served_can_be_made_smaller() -> None:
    world = SpotWorld()
    world.spot_nodes = 0
    await world.settle(seconds=20)
    world.set_tier(replicas=2)
    await world.settle(seconds=5)
    assert world.asked() == Split(1, 1)


async def test_deployments_that_cannot_be_read_are_left_alone() -> None:
    world = await up()
    asked, get = world.asked(), world.kube.get
    for slice_ in (OD, SPOT):
        world.store.drop(Child, NAMESPACE, f"Deployment/{names.slice_deployment('gold', slice_)}")

    async def refuse(ref: object) -> object:
        if getattr(ref, "kind", "") == "Deployment" and "gold" in getattr(ref, "name", ""):
            raise PortError("not now")
        return await get(ref)  # type: ignore[arg-type]

    world.kube.get = refuse  # type: ignore[method-assign, assignment]
    world.api.forget_calls()
    world.set_tier(replicas=4)
    await world.settle(seconds=5)
    assert world.asked() == asked
    assert world.capacity()["reason"] == "PodsUnknown"
    assert world.writes_of("Deployment") == 0
    world.kube.get = get  # type: ignore[method-assign]
    await world.settle(seconds=60)
    assert world.asked() == Split(1, 3)


async def test_a_suspended_tier_falls_back_on_nothing() -> None:
    world = await up()
    world.set_tier(suspend=True)
    await world.settle(seconds=5)
    world.take(world.interrupt(3))
    await world.run(100)
    assert world.asked() == Split(1, 5)
    assert world.told()[0] == "Normal"


async def test_another_leader_goes_on_from_the_status() -> None:
    moments = []
    for handover in (False, True):
        world = await up()
        world.take(world.interrupt(2))
        await world.run(200)
        assert world.told()[0] == "Fallback"
        if handover:
            world.lead()
            await world.run(100)
            assert world.asked() == Split(3, 5)
        begun = world.clock.time
        while world.told()[0] != "Normal":
            await world.run(5)
            assert world.clock.time < begun + 3000
        moments.append(world.clock.time)
        assert world.broken == []
    assert abs(moments[0] - moments[1]) <= 10, "the waits that had begun go on"


async def test_at_rest_in_a_fallback_nothing_is_written() -> None:
    world = SpotWorld()
    world.spot_nodes = 2
    await world.run(300)
    world.api.forget_calls()
    world.resync()
    await world.settle(seconds=3600)
    assert world.writes() == []


# --- an end at any moment ---


async def fall_back(world: SpotWorld) -> None:
    """Spot has no room, then it has, and on-demand goes."""
    world.spot_nodes = 3
    world.take([pod["metadata"]["name"] for pod in world.engines(SPOT)[:2]])
    await world.run(150)
    world.spot_nodes = 10
    await world.run(900)


async def storm(world: SpotWorld) -> None:
    """Nodes go one after the other, and when that is over all comes back."""
    pods = world.interrupt(3)
    await world.run(20)
    world.take(pods)
    await world.run(1400)


STORM = {"interruptions": 3, "windowSeconds": 60, "holdSeconds": 300}
KINDS = ("Deployment", "PodDisruptionBudget", "Service", names.KIND_TIER)


def outcome(world: SpotWorld) -> dict[str, object]:
    found: dict[str, object] = {}
    for kind in KINDS:
        for manifest in world.peek(kind):
            found[f"{kind}/{manifest['metadata']['name']}"] = manifest["spec"]
    status = world.status(names.KIND_TIER, "gold")
    capacity = status["capacity"]
    found["capacity"] = (capacity["mode"], capacity["reason"], capacity["extraOnDemand"], capacity["provenSpot"])
    found["conditions"] = sorted((one["type"], one["status"], one["reason"]) for one in status["conditions"])
    found["ready"] = (world.ready(OD), world.ready(SPOT))
    return found


PARTS = 4


@pytest.mark.timeout(600)  # some 15 s of CPU, but others may have most of it
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("play", "said"),
    [(fall_back, {"FallbackBegan", "ReturnBegan"}), (storm, {"StormBegan", "StormOver", "ReturnBegan"})],
)
async def test_a_crash_around_any_call_changes_nothing_of_the_end(
    play: Callable[[SpotWorld], Awaitable[None]], said: set[str], part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = await up(storm=STORM)
    calm.calls.clear()
    await play(calm)
    wanted, calls = outcome(calm), list(calm.calls)
    assert wanted["capacity"] == ("Normal", "SpotAsWanted", 0, 5)
    assert said <= set(calm.recorder.reasons("gold"))
    assert calm.broken == []
    mine = [number for number in range(len(calls)) if about_capacity(calls[number])]
    # After one is before the next: nothing changes in between.
    moments = [(mine[0], "before"), *((number, "after") for number in mine)][part::PARTS]
    for number, when in moments:
        world = await up(storm=STORM)
        world.end_at(number, when)
        await play(world)
        assert world.crashed, f"nothing crashed {when} call {number} ({calls[number]})"
        assert outcome(world) == wanted, f"a crash {when} call {number} ({calls[number]}) ends otherwise"
        assert world.broken == [], f"after a crash {when} call {number} ({calls[number]})"
    with capsys.disabled():
        print(f"\n{len(calls)} mutating calls; crashed at {len(moments)} moments, always with the same end")


def about_capacity(call: str) -> bool:
    """Calls about voices, gateways and keys are those of test_crashes."""
    return call.startswith(("apply Deployment/gold", f"apply {names.KIND_TIER}/gold", "apply PodDisruptionBudget/gold"))
