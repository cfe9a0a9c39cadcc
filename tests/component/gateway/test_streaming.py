"""Lines, streamed and not, from the client to the engine and back."""

from __future__ import annotations

import asyncio
import json

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply, chunk
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import ENGINE_KEY, NEW, OLD

NAME = wire.served_name("vampire", OLD)


async def test_a_streamed_line_arrives_whole_and_says_who_spoke(rig: Rig, world: World, engine: Engine) -> None:
    answer = await rig.say(stream=True, npc="gold-1")
    assert answer.status == 200
    assert answer.spoken == f"{NAME} 0 {NAME} 1 {NAME} 2 "
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-NPC-Served-Tier"] == "gold"
    assert answer.headers["X-NPC-Served-By"] == OLD
    assert "X-NPC-Degraded" not in answer.headers
    assert answer.headers["X-Request-Id"]


async def test_a_line_that_is_not_streamed_arrives_whole(rig: Rig, world: World) -> None:
    answer = await rig.say()
    assert answer.spoken == f"{NAME} 0 {NAME} 1 {NAME} 2 "
    assert answer.headers["X-NPC-Served-By"] == OLD


async def test_the_engine_sees_its_own_name_and_key_and_no_header_of_the_client(
    rig: Rig, world: World, engine: Engine
) -> None:
    headers = {"Cookie": "c=1", "X-Forwarded-For": "10.0.0.1", "traceparent": "00-ab-cd-01", "X-Player-Id": "p"}
    await rig.say(npc="gold-1", headers=headers, temperature=0.5, unknown_field={"a": 1})
    (asked,) = engine.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["model"] == NAME
    assert asked.body["temperature"] == 0.5
    assert asked.body["unknown_field"] == {"a": 1}
    assert asked.headers["authorization"] == f"Bearer {ENGINE_KEY}"
    assert asked.headers["traceparent"] == "00-ab-cd-01"
    assert set(asked.headers) == {
        "host",
        "authorization",
        "accept",
        "content-type",
        "traceparent",
        "content-length",
    }


async def test_the_first_event_reaches_the_client_while_the_engine_still_speaks(
    rig: Rig, world: World, engine: Engine
) -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "first"}}]})
        await go_on.wait()
        await reply.end()

    engine.script = script
    body = {"model": "vampire", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": "Bearer game-key"}
    async with rig.session.post(rig.url("/v1/chat/completions"), json=body, headers=headers) as answer:
        assert b"first" in await answer.content.readany()
        assert not go_on.is_set()
        go_on.set()
        assert b"[DONE]" in await answer.content.read()


async def test_chunks_cut_anywhere_by_the_network_come_out_the_same(rig: Rig, world: World, engine: Engine) -> None:
    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        stream = b"".join(
            chunk(b'data: {"choices":[{"delta":{"content":"w%d "}}]}\n\n' % number) for number in range(5)
        )
        stream += chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        for byte in stream:
            await reply.send(bytes((byte,)))
            await asyncio.sleep(0)

    engine.script = script
    assert (await rig.say(stream=True)).spoken == "w0 w1 w2 w3 w4 "


async def test_an_event_that_contains_the_bytes_of_an_end_does_not_end_the_stream(
    rig: Rig, world: World, engine: Engine
) -> None:
    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.send(chunk(b": comment\r\n0\r\n\r\n"))
        await eventually(lambda: rig.streaming > 0)
        await reply.event({"choices": [{"delta": {"content": "after"}}]})
        await reply.end()

    engine.script = script
    assert "after" in (await rig.say(stream=True)).text


async def test_a_refusal_of_the_engine_reaches_the_client_as_it_is(rig: Rig, world: World, engine: Engine) -> None:
    refusal = {"error": {"message": "max_tokens too large", "type": "BadRequestError", "param": None, "code": 400}}

    async def script(asked: Asked, reply: Reply) -> None:
        await reply.json(400, refusal)

    engine.script = script
    answer = await rig.say(max_tokens=10**9)
    assert answer.status == 400
    assert json.loads(answer.text) == refusal
    assert engine.chats == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_what_an_engine_says_before_its_answer_is_read_over(
    rig: Rig, world: World, engine: Engine, stream: bool
) -> None:
    async def early(asked: Asked, reply: Reply) -> None:
        await reply.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\nHT")
        await asyncio.sleep(0.01)
        await reply.send(b"TP/1.1 102 Processing\r\n\r\n")
        await engine.answer(asked, reply)

    engine.script = early
    for _ in range(2):
        answer = await rig.say(stream=stream)
        assert (answer.status, answer.spoken) == (200, "".join(f"{NAME} {number} " for number in range(3)))
        assert "link" not in answer.headers
    assert engine.connections == 1


async def test_engine_connections_are_reused(rig: Rig, world: World, engine: Engine) -> None:
    for _ in range(5):
        await rig.say(stream=True)
        await rig.say()
    assert engine.connections == 1
    assert engine.chats == 10


async def test_many_lines_at_once_are_spread_over_equal_pods(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.pause = second.pause = 0.02
    await rig.push(World(engines={"gold": [engine, second]}).table())
    answers = await asyncio.gather(*(rig.say(stream=True) for _ in range(40)))
    assert {answer.status for answer in answers} == {200}
    assert abs(engine.chats - second.chats) <= 2


async def test_a_busy_pod_gets_fewer_new_lines(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.pause, second.pause = 5.0, 0.2
    await rig.push(World(engines={"gold": [engine, second]}).table())
    slow = asyncio.gather(*(rig.say(stream=True) for _ in range(6)))
    await eventually(lambda: engine.running + second.running == 6)
    await eventually(lambda: second.running == 0)
    second.pause = 0.0
    for _ in range(6):
        await rig.say()
    assert engine.chats == 3
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_the_tier_comes_from_the_header_then_the_prefix_then_the_default(
    rig: Rig, engine: Engine, second: Engine
) -> None:
    world = World(
        engines={"gold": [engine], "bronze": [second]},
        aliases={("gold", "vampire"): [(OLD, 100)], ("bronze", "vampire"): [(OLD, 100)]},
        assignments={"crowd-": "bronze", "crowd-king-": "gold"},
    )
    await rig.push(world.table())

    async def tier(**how: str) -> str:
        return (await rig.say(**how)).headers["X-NPC-Served-Tier"]  # type: ignore[arg-type]

    assert await tier() == "gold"
    assert await tier(npc="crowd-7") == "bronze"
    assert await tier(npc="crowd-king-1") == "gold"
    assert await tier(npc="crowd-7", tier="gold") == "gold"
    assert (await rig.say(tier="iron")).error["code"] == "tier_not_found"
    assert (await rig.say("ghoul")).error["code"] == "model_not_found"


async def test_a_candidate_gets_its_share_and_an_npc_keeps_its_voice(rig: Rig, engine: Engine) -> None:
    engine.loaded.add(wire.served_name("vampire", NEW))
    world = World(engines={"gold": [engine]}, aliases={("gold", "vampire"): [(OLD, 75), (NEW, 25)]})
    await rig.push(world.table())
    voices = {f"npc-{number}": (await rig.say(npc=f"npc-{number}")).digest for number in range(120)}
    share = sum(digest == NEW for digest in voices.values())
    assert 12 <= share <= 48
    for npc, digest in list(voices.items())[:20]:
        assert (await rig.say(npc=npc)).digest == digest
    assert (await rig.say()).digest == OLD


async def test_models_lists_the_archetypes(rig: Rig, world: World) -> None:
    headers = {"Authorization": "Bearer game-key"}
    async with rig.session.get(rig.url("/v1/models"), headers=headers) as answer:
        assert answer.status == 200
        assert [model["id"] for model in (await answer.json())["data"]] == ["vampire"]
