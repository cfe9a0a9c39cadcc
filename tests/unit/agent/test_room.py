"""Two adapters that need room at once take it from folders nobody needs, one folder each at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from npc_runtime.agent.acts import Acts
from npc_runtime.agent.cache import Cache, Folder
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.metrics import Metrics
from npc_runtime.agent.state import State
from npc_runtime.agent.work import Work


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


class SlowDisk:
    """Acts whose every removal waits until it is let go."""

    def __init__(self) -> None:
        self.removed = 0
        self.free = asyncio.Event()
        self.begun = asyncio.Event()

    async def in_disk_thread(self, act: Callable[[], None]) -> None:
        self.begun.set()
        await self.free.wait()
        self.removed += 1


def work(folder: Path, state: State, disk: SlowDisk, *, size: int) -> Work:
    return Work(
        state=state,
        acts=cast(Acts, disk),
        cache=Cache(folder),
        metrics=cast(Metrics, None),
        cache_size=size,
        changed=lambda: None,
    )


def held(*letters: str) -> State:
    folders = [Folder(digest(letter), letter, 10, 8, "", float(at)) for at, letter in enumerate(letters)]
    return State(folders={folder.digest: folder for folder in folders})


async def make_room(worker: Any, letter: str) -> None:
    await worker._make_room(digest(letter), 10)


async def test_two_that_need_room_at_once_never_remove_the_same_folder(tmp_path: Path) -> None:
    disk, state = SlowDisk(), held("x", "y")
    worker = work(tmp_path, state, disk, size=20)
    both = [asyncio.create_task(make_room(worker, letter)) for letter in "ab"]
    await disk.begun.wait()
    disk.free.set()
    await asyncio.gather(*both)
    assert disk.removed == 2
    assert state.folders == {}


async def test_a_folder_that_becomes_needed_while_another_goes_stays(tmp_path: Path) -> None:
    disk, state = SlowDisk(), held("x", "y")
    worker = work(tmp_path, state, disk, size=20)
    state.reserved[digest("b")] = 10
    waiting = asyncio.create_task(make_room(worker, "a"))
    await disk.begun.wait()
    state.busy_digests["y--load"] = digest("y")
    disk.free.set()
    with pytest.raises(AdapterError) as refused:
        await waiting
    assert refused.value.reason == Reason.CACHE_FULL
    assert set(state.folders) == {digest("y")}


async def test_removing_what_is_gone_already_is_no_fault(tmp_path: Path) -> None:
    disk = SlowDisk()
    disk.free.set()
    worker = work(tmp_path, held("x"), disk, size=20)
    await worker.remove(digest("x"))
    await worker.remove(digest("x"))
    assert disk.removed == 1
