"""The agent's own process: what it remembers, how it ends, what it needs to start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
from pathlib import Path

import pytest

from npc_runtime.agent import plan
from npc_runtime.agent.drain import LOOK_SECONDS, SETTLE_SECONDS
from npc_runtime.wire import EngineState, Stamp
from tests.component.agent.harness import make_settings, phase_of, running
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import desired_of, make_adapter


async def test_a_restarted_agent_leaves_the_engine_alone_and_proves_again_what_it_lists(
    world: Path, engine: FakeEngine
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(make_settings(world, engine.url)) as agent:
        await agent.push(vampire, stamp=Stamp(epoch=2, generation=5))
        await agent.until_phase(vampire.served_name, "Resident")
    (world / "source" / "v" / "adapter_config.json").unlink()  # nothing may be fetched again
    calls = len(engine.calls)
    async with running(make_settings(world, engine.url)) as agent:
        report = await agent.until(lambda r: phase_of(r, vampire.served_name) == "Resident")
        assert report.stamp == Stamp(epoch=2, generation=5)
        assert report.ready
    paths = [call.path for call in engine.calls[calls:] if not call.logprobs]
    assert "/v1/load_lora_adapter" not in paths
    assert "/v1/unload_lora_adapter" not in paths
    assert paths.count("/v1/chat/completions") == 1


async def test_a_restarted_agent_with_nothing_to_remember_unloads_nothing(
    world: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "DRAIN_GRACE_SECONDS", 0.0)
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(make_settings(world, engine.url)) as agent:
        await agent.prove(vampire)
    (world / "cache" / ".order.json").unlink()
    async with running(make_settings(world, engine.url)) as agent:
        await agent.until(lambda r: r.engine.state is EngineState.READY)
        await agent.looks(engine, 3, "/v1/models")  # without a grace a drain would be over after the first
        assert engine.names() == [vampire.served_name]
        await agent.prove(vampire)


async def test_an_agent_that_is_asked_to_drain_before_its_first_look_waits_for_lines_that_began_before_it(
    world: Path, engine: FakeEngine
) -> None:
    settings = make_settings(world, engine.url)
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(settings) as killed:
        await killed.prove(vampire)
        line = await killed.hang(engine, vampire.served_name)
        killed.task.cancel()
        await asyncio.wait({killed.task})
        async with running(settings) as agent:
            reader, writer = await asyncio.open_unix_connection(settings.socket)
            writer.write(b"drain\n")
            said = asyncio.create_task(reader.readline())
            await agent.looks(engine, int(SETTLE_SECONDS / LOOK_SECONDS) + 3)
            assert (await agent.status()).draining
            assert not said.done()
            engine.behave(hang_requests=False)
            assert await line == 200
            assert await asyncio.wait_for(said, 30) == b"idle\n"
            assert (await agent.status()).draining
            writer.close()


async def test_sigterm_ends_the_process_quickly_when_the_engine_is_gone(world: Path, engine: FakeEngine) -> None:
    # A machine that stands still for a moment does so once, not twice.
    assert statistics.median([await seconds_to_end_without_engine(world, engine) for _ in range(3)]) < 3


async def seconds_to_end_without_engine(world: Path, engine: FakeEngine) -> float:
    """How long the agent's process takes to end well on SIGTERM after its engine has gone; the engine is back then."""
    settings = make_settings(world, engine.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "npc_runtime.agent", "serve",
        f"--engine-url={engine.url}", f"--engine-key-file={world / 'engine-key'}",
        f"--internal-dir={settings.internal_dir}",
        f"--adapters-dir={settings.adapters_dir}", f"--socket={settings.socket}", "--max-cpu-loras=2",
        "--max-lora-rank=16", "--namespace=n", "--region=r", "--tier=t", "--pod=p", "--port=0", "--health-port=0",
        "--drain-seconds=30",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while json.loads(await process.stderr.readline())["message"] != "engine is ready":
            continue
    await engine.stop()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    os.kill(process.pid, signal.SIGTERM)
    rest = await asyncio.wait_for(process.stderr.read(), 60)
    assert await process.wait() == 0
    took = loop.time() - begun
    assert b"Traceback" not in rest
    await engine.start()
    return took


async def test_an_unusable_internal_folder_is_named_at_start(world: Path) -> None:
    (world / "internal" / "token").unlink()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "npc_runtime.agent", "serve", "--engine-url=http://127.0.0.1:1",
        f"--internal-dir={world / 'internal'}", f"--adapters-dir={world / 'cache'}",
        "--max-cpu-loras=2", "--max-lora-rank=16", "--namespace=n", "--region=r", "--tier=t", "--pod=p",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"token" in errors
