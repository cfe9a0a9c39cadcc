"""How an adapter leaves the engine, and a pod its routes: no running line is cut short by either."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from npc_runtime.agent import plan
from npc_runtime.agent.app import LINES_SECONDS
from npc_runtime.agent.drain import LOOK_SECONDS, SETTLE_SECONDS
from npc_runtime.wire import PRE_STOP_SCRIPT, EngineState
from tests.component.agent.harness import Harness, make_settings, phase_of, running
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import desired_of, make_adapter


async def pre_stop(socket: Path, seconds: int = 60) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PRE_STOP_SCRIPT, str(socket), str(seconds))


async def test_what_is_no_longer_wanted_leaves_the_routes_at_once_and_the_engine_when_quiet(
    agent: Harness, engine: FakeEngine, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grace = 3 * plan.DRAIN_GRACE_SECONDS  # a host that stands still for a moment is not late
    monkeypatch.setattr(plan, "DRAIN_GRACE_SECONDS", grace)
    old = desired_of(make_adapter(world / "source" / "old", seed=1))
    new = desired_of(make_adapter(world / "source" / "new", seed=2))
    await agent.prove(old)
    await agent.push(old, new)
    await agent.until_phase(new.served_name, "Resident")
    loop = asyncio.get_running_loop()
    line = await agent.hang(engine, old.served_name)
    before = await agent.routable()
    begun = loop.time()
    await agent.push(new)
    boot = (await agent.status()).boot_id
    routable = await agent.routable(after=before.revision, boot=boot, wait=50)
    assert routable.resident == (new.served_name,)
    assert loop.time() - begun < grace, "before the engine may let go of it"
    report = await agent.status()
    assert phase_of(report, old.served_name) == "Draining"
    assert report.slots_used == 2
    # Beyond the grace: the running line alone must hold the unload.
    await agent.looks(engine, int(grace / LINES_SECONDS) + 3)
    assert loop.time() - begun > grace
    assert old.served_name in engine.names()
    engine.behave(hang_requests=False)
    assert await line == 200
    report = await agent.until(lambda r: phase_of(r, old.served_name) == "absent")
    assert engine.names() == [new.served_name]
    assert report.slots_used == 1
    # The folder stays: it is the way back.
    assert len([path for path in (world / "cache").iterdir() if path.name.startswith("sha256-")]) == 2
    begun = loop.time()
    await agent.push(old, new)
    await agent.until_phase(old.served_name, "Resident")
    print(f"way back {loop.time() - begun:.3f} s")


async def test_a_line_that_never_ends_delays_the_unload_by_the_drain_time_only(world: Path, engine: FakeEngine) -> None:
    async with running(make_settings(world, engine.url, drain_seconds=3.0)) as agent:
        old = desired_of(make_adapter(world / "source" / "old"))
        await agent.prove(old)
        line = await agent.hang(engine, old.served_name)
        await agent.push()
        await agent.until(lambda r: phase_of(r, old.served_name) == "absent")
        assert engine.names() == []
        line.cancel()


async def test_the_hook_takes_the_pod_off_the_routes_and_returns_when_no_line_runs(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
    line = await agent.hang(engine, vampire.served_name)
    hook = await pre_stop(agent.settings.socket)
    report = await agent.until(lambda r: r.draining)
    assert not report.ready
    assert not (await agent.routable()).accepting
    assert (await agent.health("/readyz"))[0] == 503
    # Beyond the least a drain takes: only the running line holds it now.
    await agent.looks(engine, int(SETTLE_SECONDS / LOOK_SECONDS) + 3)
    assert hook.returncode is None
    engine.behave(hang_requests=False)
    assert await line == 200
    assert await asyncio.wait_for(hook.wait(), 30) == 0


async def test_the_hook_returns_when_time_is_up(world: Path, engine: FakeEngine) -> None:
    async with running(make_settings(world, engine.url, drain_seconds=1.0)) as agent:
        vampire = desired_of(make_adapter(world / "source" / "v"))
        await agent.prove(vampire)
        line = await agent.hang(engine, vampire.served_name)
        hook = await pre_stop(agent.settings.socket, 1)
        assert await asyncio.wait_for(hook.wait(), 30) == 0
        line.cancel()


async def test_without_an_agent_the_hook_waits_for_the_routes_and_succeeds(tmp_path: Path) -> None:
    begun = asyncio.get_running_loop().time()
    hook = await pre_stop(tmp_path / "nobody.sock")
    assert await asyncio.wait_for(hook.wait(), 30) == 0
    assert asyncio.get_running_loop().time() - begun > 2


async def test_the_hook_asks_again_when_the_agent_goes_away_while_it_drains(tmp_path: Path) -> None:
    """An agent that was killed says nothing about running lines; the one that follows it does."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readline()
        asked += 1
        if asked > 1:
            writer.write(b"idle\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "agent.sock"):
        hook = await pre_stop(tmp_path / "agent.sock")
        assert await asyncio.wait_for(hook.wait(), 30) == 0
    assert asked == 2


async def test_a_drain_is_forgotten_when_kubelet_restarts_the_engine(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
    hook = await pre_stop(agent.settings.socket)
    await agent.until(lambda r: r.draining)
    assert await asyncio.wait_for(hook.wait(), 30) == 0
    await engine.stop()
    await agent.until(lambda r: r.engine.state is EngineState.DOWN)
    await engine.start()
    report = await agent.until(lambda r: r.ready and phase_of(r, vampire.served_name) == "Resident")
    assert not report.draining
    assert (await agent.routable()).accepting
