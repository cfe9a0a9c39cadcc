"""A keeper over an engine whose every call waits until a test lets it go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from npc_runtime.agent.acts import Acts
from npc_runtime.agent.cache import Bytes, Cache, Folder
from npc_runtime.agent.engine import Served
from npc_runtime.agent.errors import Reason, retryable
from npc_runtime.agent.facts import EngineFacts, Facts, Stage
from npc_runtime.agent.identity.logprobs import FirstToken
from npc_runtime.agent.keeper import Keeper
from npc_runtime.agent.memory import OrderMemory, Remembered
from npc_runtime.agent.metrics import Metrics
from npc_runtime.agent.plan import Refuse
from npc_runtime.agent.state import KeeperLimits
from npc_runtime.agent.view import adapter_reports
from npc_runtime.wire import AdapterReport, DesiredAdapter, DesiredSet, EngineState, Stamp, served_name


def voices(count: int) -> tuple[DesiredAdapter, ...]:
    """Adapters that differ in everything."""
    digests = [f"sha256:{number:064x}" for number in range(1, count + 1)]
    return tuple(
        DesiredAdapter(
            served_name=served_name(f"voice{number}", digest),
            archetype=f"voice{number}",
            digest=digest,
            uri=f"s3://b/{number}",
            rank=8,
        )
        for number, digest in enumerate(digests)
    )


class ScriptedActs:
    """Engine calls that wait while `held` names their stage, and fail where `faults` says so; the disk is at once."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.calls: list[tuple[Stage, str]] = []
        self.faults: dict[Stage, Exception] = {}
        self.held: set[Stage] = set()
        self.bytes = Bytes.AS_WANTED
        self.roots: dict[str, str] = {}  # by name
        self.first: dict[str, list[FirstToken | None]] = {"base": [{"a": -4.0, "c": -0.2}]}
        self.called: Callable[[], None] = lambda: None
        self._freed = asyncio.Event()

    @property
    def steps(self) -> list[tuple[Stage, str]]:
        """The calls without the looks at identities."""
        return [call for call in self.calls if call[0] is not Stage.IDENTITY]

    def let_go(self) -> None:
        """Nothing waits any more."""
        self.held.clear()
        self._freed.set()

    async def fetch(self, adapter: DesiredAdapter, **_: Any) -> None:
        self.calls.append((Stage.FETCH, adapter.served_name))
        raise retryable(Reason.SOURCE_UNAVAILABLE, "nothing is fetched here")

    async def load(self, adapter: DesiredAdapter) -> str:
        await self._call(Stage.LOAD, adapter.served_name)
        return self.roots.setdefault(adapter.served_name, self._cache.location(adapter.digest))

    async def probe(self, adapter: DesiredAdapter) -> None:
        await self._call(Stage.PROBE, adapter.served_name)

    async def unload(self, name: str) -> None:
        await self._call(Stage.UNLOAD, name)

    def location(self, digest: str) -> str:
        return self._cache.location(digest)

    async def bytes_of(self, digest: str) -> Bytes:
        return self.bytes

    async def served(self, name: str) -> Served:
        return Served(self.roots[name], "base")

    async def first_token(self, model: str, prompt: str, seconds: float) -> FirstToken | None:
        """What `first` says for the model, one after the other; the last for ever."""
        await self._call(Stage.IDENTITY, model)
        told = self.first.setdefault(model, [{"a": -0.1, "b": -3.0}])
        return told.pop(0) if len(told) > 1 else told[0]

    async def in_disk_thread(self, act: Callable[[], Any]) -> None:
        await asyncio.sleep(0)

    async def _call(self, stage: Stage, name: str) -> None:
        self.calls.append((stage, name))
        self.called()
        await asyncio.sleep(0)
        if stage in self.held:
            await self._freed.wait()
        if (fault := self.faults.get(stage)) is not None:
            raise fault


class Kept:
    """A keeper of adapters that are all on disk, its acts, and what it published last."""

    def __init__(
        self, folder: Path, on_disk: Sequence[DesiredAdapter], *, slots: int = 64, drain: float = 60.0
    ) -> None:
        cache = Cache(folder)
        self.location = cache.location
        self.acts = ScriptedActs(cache)
        self.published: tuple[AdapterReport, ...] = ()
        self._changed = asyncio.Event()
        self.acts.called = self._changed.set
        self.keeper = Keeper(
            acts=cast(Acts, self.acts),
            cache=cache,
            memory=OrderMemory(folder / "order.json"),
            metrics=Metrics(namespace="n", region="r", tier="t", pod="p"),
            limits=KeeperLimits(cache_size=10**9, max_rank=16, slots=slots, drain_seconds=drain),
            publish=self._publish,
        )
        folders = [Folder(one.digest, one.archetype, 10, 8, "", 0.0) for one in on_disk]
        self.keeper.resume(None, tuple(folders))

    def order(self, *adapters: DesiredAdapter) -> None:
        """What is wanted from now on."""
        stamp = Stamp(epoch=1, generation=self.keeper.stamp.generation + 1)
        self.keeper.resume(
            Remembered(DesiredSet(stamp=stamp, adapters=adapters), frozenset()), tuple(self._folders().values())
        )

    def comes_back(self, adapter: DesiredAdapter) -> None:
        """A folder that was gone is there again."""
        there = (*self._folders().values(), Folder(adapter.digest, adapter.archetype, 10, 8, "", 0.0))
        self.keeper.resume(None, there)
        self.order(*(self.keeper.facts().desired or ()))

    def engine(self, *held: DesiredAdapter, instance: str = "one", state: EngineState = EngineState.READY) -> None:
        """What the engine is seen to hold."""
        listed = {adapter.served_name: self.location(adapter.digest) for adapter in held}
        self.keeper.engine_changed(EngineFacts(state, instance, 1, listed if state is EngineState.READY else {}))

    def phases(self) -> dict[str, str]:
        """What was published last, by name."""
        return {report.served_name: report.phase.value for report in self.published}

    async def until(self, wanted: Callable[[], bool], *, seconds: float = 50.0) -> None:
        """Waits until it is so after some news or some call."""
        async with asyncio.timeout(seconds):
            while not wanted():
                self._changed.clear()
                await self._changed.wait()

    def _folders(self) -> dict[str, Folder]:
        return dict(self.keeper.facts().disk)

    def _publish(self, facts: Facts, refused: tuple[Refuse, ...]) -> None:
        self.published = adapter_reports(facts, refused)
        self._changed.set()


@contextlib.asynccontextmanager
async def running(keeper: Keeper) -> AsyncIterator[None]:
    """The loop runs meanwhile, and ends every step when it ends."""
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(0)  # it has begun: what never began ends nothing
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def turns(count: int = 20) -> None:
    """Lets everything that is ready run, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
