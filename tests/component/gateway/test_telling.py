"""What is told about lines: the access log and the metrics, never words or keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, eventually, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN, ENGINE_KEY, KEY, OLD

NAME = wire.served_name("vampire", OLD)


async def test_the_access_log_names_who_and_what_but_no_words_and_no_keys(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        headers = {"X-Player-Id": "player-1", "X-Request-Id": "r-1"}
        messages = [{"role": "user", "content": "my deepest secret"}]
        await rig.say(npc="npc-1", stream=True, messages=messages, headers=headers)
        await rig.say(key="wrong-key")
        await rig.say("ghoul")
    line, refused, unknown = rig.access_lines()
    assert line | {"time": 0, "durationSeconds": 0, "firstTokenSeconds": 0} == {
        "time": 0,
        "requestId": "r-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "durationSeconds": 0,
        "firstTokenSeconds": 0,
        "archetype": "vampire",
        "tier": "gold",
        "digest": OLD,
        "pod": f"gold-{engine.port}",
        "npc": "npc-1",
        "player": "player-1",
        "key": "game",
        "attempts": 1,
    }
    assert (refused["status"], refused["reason"]) == (401, "Unauthorized")
    assert (unknown["status"], unknown["reason"]) == (404, "NotFound")
    everything = rig.log.getvalue().decode() + caplog.text
    for secret in ("deepest", KEY, "wrong-key", ENGINE_KEY, ADMIN_TOKEN, NAME):
        assert secret not in everything


async def test_the_access_log_can_be_switched_off(tmp_path: Path, engine: Engine) -> None:
    async with running(tmp_path, access_log=False) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        await rig.say()
    assert rig.log.getvalue() == b""


async def test_metrics_have_base_units_bounded_labels_and_follow_the_table(rig: Rig, world: World) -> None:
    for number in range(5):
        await rig.say(npc=f"npc-{number}", stream=True)
        await rig.say(f"unknown-{number}")
    text = await rig.metrics()
    assert 'npc_gateway_requests_total{archetype="vampire",code="200",tier="gold"} 5.0' in text
    assert 'npc_gateway_requests_total{archetype="",code="404",tier=""} 5.0' in text
    assert 'npc_gateway_time_to_first_token_seconds_count{archetype="vampire",tier="gold"} 5.0' in text
    assert 'npc_gateway_request_duration_seconds_count{archetype="vampire",tier="gold"} 5.0' in text
    assert "unknown-" not in text
    assert "npc-1" not in text
    await rig.push(world.table())
    assert 'npc_gateway_requests_total{archetype="vampire",code="200",tier="gold"} 5.0' in await rig.metrics()
    world.aliases = {("gold", "zombie"): [(OLD, 100)]}
    await rig.push(world.table())
    assert 'archetype="vampire"' not in await rig.metrics()


async def test_a_line_in_flight_is_counted_as_such(rig: Rig, world: World, engine: Engine) -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked, reply: Reply) -> None:
        await go_on.wait()
        await engine.answer(asked, reply)

    engine.script = script
    line = asyncio.ensure_future(rig.say())
    await eventually(lambda: engine.running == 1)
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 1.0' in await rig.metrics()
    go_on.set()
    await line
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 0.0' in await rig.metrics()
