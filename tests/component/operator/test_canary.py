"""Rollouts in steps, on a cluster in memory: what gateways, agents and statuses make of them together."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import GateFact, trial_name
from npc_runtime.wire import AdapterPhase, served_name
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import NAMESPACE, adapter, digest, region, tier
from tests.support.fake_agents import Verdict

OLD, NEW, OTHER = digest("vampire-1"), digest("vampire-2"), digest("vampire-3")
OLD_NAME, NEW_NAME, OTHER_NAME = (served_name("vampire", value) for value in (OLD, NEW, OTHER))
STEP = 10


async def castle(*, limits: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **rollout: Any) -> World:
    """A region with a vampire that serves OLD."""
    world = World()
    world.put(region(tiers={"gold": 100}, spec={} if limits is None else {"rolloutLimits": limits}))
    world.put(tier("gold"))
    wanted = {"stepSeconds": STEP, **rollout}
    world.put(adapter("vampire", digests={"gold": OLD}, spec={"rollout": wanted, **(spec or {})}))
    await world.settle()
    return world


def shares(world: World, archetype: str = "vampire") -> set[tuple[tuple[str, int], ...]]:
    """What the gateways go by."""
    found = set()
    for gateway in world.doors().values():
        alias = gateway.alias(archetype)
        assert alias is not None
        found.add(tuple((target.served_name, target.percent) for target in alias.targets))
    return found


def both(percent: int) -> set[tuple[tuple[str, int], ...]]:
    return {((OLD_NAME, 100 - percent), (NEW_NAME, percent))}


def phase(world: World, archetype: str = "vampire") -> str:
    return str(world.variant(archetype).get("rollout", {}).get("phase", ""))


async def until(world: World, players: Players, percent: int) -> None:
    for _ in range(200):
        if shares(world) == both(percent):
            return
        await players.play(1)
    raise AssertionError(f"never {percent}%: {world.variant('vampire')}")


async def test_a_good_candidate_takes_over_step_by_step_beside_the_stable_digest() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    for percent in (10, 25, 50, 100):
        await until(world, players, percent)
        assert all(set(agent.resident) == {OLD_NAME, NEW_NAME} for agent in world.pods("gold").values())
        assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    await players.play(3 * STEP)
    assert shares(world) == {((NEW_NAME, 100),)}
    await world.settle(seconds=30)
    assert all(set(agent.resident) == {NEW_NAME} for agent in world.pods("gold").values())
    variant = world.variant("vampire")
    assert [(entry["reason"], entry.get("toPercent")) for entry in reversed(variant["history"])] == [
        (reasons.FIRST, 100),
        *((reasons.STEPPED, percent) for percent in (10, 25, 50, 100)),
        (reasons.MOVED, 100),
    ]
    assert "answers were bad" in variant["history"][0]["verdict"]
    events = world.recorder.reasons("vampire")
    assert (events.count("Stepped"), events.count("TrafficMoved")) == (4, 2)


async def test_agents_prove_identity_before_each_step_and_a_mute_one_holds_it() -> None:
    world = await castle()
    players = Players(world)
    mute = next(iter(world.pods("gold").values()))
    mute.silent_about_identity = True
    world.set_digest("vampire", NEW)
    await players.play(STEP)
    assert (phase(world), shares(world)) == ("Checking", {((OLD_NAME, 100),)})
    assert world.said(names.KIND_ADAPTER, "vampire", "Reconciling")[1] == reasons.CHECKING
    mute.silent_about_identity = False
    await until(world, players, 25)
    assert {entry.identity_check for agent in world.pods("gold").values() for entry in agent.desired} == {2}


async def test_a_pod_that_never_proves_its_identity_is_named_and_nobody_loses_what_they_hear() -> None:
    world = await castle(loadTimeoutSeconds=30)
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 25)
    name, mute = next(iter(world.pods("gold").items()))
    mute.silent_about_identity = True
    await players.play(STEP + 29)
    assert world.said(names.KIND_ADAPTER, "vampire", "Reconciling")[1] == reasons.CHECKING
    await players.play(3)
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[:2] == ("True", reasons.IDENTITY_TIMEOUT)
    assert f"pod {name} for {OLD_NAME} and {NEW_NAME}; 25% of the NPCs" in world.variant("vampire")["message"]
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    writes = len(world.writes())
    await players.play(120)
    assert (len(world.writes()), shares(world)) == (writes, both(25))
    mute.silent_about_identity = False
    await players.play(1)
    assert shares(world) == both(50)
    assert world.variant("vampire")["reason"] == reasons.WATCHING


async def test_a_bad_candidate_is_off_every_route_within_two_seconds_of_the_evidence_and_stays_off() -> None:
    world = await castle()
    players = Players(world, bad={NEW})
    world.set_digest("vampire", NEW)
    await world.settle(seconds=2)
    assert shares(world) == both(10)
    players.speak(50)
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert all(OLD_NAME in asked for agent in world.pods("gold").values() for asked in agent.history), "never unloaded"
    await world.settle(seconds=8)  # a gateway that starts goes by the Secret, which is written every five seconds
    assert all(set(agent.resident) == {OLD_NAME} for agent in world.pods("gold").values())
    status, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Stalled")
    assert (status, reason) == ("True", reasons.CANDIDATE_MISMATCHED)
    assert "is not tried again" in message
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[0] == "True"
    assert "RolledBack" in world.recorder.reasons("vampire")

    heard = players.heard[NEW]
    for _ in range(3):
        world.lead()
        await players.play(STEP)
    assert (shares(world), players.heard[NEW]) == ({((OLD_NAME, 100),)}, heard)
    world.set_digest("vampire", OTHER)
    await players.play(5)
    assert shares(world) == {((OLD_NAME, 90), (OTHER_NAME, 10))}
    assert "rejected" not in world.variant("vampire")


async def test_the_way_back_needs_no_agent_because_the_stable_digest_never_leaves_a_pod() -> None:
    world = await castle(analysis={"minRequests": 30})
    orders = {name: len(agent.history) for name, agent in world.pods("gold").items()}
    world.set_digest("vampire", NEW)
    players = Players(world)
    for percent in (10, 25, 50):
        await until(world, players, percent)
    for agent in world.pods("gold").values():
        agent.deaf = True
    players.bad = {NEW}
    players.speak(40)
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    for name, agent in world.pods("gold").items():
        since = agent.history[orders[name] :]
        assert since
        assert all(OLD_NAME in names_asked for names_asked in since), "at no moment was it only the candidate"
        assert OLD_NAME in agent.resident


async def test_what_a_gateway_took_off_is_tried_again_once_it_is_named_again_after_the_old_digest() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    players.speak(1)
    for gateway in world.doors().values():
        gateway.rollouts = tuple(
            one.model_copy(update={"withdrawn": "3 of 3 answers were bad"}) for one in gateway.rollouts
        )
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == reasons.WITHDRAWN_BY_GATEWAY
    world.set_digest("vampire", OLD)
    await world.settle(seconds=2)
    # The cause is mended, the digest is named again, and the gateways still tell of the last attempt for a while.
    world.set_digest("vampire", NEW)
    await world.settle(seconds=2)
    assert shares(world) == both(10)
    await until(world, players, 50)
    assert world.variant("vampire")["attempt"] == 3, "the first digest was an attempt, too"


async def test_what_went_wrong_while_no_operator_was_there_is_found_by_the_next_at_once() -> None:
    world = await castle()
    players = Players(world, bad={NEW})
    world.set_digest("vampire", NEW)
    await world.settle(seconds=2)
    players.speak(200)  # and nobody looks
    world.clock.time += 600
    world.report()
    world.lead()
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert world.variant("vampire")["rejected"]["digest"] == NEW


async def test_nothing_is_written_while_a_step_only_gathers_answers() -> None:
    world = await castle(stepSeconds=3600)
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    await players.play(3)
    world.api.forget_calls()
    tables = [len(gateway.history) for gateway in world.doors().values()]
    await players.play(60)
    assert world.writes() == []
    assert [len(gateway.history) for gateway in world.doors().values()] == tables


async def test_too_few_players_make_gateways_ask_themselves() -> None:
    world = await castle(spec={"probe": {"prompt": "Who goes there?"}})
    world.set_digest("vampire", NEW)
    await world.settle(seconds=3 * STEP + 3)
    aliases = [gateway.alias("vampire") for gateway in world.doors().values()]
    prompts = [one.rollout.probe.prompt for one in aliases if one and one.rollout and one.rollout.probe]
    assert prompts == ["Who goes there?"] * 2
    assert (phase(world), "Probing" in world.recorder.reasons("vampire")) == ("Probing", True)
    await until(world, Players(world), 25)
    alias = next(iter(world.doors().values())).alias("vampire")
    assert alias is not None
    assert alias.rollout is not None
    assert alias.rollout.probe is None


async def test_an_empty_share_is_raised_to_the_lowest_npc_heard() -> None:
    world = await castle(stepSeconds=60)
    players = Players(world, lowest=4321)
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    await players.play(35)
    for gateway in world.doors().values():
        alias = gateway.alias("vampire")
        assert alias is not None
        assert alias.rollout is not None
        assert (alias.rollout.candidate_below, alias.rollout.control_below) == (4322, 8644)


async def test_it_holds_at_the_regions_ceiling_until_the_digest_is_approved() -> None:
    world = await castle(limits={"ceilingPercent": 25})
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 25)
    await players.play(4 * STEP)
    assert (shares(world), phase(world)) == (both(25), "Holding")
    status, reason, message = world.said(names.KIND_ADAPTER, "vampire", "Stalled")
    assert (status, reason) == ("True", reasons.AWAITING_APPROVAL)
    assert f"spec.rollout.approvedDigest to {NEW}" in message
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"]["rollout"].update(approvedDigest=NEW))
    await until(world, players, 100)
    await players.play(3 * STEP)
    assert shares(world) == {((NEW_NAME, 100),)}


async def test_the_gate_is_asked_before_any_npc_hears_it() -> None:
    world = await castle(analysis={"gate": {"image": "gate:1"}})
    players = Players(world)
    world.set_digest("vampire", NEW)
    await players.play(5)
    assert (phase(world), shares(world)) == ("Gating", {((OLD_NAME, 100),)})
    world.store.put(GateFact, NAMESPACE, trial_name("vampire", "gold", NEW), GateFact("Passed"))
    await until(world, players, 10)


async def test_an_engine_that_keeps_ending_takes_the_candidate_back() -> None:
    world = await castle(stepSeconds=600)
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    pod = next(iter(world.pods("gold").values()))
    for _ in range(2):
        assert "rejected" not in world.variant("vampire")
        pod.restart_engine()
        await world.settle(seconds=5)
        pod.engine_ready(world.clock.now())
        await world.settle(seconds=5)
    assert world.variant("vampire")["rejected"]["reason"] == reasons.CRASH_LOOPING


async def test_a_pod_that_loses_its_proof_takes_the_candidate_back() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 25)
    next(iter(world.pods("gold").values())).lose(NEW_NAME, Verdict(AdapterPhase.RETRYING, "IdentityLost", "other root"))
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == reasons.IDENTITY_LOST


async def test_a_pod_added_in_mid_rollout_or_after_a_rollback_gets_what_it_needs() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 10)
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=3))
    await world.settle(seconds=3)
    assert len(world.pods("gold")) == 3
    assert all(set(agent.resident) == {OLD_NAME, NEW_NAME} for agent in world.pods("gold").values())
    await until(world, players, 25)
    players.bad = {NEW}
    await players.play(5, each_second=100)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    world.edit(names.KIND_TIER, "gold", lambda live: live["spec"].update(replicas=4))
    await world.settle(seconds=5)
    assert len(world.pods("gold")) == 4
    assert all(set(agent.resident) == {OLD_NAME} for agent in world.pods("gold").values())


# --- quarantine ---


@pytest.mark.parametrize("whose", ["the voice's", "the region's"])
async def test_a_quarantined_digest_leaves_routes_at_once_and_pods_after_and_the_last_good_one_serves(
    whose: str,
) -> None:
    world = await castle(strategy="Immediate")
    world.set_digest("vampire", NEW)
    await world.settle()
    assert shares(world) == {((NEW_NAME, 100),)}
    kind, name = (names.KIND_ADAPTER, "vampire") if whose == "the voice's" else (names.KIND_REGION, "eu-west")
    for agent in world.pods("gold").values():
        agent.holding = True  # it takes a while to load the old one again
    world.edit(kind, name, lambda live: live["spec"].update(quarantinedDigests=[NEW]))
    await world.settle(seconds=2)
    assert shares(world) == {()}
    assert world.variant("vampire")["serving"] == "Nothing"
    assert world.said(names.KIND_ADAPTER, "vampire", "Stalled")[1] == reasons.QUARANTINED
    for agent in world.pods("gold").values():
        agent.holding = False
        agent.work()
    await world.settle(seconds=10)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert world.variant("vampire")["serving"] == "LastGood"
    assert all(set(agent.resident) == {OLD_NAME} for agent in world.pods("gold").values())
    assert {"Quarantined", "Restored"} <= set(world.recorder.reasons("vampire"))


async def test_a_quarantined_candidate_is_off_at_once() -> None:
    world = await castle()
    players = Players(world)
    world.set_digest("vampire", NEW)
    await until(world, players, 50)
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"].update(quarantinedDigests=[NEW]))
    await world.settle(seconds=2)
    assert shares(world) == {((OLD_NAME, 100),)}
    assert world.variant("vampire")["rejected"]["reason"] == reasons.QUARANTINED
    await world.settle(seconds=10)
    assert all(set(agent.resident) == {OLD_NAME} for agent in world.pods("gold").values())


async def test_a_quarantined_digest_with_nothing_before_it_leaves_pods_too() -> None:
    world = await castle(spec={"persona": {"systemPrompt": "You are a vampire."}})
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(quarantinedDigests=[OLD]))
    await world.settle(seconds=30)
    assert shares(world) == {()}
    assert all(set(agent.resident) == set() for agent in world.pods("gold").values())
    assert world.variant("vampire")["serving"] == "BaseModel"


# --- turns ---


async def test_only_so_many_archetypes_move_at_once_and_the_more_important_first() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}, spec={"rolloutLimits": {"maxConcurrent": 2}}), tier("gold"))
    voices = {f"voice-{number}": "Critical" if number == 4 else "Normal" for number in range(6)}
    for name, importance in voices.items():
        world.put(adapter(name, spec={"importance": importance, "rollout": {"stepSeconds": 2, "steps": [50, 100]}}))
    await world.settle()
    for name in voices:
        world.set_digest(name, digest(f"{name}-2"))
    players, most, order = Players(world), 0, []
    for _ in range(120):
        await players.play(1, each_second=60)
        moving = [name for name in voices if world.variant(name).get("rollout", {}).get("since")]
        most = max(most, len(moving))
        order += [name for name in moving if name not in order]
        if all(world.variant(name)["stable"]["digest"] == digest(f"{name}-2") for name in voices):
            break
    else:
        raise AssertionError("they never end")
    assert most == 2
    assert set(order) == set(voices)
    assert "voice-4" in order[:4], "the important one had one of the first two turns that came free"


async def test_a_mistake_in_a_template_moves_only_so_many_archetypes_at_once_whatever_their_strategy() -> None:
    world = World()
    world.put(region(tiers={"gold": 100}, spec={"rolloutLimits": {"maxConcurrent": 5}}), tier("gold"))
    voices = [f"voice-{number:02}" for number in range(25)]
    world.put(*(adapter(name, spec={"rollout": {"strategy": "Immediate", "stepSeconds": 30}}) for name in voices))
    await world.settle()
    begun = world.clock.now()
    for name in voices:
        world.set_digest(name, digest(f"{name}-2"))
    await world.settle(seconds=20)
    assert len(moved(world, voices)) == 5
    world.lead()
    await world.settle(seconds=5)
    assert len(moved(world, voices)) == 5, "another leader knows of them, too"
    waiting = next(name for name in voices if name not in moved(world, voices))
    reason, message = world.said(names.KIND_ADAPTER, waiting, "Reconciling")[1:]
    assert reason == reasons.WAITING_FOR_TURN
    assert f"{moved(world, voices)[0]} (moved at once at " in message
    # What is put back waits for nobody, and so does what has served before.
    world.set_digest(voices[0], digest(f"{voices[0]}-1"))
    await world.settle(seconds=2)
    assert world.variant(voices[0])["stable"]["digest"] == digest(f"{voices[0]}-1")
    while len(moved(world, voices)) < 24:
        before = len(moved(world, voices))
        await world.settle(seconds=5)
        assert len(moved(world, voices)) - before <= 5
        assert world.clock.now() < begun + 240, world.variant(waiting)


def moved(world: World, voices: list[str]) -> list[str]:
    """Those that answer with their second digest."""
    return [name for name in voices if world.variant(name)["stable"]["digest"] == digest(f"{name}-2")]


# --- the operator ends ---

MOMENTS = ("before", "after")
SHARDS = 8


async def roll(world: World, players: Players) -> None:
    """One good and one bad rollout on two tiers, whatever happens to the operator."""
    world.set_digest("vampire", NEW, "gold")
    world.set_digest("vampire", OTHER, "bronze")
    await players.play(14, each_second=60)
    await world.settle(seconds=30)


async def two_tiers() -> tuple[World, Players]:
    world = World()
    world.put(region(tiers={"gold": 100, "bronze": 50}), tier("gold"), tier("bronze"))
    digests = {"gold": OLD, "bronze": digest("vampire-bronze")}
    world.put(adapter("vampire", digests=digests, spec={"rollout": {"stepSeconds": 2, "steps": [50, 100]}}))
    await world.settle()
    return world, Players(world, bad={OTHER})


def end(world: World) -> dict[str, Any]:
    """What matters: who serves where, what is refused, and which decisions were taken in which order."""
    found: dict[str, Any] = {}
    for name in ("gold", "bronze"):
        variant = world.variant("vampire", name)
        found[name] = (
            variant["stable"]["digest"],
            variant.get("candidate"),
            variant.get("rejected", {}).get("digest"),
            [(entry["reason"], entry["digest"], entry.get("toPercent", 0)) for entry in variant["history"]],
            sorted(sorted(agent.resident) for agent in world.pods(name).values()),
            [gateway.routes(name) for gateway in world.doors().values()],
        )
    return found


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_an_operator_that_ends_around_any_call_of_a_rollout_loses_and_doubles_nothing(
    shard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, players = await two_tiers()
    calm.calls.clear()
    await roll(calm, players)
    wanted, calls = end(calm), list(calm.calls)
    assert wanted["gold"][0] == NEW
    assert wanted["bronze"][2] == OTHER
    mine = range(shard, len(calls), SHARDS)
    for number in mine:
        for when in MOMENTS:
            world, players = await two_tiers()
            world.end_at(number, when)
            await roll(world, players)
            assert world.crashed, f"nothing crashed {when} call {number} ({calls[number]})"
            assert end(world) == wanted, f"a crash {when} call {number} ({calls[number]}) ends otherwise"
    with capsys.disabled():
        print(f"\n{len(calls)} mutating calls; crashed before and after {len(mine)} of them, always with the same end")


async def test_the_audit_log_has_every_decision_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="npc_operator.audit"):
        world, players = await two_tiers()
        await roll(world, players)
    lines = [record.__dict__["audit"] for record in caplog.records if record.name == "npc_operator.audit"]
    told = [(line["tier"], line["decision"], line["toPercent"]) for line in lines]
    for name in ("gold", "bronze"):
        history = world.variant("vampire", name)["history"]
        assert [one[1:] for one in told if one[0] == name] == [
            (entry["reason"], entry.get("toPercent", 0)) for entry in reversed(history)
        ]
