"""Draining, restarts of the agent itself, and the room on its disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from npc_runtime.agent.drain import SETTLE_SECONDS
from npc_runtime.agent.fetch.source import Listing, Piece, RemoteFile, Source, open_source
from npc_runtime.agent.plan import DRAIN_GRACE_SECONDS
from npc_runtime.agent.settings import BaseLocation
from npc_runtime.wire import PRE_STOP_SCRIPT, EngineState, Stamp
from tests.component.agent.harness import ENGINE_KEY, Harness, make_settings, phase_of, running
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import HIDDEN, Raw, config_of, desired_of, make_adapter


async def ask(agent: Harness, engine: FakeEngine, model: str) -> int:
    async with agent.session.post(
        f"{engine.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
        headers={"Authorization": f"Bearer {ENGINE_KEY}"},
    ) as answer:
        await answer.read()
        return answer.status


async def pre_stop(socket: Path, seconds: int = 5) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PRE_STOP_SCRIPT, str(socket), str(seconds))


async def test_what_is_no_longer_wanted_leaves_the_routes_at_once_and_the_engine_when_quiet(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    old = desired_of(make_adapter(world / "source" / "old", seed=1))
    new = desired_of(make_adapter(world / "source" / "new", seed=2))
    await agent.push(old)
    await agent.until_phase(old.served_name, "Resident")
    await agent.push(old, new)
    await agent.until_phase(new.served_name, "Resident")
    loop = asyncio.get_running_loop()
    engine.behave(hang_requests=True)
    line = asyncio.create_task(ask(agent, engine, old.served_name))
    await engine.until_running(1)
    before = await agent.routable()
    begun = loop.time()
    await agent.push(new)
    boot = (await agent.status()).boot_id
    routable = await agent.routable(after=before.revision, boot=boot, wait=5)
    assert routable.resident == (new.served_name,)
    assert loop.time() - begun < 0.5
    report = await agent.status()
    assert phase_of(report, old.served_name) == "Draining"
    assert report.slots_used == 2
    await asyncio.sleep(DRAIN_GRACE_SECONDS + 1)  # beyond the grace: the running line alone must hold the unload
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
        await agent.push(old)
        await agent.until_phase(old.served_name, "Resident")
        engine.behave(hang_requests=True)
        line = asyncio.create_task(ask(agent, engine, old.served_name))
        await engine.until_running(1)
        await agent.push()
        await agent.until(lambda r: phase_of(r, old.served_name) == "absent", seconds=6)
        assert engine.names() == []
        line.cancel()


async def test_the_hook_takes_the_pod_off_the_routes_and_returns_when_no_line_runs(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    await agent.until_phase(vampire.served_name, "Resident")
    engine.behave(hang_requests=True)
    line = asyncio.create_task(ask(agent, engine, vampire.served_name))
    await engine.until_running(1)
    hook = await pre_stop(agent.settings.socket)
    report = await agent.until(lambda r: r.draining)
    assert not report.ready
    assert not (await agent.routable()).accepting
    assert (await agent.health("/readyz"))[0] == 503
    await asyncio.sleep(SETTLE_SECONDS + 1)  # beyond the least a drain takes: only the running line holds it now
    assert hook.returncode is None
    engine.behave(hang_requests=False)
    assert await line == 200
    assert await asyncio.wait_for(hook.wait(), 5) == 0


async def test_the_hook_returns_when_time_is_up(world: Path, engine: FakeEngine) -> None:
    async with running(make_settings(world, engine.url, drain_seconds=1.0)) as agent:
        vampire = desired_of(make_adapter(world / "source" / "v"))
        await agent.push(vampire)
        await agent.until_phase(vampire.served_name, "Resident")
        engine.behave(hang_requests=True)
        line = asyncio.create_task(ask(agent, engine, vampire.served_name))
        await engine.until_running(1)
        hook = await pre_stop(agent.settings.socket, 1)
        assert await asyncio.wait_for(hook.wait(), 4) == 0
        line.cancel()


async def test_without_an_agent_the_hook_waits_for_the_routes_and_succeeds(tmp_path: Path) -> None:
    hook = await pre_stop(tmp_path / "nobody.sock")
    begun = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(hook.wait(), 10) == 0
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
        assert await asyncio.wait_for(hook.wait(), 10) == 0
    assert asked == 2


async def test_a_drain_is_forgotten_when_kubelet_restarts_the_engine(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    await agent.until_phase(vampire.served_name, "Resident")
    hook = await pre_stop(agent.settings.socket)
    await agent.until(lambda r: r.draining)
    assert await asyncio.wait_for(hook.wait(), 5) == 0
    await engine.stop()
    await agent.until(lambda r: r.engine.state is EngineState.DOWN)
    await engine.start()
    report = await agent.until(lambda r: r.ready and phase_of(r, vampire.served_name) == "Resident")
    assert not report.draining
    assert (await agent.routable()).accepting


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
    paths = [call.path for call in engine.calls[calls:]]
    assert "/v1/load_lora_adapter" not in paths
    assert "/v1/unload_lora_adapter" not in paths
    assert paths.count("/v1/chat/completions") == 1


async def test_a_restarted_agent_with_nothing_to_remember_unloads_nothing(world: Path, engine: FakeEngine) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(make_settings(world, engine.url)) as agent:
        await agent.push(vampire)
        await agent.until_phase(vampire.served_name, "Resident")
    (world / "cache" / ".order.json").unlink()
    async with running(make_settings(world, engine.url)) as agent:
        await agent.until(lambda r: r.engine.state is EngineState.READY)
        await asyncio.sleep(DRAIN_GRACE_SECONDS + 0.7)  # longer than a drain would take
        assert engine.names() == [vampire.served_name]
        await agent.push(vampire)
        await agent.until_phase(vampire.served_name, "Resident")


async def test_the_cache_makes_room_by_the_least_recently_used_and_never_by_what_is_in_use(
    world: Path, engine: FakeEngine
) -> None:
    sources = [make_adapter(world / "source" / f"{n}", seed=10 * n) for n in range(4)]
    size = sum(path.stat().st_size for path in sources[0].iterdir())
    settings = replace(make_settings(world, engine.url), cache_size=int(size * 2.5), max_adapter_size=int(size * 2.5))
    adapters = [desired_of(path, f"npc{n}") for n, path in enumerate(sources)]

    def on_disk() -> set[str]:
        return {path.name for path in (world / "cache").iterdir() if path.name.startswith("sha256-")}

    def folder(number: int) -> str:
        return adapters[number].digest.replace(":", "-")

    async with running(settings) as agent:
        for number in (0, 1):
            await agent.push(adapters[number])
            await agent.until(lambda r: [a.phase for a in r.adapters] == ["Resident"])
        assert on_disk() == {folder(0), folder(1)}
        await agent.until(lambda r: r.slots_used == 1)
        await agent.push(adapters[2])  # npc1 is still listed, so only npc0's folder may go
        await agent.until_phase(adapters[2].served_name, "Resident")
        assert on_disk() == {folder(1), folder(2)}
        await agent.until(lambda r: r.slots_used == 1)
        await agent.push(adapters[2], adapters[3])
        await agent.until_phase(adapters[3].served_name, "Resident")
        assert on_disk() == {folder(2), folder(3)}
        await agent.push(adapters[2], adapters[3], adapters[0])
        full = await agent.until_phase(adapters[0].served_name, "Retrying")
        assert full.reason == "CacheFull"
        report = await agent.status()
        assert report.cache_bytes <= report.cache_limit_bytes
        assert phase_of(report, adapters[2].served_name) == phase_of(report, adapters[3].served_name) == "Resident"


async def test_sigterm_ends_the_process_quickly_when_the_engine_is_gone(world: Path, engine: FakeEngine) -> None:
    settings = make_settings(world, engine.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "npc_runtime.agent", "serve",
        f"--engine-url={engine.url}", f"--engine-key-file={world / 'engine-key'}",
        f"--internal-dir={settings.internal_dir}",
        f"--adapters-dir={settings.adapters_dir}", f"--socket={settings.socket}", "--max-loras=1", "--max-cpu-loras=2",
        "--max-lora-rank=16", "--namespace=n", "--region=r", "--tier=t", "--pod=p", "--port=0", "--health-port=0",
        "--drain-seconds=30",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while json.loads(await process.stderr.readline())["message"] != "engine is ready":
            continue
    await engine.stop()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    os.kill(process.pid, signal.SIGTERM)
    rest = await asyncio.wait_for(process.stderr.read(), 5)
    assert await process.wait() == 0
    assert loop.time() - begun < 3
    assert b"Traceback" not in rest


async def test_an_unusable_internal_folder_is_named_at_start(world: Path) -> None:
    (world / "internal" / "token").unlink()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "npc_runtime.agent", "serve", "--engine-url=http://127.0.0.1:1",
        f"--internal-dir={world / 'internal'}", f"--adapters-dir={world / 'cache'}", "--max-loras=1",
        "--max-cpu-loras=2", "--max-lora-rank=16", "--namespace=n", "--region=r", "--tier=t", "--pod=p",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"token" in errors


async def test_an_order_is_taken_though_the_disk_does_not_take_it(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    await agent.until_phase(vampire.served_name, "Resident")
    (world / "cache" / ".order.new").mkdir()  # where the next order would be written
    assert (await agent.push())[0] == 200
    await agent.until(lambda r: phase_of(r, vampire.served_name) == "absent")
    assert engine.names() == []


async def test_the_loop_runs_on_while_a_large_adapter_is_copied_hashed_and_scanned(
    world: Path, engine: FakeEngine
) -> None:
    rank, rows = 16, 1 << 20
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    big = {
        f"{name}.lora_A.weight": Raw("F32", (rank, HIDDEN), bytes(4 * rank * HIDDEN)),
        f"{name}.lora_B.weight": Raw("F32", (rows, rank), bytes(4 * rows * rank)),
    }
    vampire = desired_of(make_adapter(world / "source" / "v", config=config_of(rank=rank), tensors=big))
    loop = asyncio.get_running_loop()
    worst, ticks = 0.0, 0

    async def tick() -> None:
        nonlocal worst, ticks
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            worst, ticks = max(worst, loop.time() - due), ticks + 1

    async with running(make_settings(world, engine.url, base=BaseLocation())) as agent:
        ticking = asyncio.create_task(tick())
        begun = loop.time()
        await agent.push(vampire)
        resident = await agent.until_phase(vampire.served_name, "Resident")
        spent = loop.time() - begun
        ticking.cancel()
    assert "without the base model" in resident.message
    print(f"64 MiB proven in {spent:.3f} s, loop at most {worst:.3f} s late, {ticks} ticks")
    assert ticks > spent / 0.1


async def test_progress_is_told_about_once_a_second(
    world: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_adapter(world / "source" / "v")

    class Slow:
        """The folder's bytes, a hundred at a time."""

        def __init__(self, inner: Source) -> None:
            self._inner = inner

        def listing(self) -> Listing:
            return self._inner.listing()

        @contextlib.contextmanager
        def read(self, file: RemoteFile, offset: int) -> Iterator[Piece]:
            with self._inner.read(file, offset) as piece:
                yield Piece(piece.offset, self._slowly(b"".join(piece.chunks)))

        def close(self) -> None:
            self._inner.close()

        def _slowly(self, data: bytes) -> Iterator[bytes]:
            for begin in range(0, len(data), 100):
                time.sleep(0.02)
                yield data[begin : begin + 100]

    monkeypatch.setattr("npc_runtime.agent.acts.open_source", lambda *a, **k: Slow(open_source(*a, **k)))
    vampire = desired_of(source)
    seen: set[int] = set()
    async with running(make_settings(world, engine.url)) as agent:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await agent.push(vampire)
        report = await agent.status()
        while phase_of(report, vampire.served_name) != "Resident":
            seen |= {adapter.done_bytes for adapter in report.adapters}
            await agent.status(after=report.revision, boot=report.boot_id, wait=5)
            report = await agent.status()
        assert report.adapters[0].total_bytes == sum(path.stat().st_size for path in source.iterdir())
        assert 2 <= len(seen) <= loop.time() - begun + 2
