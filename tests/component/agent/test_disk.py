"""The room on the agent's disk, and that nothing on it holds the loop up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from npc_runtime.agent.fetch.source import Listing, Piece, RemoteFile, Source
from npc_runtime.agent.fetch.uri import open_source
from npc_runtime.agent.settings import BaseLocation
from tests.component.agent.harness import Harness, make_settings, phase_of, running
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import HIDDEN, Raw, config_of, desired_of, make_adapter


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


async def test_an_order_is_taken_though_the_disk_does_not_take_it(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
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
