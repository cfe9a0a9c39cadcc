"""Clients that leave, do not read, or wait too long: the engine is freed and memory does not grow."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.http import limits
from tests.component.gateway.engines import Asked, Engine, Reply, chunk
from tests.component.gateway.harness import Rig, completion, eventually, raw
from tests.component.gateway.regions import World


async def test_an_answer_that_takes_too_long_is_504_and_frees_the_engine(
    rig: Rig, world: World, engine: Engine
) -> None:
    world.limits = {"request_timeout_seconds": 1}
    await rig.push(world.table())
    engine.pause = 30
    answer = await rig.say()
    assert (answer.status, answer.error["code"]) == (504, "timeout")
    await asyncio.wait_for(engine.aborted.wait(), 30)


async def test_a_stream_that_takes_too_long_ends_with_an_error_event(rig: Rig, world: World, engine: Engine) -> None:
    world.limits = {"request_timeout_seconds": 1}
    await rig.push(world.table())

    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "begun"}}]})
        await reply.silence()

    engine.script = script
    got = await raw(rig.port, completion(stream=True))
    assert b'"code":"timeout"' in got
    assert not got.endswith(b"0\r\n\r\n")
    await asyncio.wait_for(engine.aborted.wait(), 30)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_frees_the_engine_within_a_second(
    rig: Rig, world: World, engine: Engine, stream: bool
) -> None:
    engine.pause, engine.words = 0.2, 100
    took = []
    for _ in range(3):
        engine.aborted.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(completion(stream=stream))
        await eventually(lambda: engine.running == 1)
        writer.close()
        took.append(await eventually(engine.aborted.is_set, seconds=15))  # less than the whole answer takes
    assert max(took) < 1.0
    await eventually(lambda: rig.service.busy == 0)
    assert 'code="499"' in await rig.metrics()


async def test_a_client_that_does_not_read_fills_no_memory_and_frees_the_engine_within_a_second(
    rig: Rig, world: World, engine: Engine
) -> None:
    sent = 0

    async def flood(asked: Asked, reply: Reply) -> None:
        nonlocal sent
        await reply.stream_head()
        for _ in range(4000):
            await reply.send(chunk(b"data: " + b"x" * 16000 + b"\n\n"))
            sent += 16000
        await reply.end()

    engine.script = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1 << 14)
    writer.write(completion(stream=True))
    await eventually(lambda: bool(rig.service._connections))
    (connection,) = rig.service._connections
    assert isinstance(connection, ClientConnection)
    await eventually(lambda: connection._write_paused)
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() < 1 << 20
    await eventually(lambda: engine.running == 0, seconds=1.2)
    assert sent < 40_000_000
    assert all(endpoint.in_flight == 0 and not endpoint.failures for endpoint in rig.service.fleet.endpoints)
    await eventually(lambda: rig.service.busy == 0)
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(1 << 16):
            got = got[-100:] + data
    assert not got.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in got
    writer.close()
    await eventually(lambda: bool(rig.access_lines()))
    (logged,) = rig.access_lines()
    assert (logged["status"], logged["reason"]) == (499, "ClientGone")


async def test_a_client_that_reads_slowly_but_steadily_gets_all_of_it(
    rig: Rig, world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes longer than that for all of it, and never so long for a part; while this process stands still, the client
    # does, too, and such a while is none of its time.
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 3.0)
    paused = asyncio.Event()
    began = last = asyncio.get_running_loop().time()
    real, stood = rig.service.sweep, 0.0

    def sweep(now: float) -> None:
        nonlocal last, stood
        if now - last > 0.5:  # twice as long as from one to the next
            stood += now - last
        last = now
        real(now - stood)

    monkeypatch.setattr(rig.service, "sweep", sweep)

    async def flood(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        for _ in range(400):
            await reply.event({"choices": [{"delta": {"content": "x" * 65536}}]})
            if reply.unsent:
                paused.set()
        await reply.end()

    engine.script = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1 << 16)
    writer.write(completion(stream=True))
    await asyncio.wait_for(paused.wait(), 60)
    got = 0
    while data := await reader.read(1 << 17):
        got += len(data)
        if data.endswith(b"0\r\n\r\n"):
            break
        await asyncio.sleep(0.03)
    writer.close()
    assert got > 400 * 65536
    assert asyncio.get_running_loop().time() - began > limits.UNREAD_SECONDS
