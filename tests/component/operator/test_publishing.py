"""Statuses that are written while others write, while nobody answers, and while the watch is silent: no decision about
traffic is lost, undone or told twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.facts import AgentFact, GatewayFact
from npc_operator.ports import Conflict, Manifest, PortError
from tests.component.operator.harness import World
from tests.component.operator.players import Players
from tests.support.builders import adapter, digest, region, tier
from tests.support.fake_kube import Call

OLD, NEW = digest("vampire-1"), digest("vampire-2")


async def trying(*, bad: bool) -> tuple[World, Players]:
    """A vampire whose candidate has its first tenth of the NPCs."""
    world = World()
    world.put(region(tiers={"gold": 100}), tier("gold"))
    world.put(adapter("vampire", digests={"gold": OLD}, spec={"rollout": {"stepSeconds": 10}}))
    await world.settle()
    world.set_digest("vampire", NEW)
    await world.settle(seconds=2)
    assert shares(world) == [90, 10]
    return world, Players(world, bad={NEW} if bad else set())


def shares(world: World) -> list[int]:
    alias = next(iter(world.doors().values())).alias("vampire")
    assert alias is not None
    return [target.percent for target in alias.targets]


def answer(world: World, reply: Callable[[Manifest], None]) -> None:
    """Let a test see every write of a voice's status after the API server made it, and before the operator hears."""
    apply = world.kube.apply

    async def applied(manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        live = await apply(manifest, manager=manager, subresource=subresource)
        if manifest["kind"] == names.KIND_ADAPTER:
            reply(manifest)
        return live

    world.kube.apply = applied  # type: ignore[method-assign]


async def test_gateways_hear_of_a_rollback_although_the_watch_is_silent() -> None:
    world, players = await trying(bad=True)
    world.delivering = False
    players.speak(50)
    await world.settle(seconds=2)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    assert shares(world) == [100]


async def test_a_write_of_a_past_leader_that_arrives_late_undoes_nothing() -> None:
    world, players = await trying(bad=True)
    late: list[Manifest] = []

    def hold_up(call: Call) -> bool:
        late.append(call.manifest)
        return True

    arrive = world.api.fail(PortError("on its way"), where=hold_up)
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(suspend=True))
    await world.settle(seconds=2)
    assert late, "the past leader meant to write that the voice is suspended"
    arrive()
    world.lead()
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["spec"].update(suspend=False))
    players.speak(50)
    await world.settle(seconds=2)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    with pytest.raises(Conflict):
        await world.kube.apply(late[-1], manager=names.MANAGER_STATUS, subresource="status")
    await world.settle(seconds=5)
    assert (world.variant("vampire")["rejected"]["digest"], shares(world)) == (NEW, [100])


async def test_who_decides_from_old_news_decides_again() -> None:
    world, players = await trying(bad=False)
    world.delivering = False  # another leader took the candidate back, and nobody has told this one yet

    def reject(live: dict[str, Any]) -> None:
        variant = live["status"]["variants"][0]
        del variant["candidate"], variant["rollout"], variant["candidateSince"]
        variant["rejected"] = {"digest": NEW, "time": "2026-11-21T00:00:00Z", "reason": reasons.CANDIDATE_ERRORS}

    world.edit(names.KIND_ADAPTER, "vampire", reject)
    await players.play(15)
    assert world.variant("vampire")["rejected"]["digest"] == NEW
    assert "candidate" not in world.variant("vampire")
    assert shares(world) == [100]


async def test_a_person_who_edits_at_the_same_moment_holds_no_rollback_up() -> None:
    world, players = await trying(bad=True)
    world.delivering = False
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["metadata"].update(annotations={"team": "castle"}))
    players.speak(50)
    await world.settle(seconds=2)
    assert (world.variant("vampire")["rejected"]["digest"], shares(world)) == (NEW, [100])
    world.delivering = True
    world.resync()
    await world.settle(seconds=5)
    assert (world.variant("vampire")["rejected"]["digest"], shares(world)) == (NEW, [100])


@pytest.mark.parametrize("heard", [True, False], ids=["the watch brings it", "the watch is silent"])
async def test_a_decision_whose_answer_was_lost_is_told_and_recorded_once(
    heard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world, players = await trying(bad=True)
    lost = 0

    def lose(_: Manifest) -> None:
        nonlocal lost
        if lost < 1:
            lost += 1
            raise PortError("no answer in time", reason="Unreachable")

    answer(world, lose)
    world.delivering = heard
    with caplog.at_level(logging.INFO, logger="npc_operator.audit"):
        players.speak(50)
        await world.settle(seconds=5)
    lines = [record.__dict__["audit"]["decision"] for record in caplog.records if record.name == "npc_operator.audit"]
    assert lost == 1
    assert lines == [reasons.ROLLED_BACK]
    assert world.recorder.reasons("vampire").count("RolledBack") == 1
    assert [entry["reason"] for entry in world.variant("vampire")["history"]].count(reasons.ROLLED_BACK) == 1


async def test_a_decision_that_was_never_written_is_not_recorded_as_one(caplog: pytest.LogCaptureFixture) -> None:
    world, players = await trying(bad=True)
    mend = world.api.fail(PortError("down", reason="Unreachable"), where=lambda call: call.kind == names.KIND_ADAPTER)
    with caplog.at_level(logging.INFO, logger="npc_operator.audit"):
        players.speak(50)
        await world.settle(seconds=5)
        assert not [record for record in caplog.records if record.name == "npc_operator.audit"]
        mend()
        players.speak(1)
        await world.settle(seconds=2)
    assert len([record for record in caplog.records if record.name == "npc_operator.audit"]) == 1
    assert shares(world) == [100]


# --- a new leader ---


async def forget_pods(world: World) -> None:
    """Another leader begins, and has heard nobody for a second."""
    for kind in (AgentFact, GatewayFact):
        for namespace, name, _ in list(world.store.items(kind)):
            world.store.drop(kind, namespace, name)
    world.lead()
    world.controllers_run = False
    await world.settle(seconds=1)
    world.controllers_run = True


@pytest.mark.parametrize("percent", [0, 10])
async def test_a_new_leader_that_has_heard_nobody_yet_neither_writes_nor_says_that_nothing_serves(percent: int) -> None:
    if percent:
        world, _ = await trying(bad=False)
    else:
        world = World()
        world.put(region(tiers={"gold": 100}), tier("gold"), adapter("vampire", digests={"gold": OLD}))
        await world.settle(seconds=30)
    await world.settle(seconds=6)  # the Secret with the routes is written every five seconds
    told = len(world.recorder.events)
    world.api.forget_calls()
    await forget_pods(world)
    assert world.writes() == []
    await world.settle(seconds=2)
    assert (world.writes(), world.recorder.events[told:]) == ([], [])


async def test_what_a_new_leader_still_does_not_hear_after_a_while_it_says() -> None:
    world, _ = await trying(bad=False)
    await world.settle(seconds=2)
    for agent in world.pods("gold").values():
        agent.deaf = True
    await forget_pods(world)
    await world.settle(seconds=3)
    assert world.said(names.KIND_ADAPTER, "vampire", "Ready")[:2] == ("Unknown", reasons.AGENT_UNKNOWN)
