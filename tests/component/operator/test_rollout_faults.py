"""Rollouts while something is wrong around them: gateways that start anew, are cut off or never take a table, voices
that go or are paused while others wait for their turn."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.domain.outcomes import Done, Outcome
from npc_operator.domain.routes import routed_names
from npc_operator.reconcilers.route_tables import read_routes
from npc_runtime.wire import served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import NAMESPACE, adapter, digest, region, tier

OLD, NEW = digest("vampire-1"), digest("vampire-2")
OLD_NAME, NEW_NAME = served_name("vampire", OLD), served_name("vampire", NEW)


async def trying(percent: int = 10, *, gateways: int = 2, **rollout: Any) -> tuple[World, Players]:
    """A vampire whose candidate has a share of the NPCs."""
    world = World()
    world.put(region(tiers={"gold": 100}, spec={"gateway": {"replicas": gateways}}))
    world.put(tier("gold", engine={"maxCpuLoras": 64}))
    world.put(adapter("vampire", digests={"gold": OLD}, spec={"rollout": {"stepSeconds": 10, **rollout}}))
    await world.settle()
    world.set_digest("vampire", NEW)
    players = Players(world)
    for _ in range(100):
        if percent_of(world) == percent:
            return world, players
        await players.play(1)
    raise AssertionError(f"never {percent}%: {world.variant('vampire')}")


def percent_of(world: World) -> int:
    found: int = world.variant("vampire").get("rollout", {}).get("percent", 0)
    return found


def below(world: World) -> int:
    alias = next(iter(world.doors().values())).alias("vampire")
    assert alias is not None
    assert alias.rollout is not None
    return alias.rollout.candidate_below


# --- gateways ---


async def test_the_first_npc_that_speaks_to_a_gateway_that_started_anew_does_not_widen_the_share() -> None:
    world, players = await trying(gateways=1, stepSeconds=600)
    players.lowest = 40
    await players.play(60)
    assert below(world) == 1000
    for gateway in world.doors().values():
        gateway.restart()
    players.lowest = 9000
    await players.play(3)
    assert below(world) == 1000
    players.lowest = 40
    await players.play(60)
    assert below(world) == 1000


@pytest.mark.parametrize("policy", ["Proceed", "Probe", "Hold"])
async def test_no_step_is_taken_while_no_gateway_can_be_heard(policy: str) -> None:
    world, players = await trying(onTooLittleTraffic=policy)
    for gateway in world.doors().values():
        gateway.deaf = True
    await world.settle(seconds=600)
    assert percent_of(world) == 10
    for gateway in world.doors().values():
        gateway.deaf = False
    await players.play(20)
    assert percent_of(world) > 10


async def test_a_gateway_that_is_cut_off_holds_the_share_that_it_goes_on_with_and_is_named() -> None:
    world, players = await trying()
    name, cut = next(iter(world.doors().items()))
    cut.deaf = True
    await players.play(40)
    assert percent_of(world) == 10
    status, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Reconciling")
    assert (status, reason) == ("True", reasons.GATEWAY_SILENT)
    assert name in message
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    players.bad = {NEW}
    await players.play(5, each_second=50)
    assert world.variant("vampire")["rejected"]["digest"] == NEW, "what the other one saw is enough to take it back"


async def test_all_npcs_hear_a_candidate_that_becomes_stable_only_when_every_gateway_is_heard() -> None:
    world, players = await trying(100, steps=[100])
    cut = next(iter(world.doors().values()))
    cut.deaf = True
    await players.play(40)
    assert (percent_of(world), world.variant("vampire")["stable"]["digest"]) == (100, OLD)
    cut.deaf = False
    await players.play(5)
    assert world.variant("vampire")["stable"]["digest"] == NEW


async def test_a_gateway_whose_pod_is_gone_for_good_holds_nothing() -> None:
    world, players = await trying()
    name, cut = next(iter(world.doors().items()))
    cut.deaf = True
    await players.play(15)
    assert percent_of(world) == 10
    world.api.remove("Pod", NAMESPACE, name)
    await players.play(15)
    assert percent_of(world) > 10


async def test_a_gateway_that_could_take_no_routes_for_a_while_hears_of_a_rollback_as_soon_as_it_can() -> None:
    world, players = await trying()
    slow = next(iter(world.doors().values()))
    slow.refusing = True
    players.bad = {NEW}
    players.speak(50)
    await world.settle(seconds=55)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    assert NEW_NAME in names_of(world)
    slow.refusing = False
    await world.settle(seconds=1.5)
    assert names_of(world) == {OLD_NAME}


async def test_a_gateway_of_a_version_without_attempts_holds_the_share_and_takes_nothing_back() -> None:
    world, players = await trying()
    name, older = next(iter(world.doors().items()))
    older.numberless = True
    for _ in range(40):
        players.speak(20)
        older.rollouts = tuple(one.model_copy(update={"withdrawn": "in another try"}) for one in older.rollouts)
        await world.settle(seconds=1)
    assert percent_of(world) == 10
    assert world.variant("vampire").get("rejected") is None, "nobody knows of which try it speaks"
    _, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Reconciling")
    assert reason == reasons.GATEWAY_SILENT
    assert name in message
    assert "version" in message
    older.numberless = False
    older.restart()
    await players.play(15)
    assert percent_of(world) > 10


async def test_a_gateway_that_has_not_taken_the_candidates_routes_holds_the_next_step() -> None:
    world, players = await trying(stepSeconds=30)
    name, slow = next(iter(world.doors().items()))
    slow.restart()
    slow.refusing, slow.table = True, None
    for _ in range(40):
        players.speak(20)
        slow.rollouts = ()
        await world.settle(seconds=1)
    assert percent_of(world) == 10
    assert name in world.said(names.KIND_ADAPTER, "vampire", "Reconciling")[2]
    slow.refusing = False
    await players.play(10)
    assert percent_of(world) > 10


# --- turns ---


async def three_voices(most: int = 1) -> tuple[World, Players]:
    """Three voices with one turn among them; the first by name has it."""
    world = World()
    world.put(region(tiers={"gold": 100}, spec={"rolloutLimits": {"maxConcurrent": most}}), tier("gold"))
    for number, importance in enumerate(("Normal", "Critical", "Normal")):
        spec = {"importance": importance, "rollout": {"stepSeconds": 5, "steps": [50, 100]}}
        world.put(adapter(f"voice-{number}", spec=spec))
    await world.settle()
    players = Players(world)
    world.set_digest("voice-0", digest("voice-0-2"))
    await players.play(2)
    for number in (1, 2):
        world.set_digest(f"voice-{number}", digest(f"voice-{number}-2"))
    await players.play(1)
    assert [phase(world, number) for number in range(3)] == ["Watching", "Waiting", "Waiting"]
    return world, players


def phase(world: World, number: int) -> str:
    return str(world.variant(f"voice-{number}").get("rollout", {}).get("phase", ""))


async def test_a_voice_that_was_paused_while_it_waited_takes_no_turn_from_others() -> None:
    world, players = await three_voices()
    world.edit(names.KIND_ADAPTER, "voice-1", lambda live: live["spec"].update(suspend=True))
    await players.play(30, each_second=60)
    assert world.variant("voice-0")["stable"]["digest"] == digest("voice-0-2")
    assert world.variant("voice-2")["stable"]["digest"] == digest("voice-2-2")
    world.edit(names.KIND_ADAPTER, "voice-1", lambda live: live["spec"].update(suspend=False))
    await players.play(30, each_second=60)
    assert world.variant("voice-1")["stable"]["digest"] == digest("voice-1-2")


async def test_a_voice_that_was_paused_with_traffic_keeps_its_turn() -> None:
    world, players = await three_voices()
    world.edit(names.KIND_ADAPTER, "voice-0", lambda live: live["spec"].update(suspend=True))
    await players.play(30, each_second=60)
    assert [phase(world, number) for number in range(3)] == ["Watching", "Waiting", "Waiting"]


async def test_the_turn_of_a_voice_that_is_deleted_is_not_lost() -> None:
    world, _ = await three_voices()
    reconcile = world.reconcilers.reconcile
    gone = Key(KeyKind.ADAPTER, NAMESPACE, "voice-0")

    async def late(key: Key) -> Outcome:
        """The key of what is gone runs after all others that its going wakes."""
        if key == gone and world.queue.depth():
            return Done(requeue_after=1.0)
        return await reconcile(key)

    world.reconcilers.reconcile = late  # type: ignore[method-assign]
    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "voice-0")
    await world.settle(seconds=5)
    assert phase(world, 1) == "Watching"


# --- quarantine while nothing else may change ---


@pytest.mark.parametrize("kind", [names.KIND_ADAPTER, names.KIND_TIER, names.KIND_REGION])
async def test_a_quarantine_holds_whatever_is_suspended(kind: str) -> None:
    world, _ = await trying()
    name = {names.KIND_ADAPTER: "vampire", names.KIND_TIER: "gold", names.KIND_REGION: "eu-west"}[kind]
    world.edit(kind, name, lambda live: live["spec"].update(suspend=True))
    await world.settle(seconds=5)
    assert {gateway.routes("gold")["vampire"] for gateway in world.doors().values()} == {OLD_NAME}
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(quarantinedDigests=[NEW]))
    await world.settle(seconds=2)
    assert names_of(world) == {OLD_NAME}
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(quarantinedDigests=[OLD]))
    await world.settle(seconds=2)
    assert names_of(world) == set()
    await world.settle(seconds=10)
    kept = read_routes(world.live("Secret", names.routes_secret("eu-west")))
    assert kept is not None
    assert routed_names(kept) == frozenset(), "who starts from the Secret hears of it too"


async def test_what_was_taken_back_leaves_the_routes_of_a_region_that_is_suspended_at_that_moment() -> None:
    world, players = await trying()
    for gateway in world.doors().values():
        gateway.refusing = True
    players.bad = {NEW}
    players.speak(50)
    await world.settle(seconds=2)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(suspend=True))
    for gateway in world.doors().values():
        gateway.refusing = False
    await world.settle(seconds=2)
    assert names_of(world) == {OLD_NAME}


@pytest.mark.parametrize("kind", [names.KIND_ADAPTER, names.KIND_TIER, names.KIND_REGION])
@pytest.mark.parametrize("named", [NEW, digest("vampire-3")], ids=["the candidate", "another digest"])
async def test_a_bad_candidate_is_taken_back_whatever_is_suspended_and_whatever_the_spec_names_meanwhile(
    kind: str, named: str
) -> None:
    world, players = await trying()
    name = {names.KIND_ADAPTER: "vampire", names.KIND_TIER: "gold", names.KIND_REGION: "eu-west"}[kind]
    world.edit(kind, name, lambda live: live["spec"].update(suspend=True))
    await players.play(60, each_second=20)
    assert percent_of(world) == 10, "no step while it is suspended"
    world.set_digest("vampire", named)
    await world.settle(seconds=2)
    players.bad = {NEW}
    players.speak(50)
    await world.settle(seconds=2)
    assert names_of(world) == {OLD_NAME}
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    assert "RolledBack" in world.recorder.reasons("vampire")
    _, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Stalled")
    assert reason == reasons.SUSPENDED
    assert "was taken back" in message
    world.edit(kind, name, lambda live: live["spec"].update(suspend=False))
    await world.settle(seconds=5)
    assert (world.variant("vampire").get("rejected") is None) == (named != NEW), "its own digest is not tried again"


def names_of(world: World) -> set[str]:
    """What gateways ask engines for."""
    return {
        target.served_name
        for gateway in world.doors().values()
        for alias in (gateway.table.aliases if gateway.table is not None else ())
        for target in alias.targets
    }


# --- a crowd ---


async def test_taking_a_candidate_back_does_not_wait_behind_voices_that_look_again() -> None:
    world, players = await trying()
    voices = [f"voice-{number:03}" for number in range(40)]
    world.put(*(adapter(name) for name in voices))
    await world.settle(seconds=3)
    for name in voices:
        world.edit(names.KIND_ADAPTER, name, lambda live: live["metadata"].update(labels={"reviewed": "yes"}))
    players.bad = {NEW}
    players.speak(50)
    world.report()
    ran: list[str] = []
    reconcile = world.reconcilers.reconcile

    async def note(key: Key) -> Outcome:
        ran.append(key.name)
        return await reconcile(key)

    world.reconcilers.reconcile = note  # type: ignore[method-assign]
    await world.settle(seconds=1)
    assert set(voices) <= set(ran)
    assert ran.index("vampire") < min(ran.index(name) for name in voices)
    assert world.variant("vampire")["rejected"]["digest"] == NEW


# --- the first digest ---


async def test_a_first_digest_that_is_corrected_at_once_is_heard_by_nobody() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}), tier("gold"))
    await world.settle()
    one, other = world.pods("gold").values()
    other.holding = True
    world.put(adapter("vampire", digests={"gold": OLD}))
    await world.settle(seconds=2)
    assert (OLD_NAME in one.resident, OLD_NAME in other.resident) == (True, False)
    world.set_digest("vampire", NEW)
    await world.settle(seconds=5)
    other.holding = False
    other.work()
    await world.settle(seconds=5)
    assert all(OLD_NAME not in routes for routes in tables_of(world))
    assert world.variant("vampire")["stable"]["digest"] == NEW
    assert "Adopted" not in world.recorder.reasons("vampire")


def tables_of(world: World) -> list[set[str]]:
    """What every table that a gateway ever had asks for."""
    return [
        {target.served_name for alias in table.aliases for target in alias.targets}
        for gateway in world.doors().values()
        for table in gateway.history
    ]
