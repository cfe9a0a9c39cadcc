"""More voices than one pod can hold: every pod has its share, every voice has a pod at every moment, and none has too
much."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import Pod
from npc_operator.loop.store import Change
from npc_operator.reconcilers import triggers
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import NAMESPACE, at_once, digest, region, tier
from tests.support.builders import adapter as in_steps

SLOTS, PODS = 6, 4
HEROES, OTHERS = ("duke", "queen"), tuple(f"voice-{number:02}" for number in range(11))
EVERYBODY = (*HEROES, *OTHERS)


def name_of(archetype: str, version: int = 1) -> str:
    return served_name(archetype, digest(f"{archetype}-{version}"))


async def fleet(slots: int = SLOTS, pods: int = PODS) -> World:
    world = World()
    world.put(region(tiers={"gold": 50 * pods}, spec={"rolloutLimits": {"maxConcurrent": len(EVERYBODY)}}))
    world.put(tier(engine={"maxLoras": 1, "maxCpuLoras": slots}, spec={"capacity": {"onDemandBase": 2}}))
    for archetype in EVERYBODY:
        importance = "Critical" if archetype in HEROES else "Normal"
        world.put(at_once(archetype, spec={"importance": importance}))
    await world.settle()
    return world


def homes(world: World, name: str) -> set[str]:
    """Pods that have something resident."""
    return {pod for pod, agent in world.pods("gold").items() if name in agent.resident}


def everywhere(world: World) -> dict[str, set[str]]:
    return {archetype: homes(world, name_of(archetype)) for archetype in EVERYBODY}


def assert_no_pod_was_ever_asked_for_too_much(world: World) -> None:
    assert max(agent.most for agent in world.pods("gold").values()) <= SLOTS


async def pass_time(world: World, seconds: float) -> list[str]:
    """Voices that had no pod at some moment meanwhile."""
    silent: set[str] = set()
    for _ in range(int(seconds * 4)):
        await world.settle(seconds=0.25)
        silent |= {archetype for archetype, pods in everywhere(world).items() if not pods}
    return sorted(silent)


def scale(world: World, replicas: int) -> None:
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=replicas, maxReplicas=20))


async def test_every_voice_serves_although_no_pod_can_hold_all() -> None:
    world = await fleet()
    assert len(EVERYBODY) > SLOTS
    for archetype, pods in everywhere(world).items():
        assert 1 <= len(pods) < PODS
        assert world.said(names.KIND_ADAPTER, archetype, "Ready")[0] == "True"
        variant = world.variant(archetype)
        assert (variant["residentReplicas"], variant["wantedReplicas"]) == (len(pods), len(pods))
    for gateway in world.doors().values():
        assert gateway.table is not None
        offered = {name for one in gateway.table.tiers[0].endpoints for name in one.resident or ()}
        assert offered >= set(gateway.routes("gold").values())
        assert set(gateway.routes("gold")) == set(EVERYBODY)
    status = world.status(names.KIND_TIER, "gold")
    assert (status["adapters"], status["residentAdapters"]) == (len(EVERYBODY), len(EVERYBODY))
    assert world.said(names.KIND_TIER, "gold", "Stalled") == ("", "", "")
    assert_no_pod_was_ever_asked_for_too_much(world)


async def test_nobody_is_called_while_the_pods_are_still_to_come() -> None:
    world = await fleet()
    assert reasons.SLOTS_EXCEEDED not in {reason for _, reason, _ in world.recorder.events}


async def test_both_slices_hold_every_critical_voice() -> None:
    world = await fleet()
    slices = {pod: "on-demand" in pod for pod in world.pods("gold")}
    assert set(slices.values()) == {True, False}
    for hero in HEROES:
        assert {slices[pod] for pod in homes(world, name_of(hero))} == {True, False}


async def test_who_finds_no_place_on_any_pod_is_named_the_least_important_first() -> None:
    world = await fleet(slots=4, pods=4)
    left = [one for one in EVERYBODY if world.said(names.KIND_ADAPTER, one, "Stalled")[1] == reasons.SLOTS_EXCEEDED]
    # Twelve places are given out, of which the two heroes have two each.
    assert left == list(OTHERS[8:])
    assert world.said(names.KIND_TIER, "gold", "Stalled")[1] == reasons.SLOTS_EXCEEDED


async def test_what_moves_arrives_before_it_leaves() -> None:
    world = await fleet()
    before = everywhere(world)
    scale(world, PODS + 1)
    assert await pass_time(world, 10) == []
    after = everywhere(world)
    (new,) = set(world.pods("gold")) - set().union(*before.values())
    assert any(new in pods for pods in after.values())
    moved = [archetype for archetype in EVERYBODY if before[archetype] - after[archetype]]
    assert 0 < len(moved) <= len(EVERYBODY) // 2, "the others stay where they were"
    assert_no_pod_was_ever_asked_for_too_much(world)


async def test_a_slow_arrival_keeps_what_it_is_to_replace() -> None:
    world = await fleet()
    world.hold_new_agents = True
    scale(world, PODS + 1)
    assert await pass_time(world, 30) == []
    assert all(world.said(names.KIND_ADAPTER, one, "Ready")[0] == "True" for one in EVERYBODY), "who is kept serves"
    assert_no_pod_was_ever_asked_for_too_much(world)
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    assert await pass_time(world, 10) == []
    assert all(world.said(names.KIND_ADAPTER, one, "Ready")[0] == "True" for one in EVERYBODY)


async def test_voices_of_a_pod_that_goes_find_another_and_those_with_a_second_copy_never_fall_silent() -> None:
    world = await fleet()
    before = everywhere(world)
    alone = {archetype for archetype, pods in before.items() if len(pods) == 1}
    scale(world, PODS - 1)
    assert set(await pass_time(world, 10)) <= alone
    assert all(everywhere(world).values())
    assert all(world.said(names.KIND_ADAPTER, one, "Ready")[0] == "True" for one in EVERYBODY)
    assert_no_pod_was_ever_asked_for_too_much(world)


async def test_a_pod_that_goes_wakes_the_others_at_once_and_those_of_a_tier_with_room_are_left_alone() -> None:
    for slots, woken in ((SLOTS, True), (64, False)):
        world = await fleet(slots)
        gone, *others = world.pods("gold")
        pod = world.store.get(Pod, NAMESPACE, gone)
        keys = {key.name for key in triggers(world.store, Change(Pod, NAMESPACE, gone, pod, None))}
        assert (set(others) <= keys) is woken


async def test_a_restart_of_an_engine_moves_nothing() -> None:
    world = await fleet()
    before = everywhere(world)
    pod, agent = next(iter(world.pods("gold").items()))
    agent.restart_engine()
    await world.settle(seconds=5)
    assert {one: pods - {pod} for one, pods in before.items()} == everywhere(world)
    agent.engine_ready(world.clock.now())
    await world.settle(seconds=5)
    assert everywhere(world) == before


async def test_all_voices_move_to_new_digests_although_slots_are_short() -> None:
    world = await fleet()
    for archetype in EVERYBODY:
        world.set_digest(archetype, digest(f"{archetype}-2"))
    for _ in range(60):
        await world.settle(seconds=1)
        for gateway in world.doors().values():
            for archetype, name in gateway.routes("gold").items():
                assert homes(world, name), f"{archetype} is routed to {name}, which nobody has"
    for archetype in EVERYBODY:
        assert world.variant(archetype)["stable"]["digest"] == digest(f"{archetype}-2")
        assert not homes(world, name_of(archetype))
    assert_no_pod_was_ever_asked_for_too_much(world)


async def test_a_candidate_is_heard_once_every_pod_of_its_voice_has_it_and_no_other() -> None:
    world = await fleet()
    wanted: dict[str, Any] = {"importance": "Critical", "rollout": {"stepSeconds": 2, "steps": [50, 100]}}
    world.put(in_steps("duke", spec=wanted))
    await world.settle(seconds=5)
    pods = homes(world, name_of("duke"))
    players = Players(world)
    world.set_digest("duke", digest("duke-2"))
    seen: set[int] = set()
    for _ in range(40):
        await players.play(1)
        for gateway in world.doors().values():
            alias = gateway.alias("duke")
            assert alias is not None
            if len(alias.targets) > 1:
                seen.add(alias.targets[1].percent)
                assert homes(world, name_of("duke", 2)) == pods
    assert seen == {50, 100}
    assert world.variant("duke")["stable"]["digest"] == digest("duke-2")
    assert_no_pod_was_ever_asked_for_too_much(world)


async def test_another_leader_finds_everything_where_it_belongs() -> None:
    world = await fleet()
    before = {pod: len(agent.history) for pod, agent in world.pods("gold").items()}
    sets = {pod: set(agent.resident) for pod, agent in world.pods("gold").items()}
    writes = len(world.writes())
    world.lead()
    await world.settle()
    assert {pod: set(agent.resident) for pod, agent in world.pods("gold").items()} == sets
    assert len(world.writes()) == writes
    for pod, agent in world.pods("gold").items():
        assert {frozenset(names_) for names_ in agent.history[before[pod] :]} <= {frozenset(sets[pod])}


async def test_one_voice_less_and_everybody_is_everywhere_again() -> None:
    world = await fleet()
    for archetype in OTHERS[SLOTS - len(HEROES) :]:
        world.api.remove(names.KIND_ADAPTER, NAMESPACE, archetype)
    await world.settle()
    left = (*HEROES, *OTHERS[: SLOTS - len(HEROES)])
    assert all(homes(world, name_of(archetype)) == set(world.pods("gold")) for archetype in left)
    assert_no_pod_was_ever_asked_for_too_much(world)


SMALL = ("duke", "ghost", "guard", "nun", "smith")


async def small_fleet() -> World:
    """Five voices on two pods of four slots, and then on three."""
    world = World()
    world.put(region(tiers={"gold": 100}, gateways=1))
    world.put(tier(engine={"maxLoras": 1, "maxCpuLoras": 4}, spec={"capacity": {"onDemandBase": 1}}))
    world.put(*(at_once(archetype, spec={"importance": "Critical"}) for archetype in SMALL[:1]))
    world.put(*(at_once(archetype) for archetype in SMALL[1:]))
    await world.settle()
    return world


async def test_a_leader_that_ends_around_any_call_leaves_no_voice_without_a_pod_and_none_with_too_much() -> None:
    async def play(world: World) -> dict[str, set[str]]:
        scale(world, 3)
        world.set_digest("smith", digest("smith-2"))
        for _ in range(20):
            await world.settle(seconds=1)
            for gateway in world.doors().values():
                assert all(homes(world, name) for name in gateway.routes("gold").values())
        assert max(agent.most for agent in world.pods("gold").values()) <= 4
        return {pod: set(agent.resident) for pod, agent in world.pods("gold").items()}

    plain = await small_fleet()
    plain.calls.clear()
    end = await play(plain)
    count = len(plain.calls)
    assert count > 10
    for number in range(0, count, 5):
        for when in ("before", "after"):
            world = await small_fleet()
            world.end_at(number, when)
            assert await play(world) == end, (number, when, world.crashed)
            assert world.crashed
