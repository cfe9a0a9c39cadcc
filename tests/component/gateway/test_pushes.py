"""Route tables that come while lines are running, and who hears which are in force."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, eventually, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import ENGINE_KEY, NEW, OLD


async def test_a_push_is_acknowledged_in_force_and_makes_ready(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]})
    accepted = await rig.push(world.table())
    assert accepted.stamp == wire.Stamp(epoch=1, generation=1)
    assert (await rig.say()).status == 200
    assert await rig.ready() == (200, "ok\n")
    status, body = await rig.admin("GET", "/v1/status")
    assert status == 200
    assert wire.GatewayReport.model_validate(body).stamp == accepted.stamp


async def test_an_older_table_is_refused_with_what_is_in_force(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]}, epoch=5)
    old, new = world.table(), world.table()
    await rig.push(new)
    for stale in (old, old.model_copy(update={"stamp": wire.Stamp(epoch=4, generation=99)})):
        status, body = await rig.admin("PUT", "/v1/routes", data=stale.to_bytes())
        refusal = wire.Refusal.model_validate(body)
        assert (status, refusal.reason, refusal.current) == (409, "StaleOrder", new.stamp)
    await rig.push(new)
    await rig.push(old.model_copy(update={"stamp": wire.Stamp(epoch=6, generation=1)}))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"defaultTier": "iron"}, "iron"),
        ({"protocol": 99}, "99"),
        ({"stamp": {"epoch": -1, "generation": 0}}, "epoch"),
        ({"tiers": "gold"}, "tiers"),
        ({"assignments": [{"npcPrefix": "a", "tier": "iron"}]}, "iron"),
    ],
)
async def test_a_table_that_contradicts_itself_changes_nothing(
    rig: Rig, world: World, change: dict[str, object], word: str
) -> None:
    data = json.loads(world.table().to_bytes()) | change
    status, body = await rig.admin("PUT", "/v1/routes", data=json.dumps(data).encode())
    refusal = wire.Refusal.model_validate(body)
    assert status == 400
    assert refusal.reason in ("BadMessage", "UnsupportedProtocol")
    assert word in refusal.message
    assert ENGINE_KEY not in json.dumps(body)
    assert (await rig.say()).status == 200


async def test_percents_that_do_not_sum_to_a_hundred_are_refused(rig: Rig, world: World) -> None:
    world.aliases = {("gold", "vampire"): [(OLD, 50), (NEW, 49)]}
    status, body = await rig.admin("PUT", "/v1/routes", data=world.table().to_bytes())
    assert status == 400
    assert "99" in body["message"]


async def test_a_broken_message_never_shows_its_secrets(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    data = b'{"stamp":{"epoch":1,"generation":1},"engineKeys":[{"id":5,"key":"hush-hush"}],"agentTokens":"hush-hush"}'
    status, body = await rig.admin("PUT", "/v1/routes", data=data)
    assert status == 400
    assert "hush" not in json.dumps(body) + caplog.text


async def test_a_status_poll_answers_when_something_changed(
    rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, waiting = rig.gateway.routes.wait_for_news, asyncio.Event()

    async def wait_for_news(**how: Any) -> wire.GatewayReport:
        if how["seconds"] == 50:
            waiting.set()
        return await real(**how)

    monkeypatch.setattr(rig.gateway.routes, "wait_for_news", wait_for_news)
    now = await rig.counted()
    path = f"/v1/status?after={now['revision']}&boot={now['bootId']}&wait=50"
    poll = asyncio.ensure_future(rig.admin("GET", path))
    await asyncio.wait_for(waiting.wait(), 30)
    # A whole other request later it still waits.
    assert (await rig.admin("GET", "/v1/status"))[1] == now
    assert not poll.done()
    await rig.push(world.table())
    status, news = await asyncio.wait_for(poll, 30)
    assert (status, news["revision"]) == (200, now["revision"] + 1)
    assert news["stamp"] == {"epoch": 1, "generation": 2}
    news = await rig.counted()
    unknown = await asyncio.wait_for(rig.admin("GET", "/v1/status?after=999&boot=other&wait=50"), 30)
    assert unknown == (200, news)
    nothing = await rig.admin("GET", f"/v1/status?after={news['revision']}&boot={news['bootId']}&wait=0.05")
    assert nothing == (200, news)
    assert (await rig.admin("GET", "/v1/status?after=x"))[0] == 400


async def test_tables_swapped_under_load_cost_no_line_and_never_mix_voices(
    rig: Rig, engine: Engine, second: Engine
) -> None:
    old, new = wire.served_name("vampire", OLD), wire.served_name("vampire", NEW)
    for each in (engine, second):
        each.loaded, each.pause = {old, new}, 0.003
    world = World(engines={"gold": [engine, second]})
    await rig.push(world.table())
    done = asyncio.Event()
    answers = []

    async def client(number: int) -> None:
        while not done.is_set():
            answer = await rig.say(stream=number % 2 == 0, npc=f"npc-{number}")
            answers.append(answer)

    clients = [asyncio.ensure_future(client(number)) for number in range(12)]
    for turn in range(60):
        split = [(OLD, 100 - turn % 101), (NEW, turn % 101)]
        world.aliases = {("gold", "vampire"): split if turn % 7 else [(NEW, 100)]}
        world.engines = {"gold": [engine] if turn % 3 == 0 else [second] if turn % 3 == 1 else [engine, second]}
        await rig.push(world.table())
        spoken = len(answers)
        await eventually(lambda: len(answers) >= spoken + 4)  # noqa: B023 (called before the next turn)
    done.set()
    await asyncio.gather(*clients)
    assert len(answers) > 200
    assert {answer.status for answer in answers} == {200}
    assert {answer.digest for answer in answers} == {OLD, NEW}
    for answer in answers:
        name = wire.served_name("vampire", answer.digest)
        assert answer.spoken == f"{name} 0 {name} 1 {name} 2 "


async def test_the_engine_key_rotates_without_a_failed_line(rig: Rig, engine: Engine, second: Engine) -> None:
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    assert (await rig.say()).status == 200
    second.key = "engine-key-2"
    world.engines, world.engine_keys = {"gold": [second]}, {"k1": ENGINE_KEY, "k2": "engine-key-2"}
    world.engine_key_id = "k2"
    await rig.push(world.table())
    assert (await rig.say()).status == 200
    assert second.asked[0].headers["authorization"] == "Bearer engine-key-2"


async def test_a_running_line_finishes_on_a_pod_that_left_the_table(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.pause = 0.1
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    line = asyncio.ensure_future(rig.say(stream=True))
    await eventually(lambda: engine.running == 1)
    world.engines = {"gold": [second]}
    await rig.push(world.table())
    assert (await line).status == 200
    assert (await rig.say()).status == 200
    assert second.chats == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_operator_hears_of_lines_on_a_pod_that_left_the_table_until_the_last_has_ended(
    tmp_path: Path, engine: Engine, second: Engine, workers: int
) -> None:
    ended = asyncio.Event()

    async def answer(asked: Asked, reply: Reply) -> None:
        await ended.wait()
        await engine.answer(asked, reply)

    async with running(tmp_path, workers=workers) as rig:
        engine.script = answer
        world = World(engines={"gold": [engine]})
        await rig.push(world.table())
        lines = [asyncio.ensure_future(rig.say(stream=True)) for _ in range(3)]
        await eventually(lambda: engine.running == 3)
        world.engines = {"gold": [second]}
        table = await rig.push(world.table())
        report = await rig.counted()
        assert report["counted"] == table.stamp.model_dump(mode="json", by_alias=True)
        assert report["departures"] == [{"uid": f"uid-{engine.port}", "lines": 3}]
        ended.set()
        assert [(await line).status for line in lines] == [200] * 3
        async with asyncio.timeout(40):
            while report["departures"]:
                news = f"/v1/status?boot={report['bootId']}&after={report['revision']}&wait=50"
                _, report = await rig.admin("GET", news)


async def test_lines_that_went_wrong_are_told_by_tier(rig: Rig, engine: Engine, second: Engine) -> None:
    world = World(engines={"gold": [engine, second]})
    await rig.push(world.table())
    await engine.stop()
    for turn in range(6):
        assert (await rig.say(npc=f"npc-{turn}")).status == 200
    await second.stop()
    assert (await rig.say()).status != 200
    _, report = await rig.admin("GET", "/v1/status")
    while not report["lines"]:
        news = f"/v1/status?boot={report['bootId']}&after={report['revision']}&wait=50"
        _, report = await asyncio.wait_for(rig.admin("GET", news), 40)
    (told,) = report["lines"]
    assert told["tier"] == "gold"
    assert told["lost"] >= 1
    assert told["rerouted"] >= 1
