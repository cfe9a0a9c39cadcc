"""What a failing pod may and may not do to a line."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from npc_runtime import wire
from npc_runtime.gateway.pool import Pool
from npc_runtime.gateway.upstream import EngineConnection
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import ENGINE_KEY, NEW, OLD

NAME = wire.served_name("vampire", OLD)


async def drop(asked: Asked, reply: Reply) -> None:
    reply.reset()


async def drop_in_the_head(asked: Asked, reply: Reply) -> None:
    await reply.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    reply.reset()


async def drop_after_the_head(asked: Asked, reply: Reply) -> None:
    await reply.stream_head()
    reply.reset()


async def drop_in_the_first_chunk(asked: Asked, reply: Reply) -> None:
    await reply.stream_head()
    await reply.send(b"40\r\ndata: {")
    reply.reset()


async def half_an_answer(asked: Asked, reply: Reply) -> None:
    await reply.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"choices":')
    reply.reset()


async def draining_500(asked: Asked, reply: Reply) -> None:
    await reply.json(500, b"Internal Server Error", content_type="text/plain")


async def unloaded_404(asked: Asked, reply: Reply) -> None:
    await reply.json(404, {"error": {"message": "does not exist", "type": "NotFoundError", "code": 404}})


async def wrong_key_401(asked: Asked, reply: Reply) -> None:
    await reply.json(401, {"error": "Unauthorized"})


async def not_http(asked: Asked, reply: Reply) -> None:
    await reply.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def no_length(asked: Asked, reply: Reply) -> None:
    await reply.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")


async def broken_chunk(asked: Asked, reply: Reply) -> None:
    await reply.stream_head()
    await reply.send(b"zz\r\ndata: x\n\n\r\n")


async def ends_without_done(asked: Asked, reply: Reply) -> None:
    await reply.stream_head()
    await reply.send(b"0\r\n\r\n")


EARLY = [
    drop,
    drop_in_the_head,
    drop_after_the_head,
    drop_in_the_first_chunk,
    half_an_answer,
    draining_500,
    unloaded_404,
    wrong_key_401,
    not_http,
    no_length,
    broken_chunk,
    ends_without_done,
]


@pytest.mark.parametrize("fault", EARLY, ids=lambda fault: str(fault.__name__))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_pod_that_fails_before_the_first_byte_costs_no_line(
    rig: Rig, pair: World, engine: Engine, second: Engine, fault: object, stream: bool
) -> None:
    engine.script = fault  # type: ignore[assignment]
    for _ in range(4):
        answer = await rig.say(stream=stream)
        assert answer.status == 200
        assert answer.spoken == f"{NAME} 0 {NAME} 1 {NAME} 2 "
    assert engine.chats >= 1
    assert second.chats == 4


async def test_a_pod_that_is_gone_costs_no_line_and_is_not_asked_again_at_once(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    await engine.stop()
    answers = await asyncio.gather(*(rig.say(stream=True) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    for _ in range(40):
        assert (await rig.say()).status == 200
    text = await rig.metrics()
    retries = re.search(r'npc_gateway_retries_total\{archetype="vampire",tier="gold"\} ([0-9.]+)', text)
    assert retries is not None
    # Half of those sent together met it; of those after them, one a second looks whether it is back.
    assert float(retries[1]) <= 20


async def test_the_only_pod_is_tried_again_when_it_was_not_reached(
    rig: Rig, world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without a free core can let a connect wait longer than its limit; there is no other pod to go to."""
    real, failures = Pool.connect, [TimeoutError()]

    async def connect(pool: Pool) -> EngineConnection:
        if failures:
            raise failures.pop()
        return await real(pool)

    monkeypatch.setattr(Pool, "connect", connect)
    assert (await rig.say()).status == 200
    assert not failures


async def test_one_pod_that_closes_idle_connections_costs_no_line(rig: Rig, world: World, engine: Engine) -> None:
    async def answer_and_close(asked: Asked, reply: Reply) -> None:
        await engine.answer(asked, reply)
        reply.kept = False

    engine.script = answer_and_close
    for _ in range(40):
        assert (await rig.say()).status == 200


async def test_a_reused_connection_that_dies_unanswered_is_replaced_on_the_same_pod(
    rig: Rig, world: World, engine: Engine
) -> None:
    assert (await rig.say()).status == 200

    async def drop_once(asked: Asked, reply: Reply) -> None:
        engine.script = None
        reply.reset()

    engine.script = drop_once
    assert (await rig.say()).status == 200
    assert engine.connections == 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (drop, 502, "engine_unreachable"),
        (draining_500, 502, "engine_failed"),
        (unloaded_404, 503, "no_resident_pod"),
        (wrong_key_401, 502, "engine_failed"),
        (not_http, 502, "engine_unreachable"),
        (ends_without_done, 502, "engine_failed"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_when_every_pod_fails_the_client_is_told_plainly(
    rig: Rig, pair: World, engine: Engine, second: Engine, fault: object, status: int, code: str
) -> None:
    engine.script = second.script = fault  # type: ignore[assignment]
    answer = await rig.say(stream=True)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["Retry-After"] == "1"
    assert ENGINE_KEY not in answer.text


async def test_a_request_that_breaks_engines_is_not_sent_through_the_whole_fleet(rig: Rig) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(Engine(NAME)) for _ in range(5)]
        for each in engines:
            each.script = drop
        await rig.push(World(engines={"gold": engines}).table())
        assert (await rig.say()).status == 502
        assert sum(each.chats for each in engines) == 2


async def test_pods_that_cannot_be_reached_are_passed_over_up_to_the_third(rig: Rig, engine: Engine) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gone = [await stack.enter_async_context(Engine(NAME)) for _ in range(2)]
        await rig.push(World(engines={"gold": [*gone, engine]}).table())
        for each in gone:
            await each.stop()
        assert {(await rig.say()).status for _ in range(6)} == {200}


async def test_an_engines_own_error_is_passed_on_when_no_pod_answers(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    async def overloaded(asked: Asked, reply: Reply) -> None:
        await reply.json(503, {"error": {"message": "queue full", "type": "x", "param": None, "code": 503}})

    engine.script = second.script = overloaded
    answer = await rig.say()
    assert (answer.status, answer.error["message"]) == (503, "queue full")
    assert engine.chats == second.chats == 1


async def test_no_pod_with_the_adapter_resident_is_503(rig: Rig, engine: Engine) -> None:
    engine.loaded = {"other"}
    await rig.push(World(engines={"gold": [engine]}).table())
    answer = await rig.say()
    assert (answer.status, answer.error["code"]) == (503, "no_resident_pod")
    assert engine.chats == 0


async def test_a_candidate_without_a_pod_leaves_the_stable_voice(rig: Rig, engine: Engine) -> None:
    world = World(engines={"gold": [engine]}, aliases={("gold", "vampire"): [(OLD, 0), (NEW, 100)]})
    await rig.push(world.table())
    assert (await rig.say(npc="any")).digest == OLD


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_line_whose_pod_fails_after_the_voice_moved_is_answered_by_the_new_one(
    rig: Rig, engine: Engine, second: Engine, stream: bool
) -> None:
    moved = asyncio.Event()

    async def wait_and_drop(asked: Asked, reply: Reply) -> None:
        await moved.wait()
        reply.reset()

    engine.script = second.script = wait_and_drop
    engine.loaded = second.loaded = {NAME}
    world = World(engines={"gold": [engine, second]})
    await rig.push(world.table())
    line = asyncio.create_task(rig.say(stream=stream))
    await eventually(lambda: engine.chats + second.chats == 1)
    asked = engine if engine.chats else second
    other = second if asked is engine else engine
    other.script = None
    engine.loaded = second.loaded = {wire.served_name("vampire", NEW)}
    world.aliases = {("gold", "vampire"): [(NEW, 100)]}
    await rig.push(world.table())
    moved.set()
    answer = await line
    assert (answer.status, answer.digest) == (200, NEW)
    assert answer.spoken.startswith(wire.served_name("vampire", NEW))
    assert other.chats == 1


async def test_failed_attempts_and_reasons_are_counted(rig: Rig, pair: World, engine: Engine, second: Engine) -> None:
    engine.script = second.script = drop
    await rig.say()
    text = await rig.metrics()
    labels = 'archetype="vampire",reason="EngineUnreachable",tier="gold"'
    assert f"npc_gateway_errors_total{{{labels}}} 1.0" in text
    assert 'npc_gateway_retries_total{archetype="vampire",tier="gold"} 1.0' in text
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 0.0' in text
