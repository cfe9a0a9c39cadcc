"""Lines that would begin too late, and streams that stop in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from npc_runtime import wire
from npc_runtime.gateway import holds
from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.exchange import Exchange
from tests.component.gateway.engines import Asked, Engine, Reply, Script, head_only, mute
from tests.component.gateway.harness import Rig, completion, eventually, raw, stopwatch
from tests.component.gateway.ladders import LINES, Region, voice
from tests.component.gateway.words import NEW, OLD

NAME = wire.served_name("vampire", OLD)
SILVER = wire.served_name("vampire", NEW)
LIMIT = 0.15


@pytest.fixture
async def silver() -> AsyncIterator[Engine]:
    async with Engine(SILVER) as started:
        yield started


def region(gold: list[Engine], silver: list[Engine], **changes: object) -> Region:
    """Gold has 150 ms for its first token, and silver below it."""
    values = {
        "engines": {"gold": gold, "silver": silver},
        "aliases": {("gold", "vampire"): [(OLD, 100)], ("silver", "vampire"): [(NEW, 100)]},
        "routes": {"gold": {"fallback_tier": "silver", "first_token_milliseconds": round(LIMIT * 1000)}},
    }
    return Region(**(values | changes))  # type: ignore[arg-type]


def running(rig: Rig) -> list[Exchange]:
    """The exchanges that are going on."""
    connections = [each for each in rig.service._connections if isinstance(each, ClientConnection)]
    return [each._exchange for each in connections if each._exchange is not None]


@pytest.mark.parametrize("script", [mute, head_only], ids=lambda script: str(script.__name__))
async def test_a_line_whose_first_token_does_not_come_goes_down_at_the_limit_and_frees_the_engine(
    rig: Rig, engine: Engine, silver: Engine, script: Script
) -> None:
    engine.script = script
    await rig.push(region([engine], [silver]).table())
    async with stopwatch() as watch:
        answer = await rig.say(stream=True)
        assert watch.seconds >= LIMIT - 0.01
    assert (answer.status, answer.headers["X-NPC-Degraded"]) == (200, "Tier")
    assert watch.awake < LIMIT + 1.0
    await eventually(engine.aborted.is_set, seconds=1)
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_each_level_has_its_own_time_and_a_scripted_line_needs_none(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    engine.script = silver.script = mute
    world = region([engine], [silver], voices=(voice(lines=LINES),))
    world.routes["silver"] = {"first_token_milliseconds": 100}
    await rig.push(world.table())
    async with stopwatch() as watch:
        assert (await rig.say(stream=True)).spoken in LINES
        assert watch.seconds >= LIMIT + 0.09
    assert watch.awake < LIMIT + 1.1


async def test_the_last_level_is_waited_for(rig: Rig, engine: Engine, silver: Engine) -> None:
    """Later than wished is better than an error."""
    engine.script = mute
    silver.pause = 0.3
    world = region([engine], [silver])
    world.routes["silver"] = {"first_token_milliseconds": 100}
    await rig.push(world.table())
    assert (await rig.say(stream=True)).headers["X-NPC-Served-Tier"] == "silver"


async def test_a_line_that_is_not_streamed_is_not_cut_once_it_is_with_an_engine(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    """Its first token cannot be seen; the answer comes when it is whole."""
    engine.pause = LIMIT
    await rig.push(region([engine], [silver]).table())
    answer = await rig.say(stream=False)
    assert answer.headers["X-NPC-Served-Tier"] == "gold"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_line_that_waits_too_long_for_a_slot_goes_down_and_leaves_the_queue(
    rig: Rig, engine: Engine, silver: Engine, stream: bool
) -> None:
    go_on = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "held"}}]})
        await go_on.wait()
        await reply.end()

    engine.script = hold
    world = region([engine], [silver])
    world.routes["gold"] |= {"slots": 1, "queue": 8, "first_token_milliseconds": 1500}
    await rig.push(world.table())
    first = asyncio.create_task(rig.say(stream=True))
    await eventually(lambda: rig.streaming == 1)
    answer = await rig.say(stream=stream)
    assert (answer.headers["X-NPC-Served-Tier"], engine.chats) == ("silver", 1)
    assert rig.service.admission.waiting()["gold"] == 0
    go_on.set()
    assert (await first).spoken == "held"


async def test_a_line_whose_place_in_the_queue_is_too_far_back_goes_down_at_once(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    engine.pause = 0.03
    world = region([engine], [silver])
    world.routes["gold"] |= {"slots": 1, "queue": 100, "first_token_milliseconds": 60_000}
    await rig.push(world.table())
    for _ in range(10):
        assert (await rig.say(stream=True)).headers["X-NPC-Served-Tier"] == "gold"
    forecast = rig.service.forecasts.of("gold")
    now = asyncio.get_running_loop().time()
    assert forecast.first_token(now) >= 0.03
    assert forecast._slot_seconds >= 0.06, "what the lines before taught"
    # As if each had held the only slot for so long; 60 s are the limit: who is third in the queue can know.
    forecast._slot_seconds = 25.0
    go_on = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await go_on.wait()
        await engine.answer(asked, reply)

    engine.script = hold
    lines = [asyncio.create_task(rig.say(stream=True)) for _ in range(10)]
    await eventually(lambda: silver.chats == 7)
    assert rig.service.admission.waiting()["gold"] == 2, "the others did not even queue"
    go_on.set()
    answers = await asyncio.gather(*lines)
    tiers = [answer.headers["X-NPC-Served-Tier"] for answer in answers]
    assert (tiers.count("gold"), tiers.count("silver"), silver.chats) == (3, 7, 7)
    assert engine.chats == 10 + 3, "no engine was asked in vain"
    assert rig.service.admission.waiting() == {"gold": 0}


async def test_a_first_token_at_the_very_limit_wins(rig: Rig, engine: Engine, silver: Engine) -> None:
    """The limit passes in the turn in which the stream was opened: it is too late for a downgrade."""
    go_on = asyncio.Event()

    async def speak(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "just "}}]})
        await go_on.wait()
        await reply.event({"choices": [{"delta": {"content": "in time"}}]})
        await reply.end()

    engine.script = speak
    world = region([engine], [silver])
    world.routes["gold"]["first_token_milliseconds"] = 60_000
    await rig.push(world.table())
    line = asyncio.create_task(rig.say(stream=True))
    await eventually(lambda: rig.streaming == 1)
    (exchange,) = running(rig)
    exchange._pursuit.on_late()
    go_on.set()
    answer = await asyncio.wait_for(line, 60)
    assert (answer.spoken, answer.headers["X-NPC-Served-Tier"]) == ("just in time", "gold")
    assert silver.chats == 0


async def test_a_first_token_right_after_the_limit_is_never_heard(rig: Rig, engine: Engine, silver: Engine) -> None:
    """The engine speaks in the turn in which it was given up: nothing of that may get into the other answer."""
    given_up = asyncio.Event()

    async def speak_then(asked: Asked, reply: Reply) -> None:
        await given_up.wait()
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "too late"}}]})
        await reply.end()

    engine.script = speak_then
    world = region([engine], [silver])
    world.routes["gold"]["first_token_milliseconds"] = 60_000
    await rig.push(world.table())
    line = asyncio.create_task(rig.say(stream=True))
    await eventually(lambda: engine.running == 1)
    (exchange,) = running(rig)
    given_up.set()
    exchange._pursuit.on_late()
    answer = await asyncio.wait_for(line, 60)
    assert answer.spoken.startswith(SILVER)
    assert "too late" not in answer.text


async def test_a_caller_that_leaves_at_the_limit_leaves_nothing_behind(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    engine.script = silver.script = mute
    await rig.push(region([engine], [silver]).table())
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(completion(stream=True))
    await eventually(lambda: engine.running == 1)
    (exchange,) = running(rig)
    exchange._pursuit.on_late()
    writer.close()
    await eventually(lambda: rig.service.connections == 0)
    await eventually(lambda: engine.running == silver.running == 0)
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_a_tier_that_is_late_three_times_in_a_row_is_passed_over_for_a_while(
    rig: Rig, engine: Engine, silver: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "FIRST_SECONDS", 60.0)  # longer than the fourth line can take to come
    engine.script = mute
    await rig.push(region([engine], [silver]).table())
    for _ in range(3):
        assert (await rig.say(stream=True)).headers["X-NPC-Served-Tier"] == "silver"
    assert (await rig.say(stream=True)).headers["X-NPC-Served-Tier"] == "silver"
    assert engine.chats == 3, "the fourth was not even tried"


async def test_a_stream_that_stops_ends_with_an_error_event_and_frees_the_engine(rig: Rig, engine: Engine) -> None:
    async def speak_and_stop(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        for word in ("w0 ", "w1 "):
            await reply.event({"choices": [{"delta": {"content": word}}]})
        await reply.silence()

    engine.script = speak_and_stop
    await rig.push(Region(engines={"gold": [engine]}, routes={"gold": {"stall_seconds": 1}}).table())
    async with stopwatch() as watch:
        got = await raw(rig.port, completion(stream=True))
        assert watch.seconds >= 0.9
    assert watch.awake < 2.5
    events = [line.removeprefix("data: ") for line in got.decode().split("\n") if line.startswith("data: ")]
    assert "w1" in events[-2]
    assert json.loads(events[-1])["error"]["code"] == "engine_stalled"
    assert not got.endswith(b"0\r\n\r\n")
    await eventually(engine.aborted.is_set, seconds=1)
    text = await rig.metrics()
    assert 'npc_gateway_errors_total{archetype="vampire",reason="EngineStalled",tier="gold"} 1.0' in text


async def test_a_stall_in_the_middle_of_an_event_gets_no_error_event_glued_to_it(rig: Rig, engine: Engine) -> None:
    async def half(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "w"}}]})
        await eventually(lambda: rig.streaming == 1)
        await reply.send(b"10\r\ndata: {")
        await reply.silence()

    engine.script = half
    await rig.push(Region(engines={"gold": [engine]}, routes={"gold": {"stall_seconds": 1}}).table())
    got = await raw(rig.port, completion(stream=True))
    assert b"engine_stalled" in got, "the half chunk was never passed on, so an event may follow the last whole one"
    assert b"10\r\ndata: {" not in got


async def test_an_engine_that_speaks_slowly_but_steadily_is_not_stalled(rig: Rig, engine: Engine) -> None:
    engine.words, engine.pause = 5, 0.4
    await rig.push(Region(engines={"gold": [engine]}, routes={"gold": {"stall_seconds": 1}}).table())
    answer = await rig.say(stream=True)
    assert answer.spoken.endswith(f"{NAME} 4 ")


async def test_a_client_that_does_not_read_is_not_taken_for_an_engine_that_stalls(rig: Rig, engine: Engine) -> None:
    async def flood(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        for _ in range(400):
            await reply.event({"choices": [{"delta": {"content": "x" * 65536}}]})
        await reply.end()

    engine.script = flood
    await rig.push(Region(engines={"gold": [engine]}, routes={"gold": {"stall_seconds": 1}}).table())
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1 << 16)
    writer.write(completion(stream=True))
    await eventually(lambda: engine.running == 1)
    await eventually(lambda: engine.running == 0)
    writer.close()
    await eventually(lambda: bool(rig.access_lines()))
    (logged,) = rig.access_lines()
    assert logged["reason"] == "ClientGone"
    (endpoint,) = rig.service.fleet.endpoints
    assert endpoint.failures == 0
