"""The gateway as a pod runs it: its command line, its signals, and one or several event loops."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from npc_runtime import wire
from npc_runtime.gateway.app import Gateway
from npc_runtime.gateway.persistence import save_table
from tests.component.gateway.agents import Agent
from tests.component.gateway.certificates import make_internal
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Answer, Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import NEW, OLD

pytestmark = pytest.mark.timeout(240)


@dataclass
class Started:
    """What a test needs of `Gateway` when it runs in another process."""

    process: asyncio.subprocess.Process
    ports: dict[str, int] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@contextlib.asynccontextmanager
async def started(tmp_path: Path, *arguments: str) -> AsyncIterator[tuple[Rig, Started]]:
    """A gateway process that listens, with a rig that talks to it."""
    if not (tmp_path / "internal").exists():
        make_internal(tmp_path / "internal")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "npc_runtime.gateway", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        *("--health-port", "0", "--internal-dir", str(tmp_path / "internal"), "--state-dir", str(tmp_path / "state")),
        *("--routes-file", str(tmp_path / "routes.json"), "--shutdown-delay-seconds", "0.2", "--drain-seconds", "60"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    gateway = Started(process)
    assert process.stderr is not None
    assert process.stdout is not None
    listening = asyncio.Event()

    async def read_log() -> None:
        async for line in cast("asyncio.StreamReader", process.stderr):
            gateway.log.append(json.loads(line))
            gateway.ports = gateway.log[-1].get("ports", gateway.ports)
            if gateway.ports:
                listening.set()
        listening.set()

    reading = asyncio.ensure_future(read_log())
    printing = asyncio.ensure_future(process.stdout.read())
    out = io.BytesIO()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        try:
            await listening.wait()
            assert gateway.ports, gateway.log
            yield Rig(cast("Gateway", gateway), session, out, tmp_path / "internal"), gateway
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading
            out.write(await printing)


async def end(gateway: Started) -> int:
    gateway.process.send_signal(signal.SIGTERM)
    return await asyncio.wait_for(gateway.process.wait(), 60)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_serves_from_disk_logs_every_line_and_ends_with_0(
    tmp_path: Path, engine: Engine, workers: str
) -> None:
    (tmp_path / "state").mkdir()
    save_table(tmp_path / "state", World(engines={"gold": [engine]}).table())
    async with started(tmp_path, "--workers", workers) as (rig, gateway):
        answers = await asyncio.gather(*(rig.say(stream=number % 2 == 0) for number in range(60)))
        assert {answer.status for answer in answers} == {200}
        assert await rig.ready() == (200, "ok\n")
        assert await end(gateway) == 0
    assert [line["status"] for line in rig.access_lines()] == [200] * 60
    assert not [entry for entry in gateway.log if entry["level"] == "error"]


async def test_a_push_is_in_force_everywhere_when_it_is_acknowledged(tmp_path: Path, engine: Engine) -> None:
    old, new = wire.served_name("vampire", OLD), wire.served_name("vampire", NEW)
    engine.loaded = {old, new}
    async with started(tmp_path, "--workers", "2") as (rig, _):
        world = World(engines={"gold": [engine]})
        for digest in (OLD, NEW, OLD, NEW):
            world.aliases = {("gold", "vampire"): [(digest, 100)]}
            await rig.push(world.table())
            # A connection each, so that every event loop is met.
            answers = await asyncio.gather(*(say_anew(rig) for _ in range(24)))
            assert {answer.digest for answer in answers} == {digest}


async def say_anew(rig: Rig) -> Answer:
    async with aiohttp.ClientSession() as session:
        return await Rig(rig.gateway, session, rig.log, rig.internal).say()


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_connections_are_spread_over_the_event_loops(tmp_path: Path, engine: Engine) -> None:
    async with started(tmp_path, "--workers", "2") as (rig, gateway):
        await rig.push(World(engines={"gold": [engine]}).table())
        before = {pid: open_files(pid) for pid in gateway.children()}
        open_ones = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(64)]

        def added() -> list[int]:
            return [open_files(pid) - count for pid, count in before.items()]

        await eventually(lambda: sum(added()) >= len(open_ones))
        assert len(before) == 2
        assert min(added()) > 8, "the kernel spreads connections over everybody who listens"
        for _, writer in open_ones:
            writer.close()


async def test_counts_are_added_up_over_event_loops(tmp_path: Path, engine: Engine) -> None:
    async with started(tmp_path, "--workers", "2") as (rig, _):
        await rig.push(World(engines={"gold": [engine]}).table())
        await asyncio.gather(*(say_anew(rig) for _ in range(30)))
        text = await rig.metrics()
        assert 'npc_gateway_requests_total{archetype="vampire",code="200",tier="gold"} 30.0' in text
        assert 'npc_gateway_request_duration_seconds_count{archetype="vampire",tier="gold"} 30.0' in text


async def test_a_withdrawal_reaches_every_event_loop(tmp_path: Path, engine: Engine) -> None:
    internal = make_internal(tmp_path / "internal")
    name = wire.served_name("vampire", OLD)
    async with (
        Agent(internal, name) as agent,
        started(tmp_path, "--workers", "2", "--agent-port", str(agent.port)) as (rig, _),
    ):
        await rig.push(World(engines={"gold": [engine]}, agent_ca=(internal / "ca.crt").read_text()).table())
        await asyncio.wait_for(agent.polled.wait(), 60)
        agent.say(accepting=False)
        async with asyncio.timeout(30):
            while {answer.status for answer in await asyncio.gather(*(say_anew(rig) for _ in range(12)))} != {503}:
                pass


async def test_a_worker_that_dies_is_replaced_with_all_it_must_know(tmp_path: Path, engine: Engine) -> None:
    async with started(tmp_path, "--workers", "2") as (rig, gateway):
        world = World(engines={"gold": [engine]})
        await rig.push(world.table())
        victims = gateway.children()
        assert len(victims) == 2
        os.kill(victims[0], signal.SIGKILL)
        await eventually(lambda: len(gateway.children()) == 2 and victims[0] not in gateway.children(), seconds=60)
        await eventually(lambda: any("started again" in entry["message"] for entry in gateway.log))
        # The pushed table reached the new worker before its first line.
        answers = await asyncio.gather(*(say_anew(rig) for _ in range(40)))
        assert {answer.status for answer in answers} == {200}
        await rig.push(world.table())
        assert await end(gateway) == 0


async def test_workers_end_when_the_main_process_is_gone(tmp_path: Path, engine: Engine) -> None:
    async with started(tmp_path, "--workers", "2") as (_, gateway):
        orphans = gateway.children()
        gateway.process.kill()
        await gateway.process.wait()
        await eventually(lambda: not any(is_alive(pid) for pid in orphans), seconds=60)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between opening and reading
        return False
    return state != "Z"


async def test_on_sigterm_a_running_line_is_finished(tmp_path: Path, engine: Engine) -> None:
    engine.pause = 0.3
    async with started(tmp_path, "--workers", "2") as (rig, gateway):
        await rig.push(World(engines={"gold": [engine]}).table())
        line = asyncio.ensure_future(rig.say(stream=True))
        await eventually(lambda: engine.running == 1)
        status = asyncio.ensure_future(end(gateway))
        assert (await line).status == 200
        assert await status == 0


async def run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "npc_runtime.gateway", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_help_names_every_flag() -> None:
    status, text = await run("--help")
    assert status == 0
    for flag in ("--internal-dir", "--routes-file", "--state-dir", "--drain-seconds", "--no-access-log", "--workers"):
        assert flag in text


@pytest.mark.parametrize("arguments", [("--port", "99999"), ("--workers", "0"), ("--nonsense",)])
async def test_wrong_settings_end_with_2(arguments: tuple[str, ...]) -> None:
    status, text = await run(*arguments)
    assert status == 2
    assert "usage: npc-gateway" in text


async def test_a_missing_internal_folder_ends_with_2_and_is_named(tmp_path: Path) -> None:
    status, text = await run("--internal-dir", str(tmp_path / "nowhere"), "--state-dir", str(tmp_path))
    assert status == 2
    assert "nowhere" in text


async def test_a_port_in_use_ends_with_1_and_says_so(tmp_path: Path, engine: Engine) -> None:
    internal = make_internal(tmp_path / "internal")
    status, text = await run(
        *("--host", "127.0.0.1", "--port", str(engine.port), "--internal-dir", str(internal)),
        *("--state-dir", str(tmp_path), "--admin-port", "0", "--health-port", "0"),
    )
    assert status == 1
    assert "in use" in text
