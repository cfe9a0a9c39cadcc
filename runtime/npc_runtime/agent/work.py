"""Carries out single steps and writes down what came of them, with the room on disk that they need."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from ..wire import DesiredAdapter
from .acts import Acts
from .cache import Cache, Eviction, choose_evictions, previous_of, size_of
from .errors import Reason, retryable
from .facts import Progress, Proof, Stage
from .inspect.base import BaseModel
from .metrics import Metrics
from .state import State

log = logging.getLogger(__name__)


async def _nothing_more(adapter: DesiredAdapter, instance: str) -> None:
    """No other condition of a proof than its probe."""


class Work:
    """The steps of the keeper's loop. `base_model` and `context` are set before the first inspection is planned;
    `before_proof` is awaited between an adapter's answer and its residency on an engine process.
    """

    def __init__(
        self,
        *,
        state: State,
        acts: Acts,
        cache: Cache,
        metrics: Metrics,
        cache_size: int,
        changed: Callable[[], None],
    ) -> None:
        self._state = state
        self._acts = acts
        self._cache = cache
        self._metrics = metrics
        self._cache_size = cache_size
        self._changed = changed
        self.base_model: BaseModel | None = None
        self.context = ""
        self.before_proof: Callable[[DesiredAdapter, str], Awaitable[None]] = _nothing_more

    async def do(
        self, stage: Stage, name: str, adapter: DesiredAdapter | None, instance: str, cancelled: threading.Event
    ) -> None:
        """One step; raises AdapterError when it fails. A fetch ends early once `cancelled` is set."""
        match stage, adapter:
            case Stage.UNLOAD, _:
                await self._unload(name)
            case Stage.FETCH, DesiredAdapter():
                await self._fetch(name, adapter, cancelled)
            case Stage.INSPECT, DesiredAdapter():
                await self._inspect(adapter)
            case Stage.LOAD, DesiredAdapter():
                self._state.loaded(name, await self._acts.load(adapter), instance)
            case Stage.PROBE, DesiredAdapter():
                await self._acts.probe(adapter)
                await self.before_proof(adapter, instance)
                self._state.proven(name, Proof(instance, time.time_ns() // 1_000_000))
                self._metrics.proof(adapter.archetype)
                log.info(
                    "adapter is proven", extra={"served_name": name, "digest": adapter.digest, "instance": instance}
                )
            case _:
                raise AssertionError(f"{stage} needs a desired adapter")

    async def _fetch(self, name: str, adapter: DesiredAdapter, cancelled: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        progress = self._state.progress

        def note(done: int, total: int) -> None:
            progress[name] = Progress(done, total)

        def reserve(size: int) -> None:
            asyncio.run_coroutine_threadsafe(self._make_room(adapter.digest, size), loop).result()

        try:
            staged = await self._acts.fetch(adapter, reserve=reserve, progress=note, cancelled=cancelled)
        except BaseException:
            self._state.reserved.pop(adapter.digest, None)
            raise
        self._metrics.fetched(adapter.uri, staged.received)
        self._state.staged[adapter.digest] = staged

    async def _inspect(self, adapter: DesiredAdapter) -> None:
        staged = self._state.staged[adapter.digest]
        await self._make_room(adapter.digest, staged.size)
        try:
            folder = await self._acts.inspect(adapter, staged, base=self.base_model, context=self.context)
            self._state.folders[adapter.digest] = folder
        finally:
            self._state.staged.pop(adapter.digest, None)
            self._state.reserved.pop(adapter.digest, None)
        self._metrics.inspected(staged.size)

    async def _unload(self, name: str) -> None:
        path = self._state.engine.listed.get(name, "")
        await self._acts.unload(name)
        self._state.unloaded(name)
        digest = f"sha256:{path.removeprefix(self._cache.owned)}"
        if (folder := self._state.folders.get(digest)) is not None:
            used = replace(folder, last_used=time.time())
            self._state.folders[digest] = used
            await self._acts.in_disk_thread(partial(self._cache.remember, used))
        log.info("adapter is unloaded", extra={"served_name": name})

    async def _make_room(self, digest: str, needed: int) -> None:
        """Reserves bytes for one digest, at the cost of folders nobody needs; raises AdapterError(CacheFull)."""
        state = self._state
        state.reserved[digest] = needed
        while not (room := self._find_room()).enough or room.digests:
            if not room.enough:
                del state.reserved[digest]
                limit = self._cache_size
                raise retryable(
                    Reason.CACHE_FULL,
                    f"no room for {needed} bytes: the cache of {limit} bytes is full of what is in use",
                )
            # One at a time: while a folder is removed another may become needed, or go for somebody else's sake.
            await self.remove(room.digests[0])
            log.info("folder is evicted", extra={"digest": room.digests[0]})

    def _find_room(self) -> Eviction:
        """What would have to go, as things are now, for everything that is reserved."""
        state = self._state
        folders, needed = tuple(state.folders.values()), sum(state.reserved.values())
        if size_of(folders) + needed <= self._cache_size:
            return Eviction((), enough=True)
        listed = set(state.engine.listed.values())
        pinned = {adapter.digest for adapter in state.desired or ()} | set(state.busy_digests.values())
        pinned |= {folder.digest for folder in folders if self._cache.location(folder.digest) in listed}
        return choose_evictions(
            folders,
            needed=needed,
            limit=self._cache_size,
            pinned=pinned,
            previous=previous_of(folders, pinned=pinned),
        )

    async def remove(self, digest: str) -> None:
        """Drops a folder if it is there; nothing else may begin with its digest meanwhile."""
        if self._state.folders.pop(digest, None) is None:
            return
        key = f"removal of {digest}"
        self._state.busy_digests[key] = digest
        try:
            await self._acts.in_disk_thread(partial(self._cache.remove, digest))
        finally:
            del self._state.busy_digests[key]
            self._changed()
