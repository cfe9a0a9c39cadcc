"""Connections to engines that go wrong in ways that no engine tells: nobody waits for them to the end of the day."""

from __future__ import annotations

import asyncio
import socket

import pytest

from npc_runtime.gateway import pool
from npc_runtime.gateway.http import limits
from npc_runtime.gateway.pool import Pool
from npc_runtime.gateway.upstream import EngineConnection
from tests.component.gateway.engines import Asked, Engine, Reply, Script
from tests.component.gateway.harness import Rig, completion, eventually, raw
from tests.component.gateway.regions import World


async def test_a_host_that_vanished_is_noticed_by_the_kernel(rig: Rig, world: World) -> None:
    """Neither FIN nor RST comes from a node that lost its power: without these a line would wait for the request
    timeout."""
    assert (await rig.say()).status == 200
    (endpoint,) = rig.service.fleet.endpoints
    connection = endpoint.pool.take_idle()
    assert connection is not None
    transport = connection._transport
    assert transport is not None
    end: socket.socket = transport.get_extra_info("socket")
    assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    silence = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + end.getsockopt(
        socket.IPPROTO_TCP, socket.TCP_KEEPINTVL
    ) * end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    assert silence <= 2 * limits.ENGINE_SILENT_SECONDS
    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == limits.ENGINE_SILENT_SECONDS * 1000
    endpoint.pool.put_back(connection)


async def test_a_host_that_vanished_costs_no_line_that_begins_on_a_connection_of_before(
    rig: Rig, pair: World, engine: Engine, second: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing closes the connections that were idle as it went: a line asked on one of them would hear nothing for
    ENGINE_SILENT_SECONDS."""
    all_here = asyncio.Event()

    def together(one: Engine) -> Script:
        async def answer(asked: Asked, reply: Reply) -> None:
            if engine.running + second.running == 8:
                all_here.set()
            await all_here.wait()
            await one.answer(asked, reply)

        return answer

    engine.script, second.script = together(engine), together(second)
    await asyncio.gather(*(rig.say() for _ in range(8)))
    assert engine.connections > 1
    engine.script = second.script = None
    asked = engine.chats
    monkeypatch.setattr(pool, "CONNECT_SECONDS", limits.CONNECT_SECONDS)
    engine.vanish()
    answers = await asyncio.wait_for(asyncio.gather(*(rig.say() for _ in range(8))), 15)
    assert [answer.status for answer in answers] == [200] * 8
    assert engine.chats == asked


@pytest.mark.parametrize("error", [UnicodeError("label empty"), ValueError("no such thing"), RuntimeError("odd")])
async def test_a_connect_that_fails_in_an_unknown_way_is_a_failed_attempt_and_is_logged(
    rig: Rig,
    pair: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    real, failures = Pool.connect, [error]

    async def connect(pool: Pool) -> EngineConnection:
        if failures:
            raise failures.pop()
        return await real(pool)

    monkeypatch.setattr(Pool, "connect", connect)
    answer = await asyncio.wait_for(rig.say(), 30)
    assert answer.status == 200
    assert type(error).__name__ in caplog.text
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_an_address_that_no_resolver_takes_is_502_at_once(rig: Rig, engine: Engine) -> None:
    await rig.push(World(engines={"gold": [engine]}, addresses={engine.port: "a..b"}).table())
    assert (await asyncio.wait_for(rig.say(), 30)).status == 502


async def test_a_connection_that_the_engine_closed_while_idle_is_never_asked(
    rig: Rig, world: World, engine: Engine
) -> None:
    """Every idle connection is closed at once, as when an engine's keep-alive time passes: not one line is lost."""
    all_here = asyncio.Event()

    async def answer_together(asked: Asked, reply: Reply) -> None:
        if engine.running == 8:
            all_here.set()
        await all_here.wait()
        await engine.answer(asked, reply)

    engine.script = answer_together
    await asyncio.gather(*(rig.say() for _ in range(8)))
    engine.script = None
    assert engine.connections == 8
    engine.hang_up()
    answers = await asyncio.gather(*(rig.say() for _ in range(8)))
    assert [answer.status for answer in answers] == [200] * 8


async def test_a_fault_in_the_middle_of_an_answer_does_not_leave_the_client_waiting(
    rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.limits = {"request_timeout_seconds": 1}
    await rig.push(world.table())

    def broken(self: object, *_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("npc_runtime.gateway.exchange.Exchange._pass_on", broken)
    with caplog.at_level("CRITICAL", "asyncio"):
        assert (await asyncio.wait_for(rig.say(), 30)).status == 504
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_an_exchange_that_cannot_end_is_cut_off_at_its_deadline(
    rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.limits = {"request_timeout_seconds": 1}
    await rig.push(world.table())

    def deaf(self: object, *_: object) -> None:
        """Neither an answer nor the deadline ends it."""

    monkeypatch.setattr("npc_runtime.gateway.exchange.Exchange.on_answer", deaf)
    monkeypatch.setattr("npc_runtime.gateway.exchange.Exchange.time_out", deaf)
    assert await raw(rig.port, completion(stream=False), seconds=30) == b""
    await eventually(lambda: rig.service.connections == 0)


async def test_a_client_that_leaves_while_the_engine_is_being_connected_asks_nothing(
    rig: Rig, world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, connecting, go_on = Pool.connect, asyncio.Event(), asyncio.Event()

    async def connect(pool: Pool) -> EngineConnection:
        connecting.set()
        await go_on.wait()
        return await real(pool)

    monkeypatch.setattr(Pool, "connect", connect)
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(completion(stream=True))
    await asyncio.wait_for(connecting.wait(), 30)
    writer.close()
    await eventually(lambda: rig.service.connections == 0)
    go_on.set()
    await eventually(lambda: engine.connections == 1)
    assert (await rig.say()).status == 200
    assert (engine.chats, engine.connections) == (1, 1)


async def test_an_engine_that_speaks_unasked_is_not_believed(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    async def answer_and_more(asked: Asked, reply: Reply) -> None:
        await engine.answer(asked, reply)
        await reply.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    engine.script = answer_and_more
    answers = [(await rig.say()).spoken for _ in range(6)]
    assert len(set(answers)) == 1
    assert engine.chats > 0
