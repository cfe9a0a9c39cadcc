"""What runs beside the answers for ever: a fault in it is seen, and it goes on."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest

from npc_runtime import wire
from npc_runtime.gateway import persistence, routes, workers
from npc_runtime.gateway.access_log import AccessLog, Record
from npc_runtime.gateway.agents_watch import AgentsWatch
from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.http import limits
from npc_runtime.gateway.internal import InternalDir
from npc_runtime.gateway.table import compile_table
from npc_runtime.gateway.workers import Worker, WorkersPlane
from tests.component.gateway.agents import Agent
from tests.component.gateway.certificates import make_internal
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, completion, eventually, raw, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN, OLD

NAME = wire.served_name("vampire", OLD)
SEEN = "failed and is started again"


async def test_a_fault_while_an_agent_is_heard_is_seen_and_the_agent_is_heard_again(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    internal = make_internal(tmp_path / "internal")
    real, faults = AgentsWatch._ask, [RuntimeError("odd")]

    async def ask(self: AgentsWatch, *arguments: object) -> wire.Routable:
        if faults:
            raise faults.pop()
        return await real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AgentsWatch, "_ask", ask)
    async with Agent(internal) as agent, running(tmp_path, agent_port=agent.port) as rig:
        await rig.push(World(engines={"gold": [engine]}, agent_ca=(internal / "ca.crt").read_text()).table())
        await eventually(lambda: SEEN in caplog.text)
        assert "RuntimeError: odd" in caplog.text
        # The agent says that nothing is resident: it is heard.
        await eventually(lambda: rig.gateway.agents_in_contact == 1 and rig.usable("gold", NAME) == 0)


async def test_a_fault_in_the_sweep_is_seen_and_deadlines_hold_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.1)
    async with running(tmp_path) as rig:
        real, faults = rig.service.sweep, [RuntimeError("odd")]

        def sweep(now: float) -> None:
            if faults:
                raise faults.pop()
            real(now)

        monkeypatch.setattr(rig.service, "sweep", sweep)
        await eventually(lambda: SEEN in caplog.text)
        assert await raw(rig.port) == b""


async def test_one_connection_that_cannot_be_ended_properly_is_cut_off_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = set()

    def expire(self: ClientConnection) -> None:
        seen.add(self)
        raise RuntimeError("odd")

    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(ClientConnection, "expire", expire)
    async with running(tmp_path) as rig:
        opened = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(3)]
        await eventually(lambda: len(seen) == 3 and rig.service.connections == 0)
        for _, writer in opened:
            writer.transport.abort()
    assert "RuntimeError: odd" in caplog.text
    assert SEEN not in caplog.text


async def test_a_fault_while_the_internal_folder_is_followed_is_seen_and_tokens_still_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = InternalDir.refresh, [RuntimeError("odd")]

    def refresh(self: InternalDir) -> None:
        if faults:
            raise faults.pop()
        real(self)

    monkeypatch.setattr(InternalDir, "refresh", refresh)
    async with running(tmp_path) as rig:
        await eventually(lambda: SEEN in caplog.text)
        (rig.internal / "token").write_text("new-token")
        assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200
        await eventually(lambda: not rig.gateway._internal.allows(f"Bearer {ADMIN_TOKEN}"))


async def test_a_table_that_cannot_be_written_for_an_unknown_reason_is_told_and_the_next_is_written(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [RuntimeError("odd")]

    def save(folder: Path, table: wire.RouteTable) -> None:
        if faults:
            raise faults.pop()
        persistence.save_table(folder, table)

    monkeypatch.setattr(routes, "save_table", save)
    world = World(engines={"gold": [engine]})
    await rig.push(world.table())
    await rig.gateway.routes.saved()
    assert "RuntimeError: odd" in caplog.text
    await rig.push(world.table())
    await rig.gateway.routes.saved()
    assert (rig.internal.parent / "state" / "routes.json").exists()


def test_a_record_that_cannot_be_written_does_not_end_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    out = io.BytesIO()
    log = AccessLog(out)
    broken, good = Record("a"), Record("b")
    broken.npc = "\ud800"
    for record in (broken, good):
        log.add(record)
        log.flush()
    log.close()
    assert log.dropped == 1
    assert out.getvalue().count(b"\n") == 1
    assert "access log lines could not be written" in caplog.text


# --- worker processes


async def test_a_worker_that_cannot_be_started_is_seen_and_started_later(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = WorkersPlane._spawn, [OSError("no more processes")]

    async def spawn(self: WorkersPlane, index: int) -> Worker:
        if faults:
            raise faults.pop()
        return await real(self, index)

    monkeypatch.setattr(WorkersPlane, "_spawn", spawn)
    plane = WorkersPlane(workers=2, access_log=False, log_level="error")
    try:
        port = await asyncio.wait_for(plane.start("127.0.0.1", 0), 90)
        assert len(plane.pids) == 2
        await plane.apply_everywhere(compile_table(World(engines={"gold": [engine]}).table()))
        assert (await raw(port, closing(completion(stream=False)))).startswith(b"HTTP/1.1 200 ")
    finally:
        await plane.close()
    assert "OSError: no more processes" in caplog.text


async def test_a_worker_that_answers_nonsense_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plane = WorkersPlane(workers=1, access_log=False, log_level="error")
    try:
        await asyncio.wait_for(plane.start("127.0.0.1", 0), 90)
        (first,) = plane.pids
        plane._workers[0].tell(do="nonsense")
        await eventually(lambda: plane.pids != [first] and plane.pids != [], seconds=30)
        assert (await plane.counts()).connections == 0
    finally:
        await plane.close()
    assert "a worker ended and is started again" in caplog.text


async def test_the_plane_ends_although_a_worker_does_not_and_another_waits_to_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 0.2)
    plane = WorkersPlane(workers=1, access_log=False, log_level="error")
    await asyncio.wait_for(plane.start("127.0.0.1", 0), 90)
    os.kill(plane.pids[0], signal.SIGSTOP)
    waiting = asyncio.create_task(asyncio.sleep(3600))
    plane._keepers.append(waiting)
    await asyncio.wait_for(plane.close(), 30)
    assert waiting.cancelled()
    assert plane.pids == []


async def test_workers_that_drain_still_answer_and_are_not_ended_for_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prometheus goes on asking for metrics, and the operator may push, while the last lines run."""
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 4.0)
    engine.pause, engine.words = 0.5, 14
    plane = WorkersPlane(workers=1, access_log=False, log_level="error")
    world = World(engines={"gold": [engine]})
    try:
        port = await asyncio.wait_for(plane.start("127.0.0.1", 0), 90)
        await plane.apply_everywhere(compile_table(world.table()))
        line = asyncio.ensure_future(raw(port, completion(stream=True), seconds=30))
        await eventually(lambda: engine.running == 1)
        plane.leave()
        draining = asyncio.ensure_future(plane.drain(60))
        assert (await plane.counts()).connections == 1
        await plane.apply_everywhere(compile_table(world.table()))
        assert not draining.done()
        assert (await line).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert await draining == 0
    finally:
        await plane.close()
    assert "does not answer" not in caplog.text


def closing(request: bytes) -> bytes:
    return request.replace(b"Host: g\r\n", b"Host: g\r\nConnection: close\r\n")
