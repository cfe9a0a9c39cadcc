"""The things the agent does for one adapter: fetch, inspect, load, probe, unload. Each either succeeds or raises
AdapterError; none decides what comes next.

Whatever reads or writes bytes runs in worker threads of its own pools, so that slow sources cannot hold up inspections,
and the event loop does neither.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..wire import DesiredAdapter
from .cache import Bytes, Cache, Folder
from .engine import Engine, Served
from .errors import Reason, retryable
from .facts import Stage
from .fetch.download import Downloaded, StoppedError, download_adapter, mapped_disk_error
from .fetch.uri import Expected, open_source
from .identity.logprobs import FirstToken
from .inspect.adapter import Limits, inspect_adapter
from .inspect.base import BaseModel
from .plan import BOUNDS
from .probe import check_answer, check_patterns

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """What may be fetched: sizes in bytes."""

    file_roots: Sequence[Path]
    max_adapter_size: int


class Acts:
    """Carries out single steps. `close` ends running fetches at their next chunk."""

    def __init__(self, *, cache: Cache, engine: Engine, sources: Sources, limits: Limits) -> None:
        self._cache = cache
        self._engine = engine
        self._sources = sources
        self._limits = limits
        self._stopping = threading.Event()
        self._fetchers = ThreadPoolExecutor(BOUNDS[Stage.FETCH], thread_name_prefix="fetch")
        self._inspectors = ThreadPoolExecutor(BOUNDS[Stage.INSPECT], thread_name_prefix="inspect")
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="identity")  # no inspection waits for a long read

    async def fetch(
        self,
        adapter: DesiredAdapter,
        *,
        reserve: Callable[[int], None],
        progress: Callable[[int, int], None],
        cancelled: threading.Event,
    ) -> Downloaded:
        """Brings the adapter's bytes into staging and checks its digest; `reserve` is called in the thread once the
        size is known.
        """
        credentials = {key: value.get_secret_value() for key, value in adapter.credentials.items()}
        return await self._in(
            self._fetchers,
            lambda: self._fetch(
                adapter, credentials, reserve, progress, lambda: self._stopping.is_set() or cancelled.is_set()
            ),
        )

    async def inspect(
        self, adapter: DesiredAdapter, staged: Downloaded, *, base: BaseModel | None, context: str
    ) -> Folder:
        """Inspects what lies in staging and makes it the digest's folder; a folder that fails is removed."""
        return await self._in(self._inspectors, lambda: self._inspect(adapter, staged, base, context))

    async def load(self, adapter: DesiredAdapter) -> str:
        """Loads the digest's folder under the served name; returns the path the engine has for that name now."""
        return await self._engine.load(adapter.served_name, self._cache.path(adapter.digest))

    async def probe(self, adapter: DesiredAdapter) -> None:
        """Proves by inference that the engine answers under the served name, and as the probe wants."""
        check_patterns(adapter.probe)
        check_answer(adapter.probe, await self._engine.ask(adapter.served_name, adapter.probe))

    async def unload(self, name: str) -> None:
        """Takes a served name off the engine; its folder stays."""
        await self._engine.unload(name)

    def location(self, digest: str) -> str:
        """The path an engine is given for this digest."""
        return self._cache.location(digest)

    async def bytes_of(self, digest: str) -> Bytes:
        """What lies in the digest's folder now, every byte of it read."""
        try:
            return await self._in(self._readers, lambda: self._cache.bytes_of(digest))
        except OSError as error:
            raise mapped_disk_error(error) from None

    async def served(self, name: str) -> Served:
        """What the engine says of a served name now."""
        return await self._engine.served(name)

    async def first_token(self, model: str, prompt: str, seconds: float) -> FirstToken | None:
        """What a model would say first; None when this engine does not tell."""
        return await self._engine.first_token(model, prompt, seconds)

    async def in_disk_thread(self, work: Callable[[], T]) -> T:
        """Runs something short that blocks on the disk."""
        return await self._in(self._inspectors, work)

    def close(self) -> None:
        """Stops fetches and waits for the threads; what was fetched stays for the next start."""
        self._stopping.set()
        self._fetchers.shutdown(wait=True, cancel_futures=True)
        self._inspectors.shutdown(wait=True, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=True)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _fetch(
        self,
        adapter: DesiredAdapter,
        credentials: Mapping[str, str],
        reserve: Callable[[int], None],
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
    ) -> Downloaded:
        source = open_source(
            adapter.uri, credentials=credentials, file_roots=self._sources.file_roots, expected=Expected(adapter.digest)
        )
        try:
            return download_adapter(
                source,
                self._cache.staging(adapter.digest),
                digest=adapter.digest,
                size_limit=self._sources.max_adapter_size,
                reserve=reserve,
                progress=progress,
                stopped=stopped,
            )
        except StoppedError:
            raise retryable(Reason.SOURCE_UNAVAILABLE, "the fetch was stopped") from None
        finally:
            source.close()

    def _inspect(self, adapter: DesiredAdapter, staged: Downloaded, base: BaseModel | None, context: str) -> Folder:
        try:
            found = inspect_adapter(staged.folder, limits=self._limits, base=base, stopped=self._stopping.is_set)
            folder = Folder(
                digest=adapter.digest,
                archetype=adapter.archetype,
                size=staged.size,
                max_rank=found.max_rank,
                context=context,
                last_used=time.time(),
                note=found.note,
            )
            if self._stopping.is_set():
                raise retryable(Reason.SOURCE_UNAVAILABLE, "the inspection was stopped")
            self._cache.commit(staged.folder, folder)
        except OSError as error:
            raise mapped_disk_error(error) from None
        except BaseException:
            if not self._stopping.is_set():
                shutil.rmtree(self._cache.staging(adapter.digest), ignore_errors=True)
            raise
        return folder
