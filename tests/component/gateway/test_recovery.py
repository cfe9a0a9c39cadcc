"""Pods and tiers that fail and come back: who is left out, for how long, and what the voice does meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from npc_runtime import wire
from npc_runtime.gateway import ejection, holds, pool
from npc_runtime.gateway.http.limits import CONNECT_SECONDS
from tests.component.gateway.engines import Asked, Engine, Reply, mute
from tests.component.gateway.harness import Rig, eventually, stopwatch
from tests.component.gateway.ladders import LINES, Region, voice
from tests.component.gateway.regions import World
from tests.component.gateway.words import NEW, OLD

NAME = wire.served_name("vampire", OLD)
SILVER = wire.served_name("vampire", NEW)


@pytest.fixture
async def silver() -> AsyncIterator[Engine]:
    async with Engine(SILVER) as started:
        yield started


def region(gold: list[Engine], silver: list[Engine]) -> Region:
    return Region(
        engines={"gold": gold, "silver": silver},
        aliases={("gold", "vampire"): [(OLD, 100)], ("silver", "vampire"): [(NEW, 100)]},
        routes={"gold": {"fallback_tier": "silver"}},
    )


async def fail(asked: Asked, reply: Reply) -> None:
    await reply.json(500, {"error": {"message": "broken", "type": "x", "param": None, "code": 500}})


async def test_a_pod_that_answers_with_errors_is_left_out_and_comes_back_by_one_trial(
    rig: Rig, pair: World, engine: Engine, second: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.script = fail
    left_out_for = ejection.FIRST_SECONDS
    monkeypatch.setattr(ejection, "FIRST_SECONDS", left_out_for + 600)  # longer than twenty lines can take
    monkeypatch.setattr(ejection, "LONGEST_SECONDS", left_out_for + 600)
    for _ in range(20):
        assert (await rig.say()).status == 200
    assert engine.chats == 3, "three in a row, and then none while it is left out"
    assert rig.service.fleet.ejected == 1
    assert 'npc_gateway_ejections_total{tier="gold"} 1.0' in await rig.metrics()
    assert "npc_gateway_ejected_pods 1.0" in await rig.metrics()
    engine.script = None
    (left_out,) = [each for each in rig.service.fleet.endpoints if each.is_ejected]
    left_out.ejected_until -= 600
    await eventually(lambda: left_out.ejected_until <= asyncio.get_running_loop().time())
    for _ in range(10):
        assert (await rig.say()).status == 200
    assert rig.service.fleet.ejected == 0
    assert engine.chats > 3


async def test_while_the_trial_runs_no_other_line_goes_to_the_pod(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    engine.script = fail
    for _ in range(8):
        await rig.say()
    (left_out,) = [each for each in rig.service.fleet.endpoints if each.is_ejected]
    go_on = asyncio.Event()

    async def wait(asked: Asked, reply: Reply) -> None:
        await go_on.wait()
        await engine.answer(asked, reply)

    engine.script = wait
    left_out.ejected_until = asyncio.get_running_loop().time()
    second.pause = 0.05
    lines = [asyncio.create_task(rig.say()) for _ in range(12)]
    await eventually(lambda: engine.running == 1)
    await eventually(lambda: second.chats >= 8 + 11)
    assert engine.running == 1
    go_on.set()
    assert {(await line).status for line in lines} == {200}
    assert not left_out.is_ejected


async def test_a_caller_that_leaves_its_trial_leaves_the_next_line_one(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    engine.script = fail
    for _ in range(8):
        await rig.say()
    (left_out,) = [each for each in rig.service.fleet.endpoints if each.is_ejected]
    engine.script = mute
    left_out.ejected_until = asyncio.get_running_loop().time()
    line = asyncio.create_task(rig.say())
    await eventually(lambda: engine.running == 1)
    line.cancel()
    await eventually(lambda: engine.running == 0)
    engine.script = None
    await eventually(lambda: left_out.ejected_until <= asyncio.get_running_loop().time())
    before = engine.chats
    assert {(await rig.say()).status for _ in range(4)} == {200}
    assert engine.chats > before
    assert not left_out.is_ejected


async def test_when_every_pod_answers_with_errors_half_of_them_are_still_asked_first(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    engine.script = second.script = fail
    for _ in range(20):
        assert (await rig.say()).status == 500
    assert rig.service.fleet.ejected == 1
    engine.script = second.script = None
    assert (await rig.say()).status == 200


async def test_pods_that_were_all_unreachable_answer_as_soon_as_one_is_back(rig: Rig, engine: Engine) -> None:
    await rig.push(World(engines={"gold": [engine]}).table())
    assert (await rig.say()).status == 200
    await engine.stop()
    assert (await rig.say()).status == 502
    assert rig.service.fleet.ejected == 1
    await engine.__aenter__()
    assert (await rig.say()).status == 200, "left out means asked last, and there is no other"
    assert rig.service.fleet.ejected == 0


async def test_a_pod_that_does_not_accept_is_given_up_after_three_hundred_milliseconds(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full accept queue drops what comes, as a host without power does."""
    monkeypatch.setattr(pool, "CONNECT_SECONDS", CONNECT_SECONDS)
    monkeypatch.setattr(ejection, "FIRST_SECONDS", 30.0)  # longer than four lines can take
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        deaf = Engine(NAME)
        deaf.port = port
        await rig.push(World(engines={"gold": [deaf, engine]}).table())
        async with stopwatch() as watch:
            for _ in range(4):
                assert (await rig.say()).status == 200
            assert watch.seconds > 0.25
        for filler in fillers:
            filler.close()
    assert watch.awake < 1.0, "one connect timeout, and the pod is left out"


async def test_a_voice_goes_back_up_only_after_its_tier_was_able_for_two_seconds(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    world = region([engine], [silver])
    await rig.push(world.table())

    async def tier() -> str:
        return (await rig.say(stream=True)).headers["X-NPC-Served-Tier"]

    assert await tier() == "gold"
    world.engines = {"gold": [], "silver": [silver]}
    await rig.push(world.table())
    assert await tier() == "silver"
    world.engines = {"gold": [engine], "silver": [silver]}
    await rig.push(world.table())
    async with stopwatch() as watch:
        while await tier() == "silver":
            await asyncio.sleep(0.05)
            assert watch.awake < 4
        assert watch.seconds >= 1.9, "a tier that is just back does not make the voice flap"


async def test_a_hold_never_makes_a_line_fail(rig: Rig, engine: Engine, silver: Engine) -> None:
    """Gold is back but held, and silver has gone: gold answers, because the only thing below is an error."""
    world = region([], [silver])
    await rig.push(world.table())
    assert (await rig.say()).headers["X-NPC-Degraded"] == "Tier"
    world.engines = {"gold": [engine], "silver": []}
    await rig.push(world.table())
    answer = await rig.say()
    assert (answer.status, answer.headers["X-NPC-Served-Tier"]) == (200, "gold")
    assert "X-NPC-Degraded" not in answer.headers


async def test_one_line_that_fails_does_not_hold_the_voice_of_others(rig: Rig, engine: Engine, silver: Engine) -> None:
    await rig.push(region([engine], [silver]).table())
    engine.script = fail
    assert (await rig.say()).headers["X-NPC-Served-Tier"] == "silver"
    engine.script = None
    assert (await rig.say()).headers["X-NPC-Served-Tier"] == "gold"


async def test_a_held_voice_with_a_script_says_it_until_it_is_back(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "FIRST_SECONDS", 60.0)  # longer than the second line can take to come
    world = Region(engines={"gold": []}, voices=(voice(lines=LINES),))
    await rig.push(world.table())
    assert (await rig.say()).headers["X-NPC-Degraded"] == "Scripted"
    world.engines = {"gold": [engine]}
    await rig.push(world.table())
    assert (await rig.say()).headers["X-NPC-Degraded"] == "Scripted"
    assert engine.chats == 0
