from __future__ import annotations

import asyncio
from pathlib import Path

from npc_runtime.agent.base_model import BaseFinder, snapshot_of
from npc_runtime.agent.facts import Base
from npc_runtime.agent.settings import BaseLocation
from tests.unit.agent.makers import make_base


def cached(home: Path, model: str, commit: str, *, ref: str = "") -> Path:
    repository = home / "hub" / f"models--{model.replace('/', '--')}"
    if ref:
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / ref).write_text(commit)
    return make_base(repository / "snapshots" / commit)


def test_a_snapshot_is_found_by_branch_and_by_commit(tmp_path: Path) -> None:
    folder = cached(tmp_path, "org/tiny", "c0ffee", ref="main")
    assert snapshot_of(tmp_path, "org/tiny", "main") == folder
    assert snapshot_of(tmp_path, "org/tiny", "c0ffee") == folder
    assert snapshot_of(tmp_path, "org/tiny", "other") is None
    assert snapshot_of(tmp_path, "org/else", "main") is None


async def found(location: BaseLocation, *, ready: bool, progress: Path | None = None) -> Base:
    finder = BaseFinder(location, progress_file=progress, engine_ready=lambda: ready)
    return (await asyncio.wait_for(finder.find(), 30))[0]


async def is_waited_for(location: BaseLocation, *, progress: Path | None = None) -> bool:
    """Whether the finder has not made up its mind after several looks, with the engine not ready."""
    finder = BaseFinder(location, progress_file=progress, engine_ready=lambda: False)
    try:
        await asyncio.wait_for(finder.find(), 0.6)
    except TimeoutError:
        return True
    return False


async def test_a_model_of_the_engine_is_looked_for_only_once_it_is_complete(tmp_path: Path) -> None:
    cached(tmp_path, "org/tiny", "c0ffee", ref="main")
    location = BaseLocation(hf_home=tmp_path, hf_model="org/tiny")
    assert await is_waited_for(location)
    assert await found(location, ready=True) is Base.KNOWN


async def test_a_model_that_cannot_be_seen_is_not_waited_for_once_the_engine_is_up(tmp_path: Path) -> None:
    for location in (BaseLocation(), BaseLocation(hf_home=tmp_path, hf_model="org/tiny"), BaseLocation(tmp_path / "m")):
        assert await is_waited_for(location)
        assert await found(location, ready=True) is Base.UNSEEN


async def test_a_fetched_model_is_read_when_its_download_is_done(tmp_path: Path) -> None:
    location = BaseLocation(make_base(tmp_path / "m"))
    progress = tmp_path / "progress.json"
    assert await is_waited_for(location, progress=progress)
    progress.write_text('{"state": "fetching"}')
    assert await is_waited_for(location, progress=progress)
    progress.write_text('{"state": "done"}')
    assert await found(location, ready=False, progress=progress) is Base.KNOWN


async def test_a_model_without_safetensors_is_told_from_one_on_its_way(tmp_path: Path) -> None:
    (make_base(tmp_path / "m") / "model.safetensors").unlink()
    assert await found(BaseLocation(tmp_path / "m"), ready=False) is Base.UNSEEN
