"""Notices what happens to the engine's process.

A TCP connection to the engine is held and nothing is sent on it: when the process dies, however it dies, the kernel
closes it, and that is known in milliseconds without asking anything. Beside it /health and the list of adapters are
asked once a second, twenty times a second while the engine is not ready, so that adapters are loaded the moment it
answers. An engine process is identified by its start time where it tells one, else by the connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..wire import EngineState
from .engine import Engine
from .errors import AdapterError
from .facts import EngineFacts

READY_INTERVAL = 1.0
"""Seconds between looks at a ready engine: bounds how long an adapter unloaded behind our back goes unnoticed."""
STARTING_INTERVAL = 0.05
"""Seconds between looks at an engine that is not ready; a refused connection on loopback costs microseconds."""
_SILENT_LIMIT = 3
"""Unanswered health checks of 5 s each before an engine that still holds its connection is called down."""
_CONNECT_TIMEOUT = 2.0

log = logging.getLogger(__name__)


class EngineWatch:
    """Follows one engine and calls `changed` with new facts; `listing_mark` tells whether the list may be stale (a load
    or unload ran meanwhile).
    """

    def __init__(
        self,
        engine: Engine,
        url: str,
        *,
        progress_file: Path | None,
        changed: Callable[[EngineFacts], None],
        listing_mark: Callable[[], int],
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._engine = engine
        self._progress_file = progress_file
        self._changed = changed
        self._listing_mark = listing_mark
        self._facts = EngineFacts(since_ms=_now_ms())
        self._silent = 0
        self.looked = asyncio.Event()
        """Set once a look has told whether there is an engine."""

    def begin(self) -> None:
        """Says what is known before the first look: that the base model is still on its way, if it is."""
        self._lost("the engine was not looked for yet")
        self.looked.clear()

    async def run(self) -> None:
        """Follows the engine until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    reader, writer = await asyncio.open_connection(self._host, self._port)
            except (OSError, TimeoutError):
                self._lost("nothing listens on the engine's port")
                await asyncio.sleep(STARTING_INTERVAL)
                continue
            try:
                await self._follow(reader)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        """Looks at the engine for as long as the connection holds."""
        connection = uuid.uuid4().hex[:16]
        known = False
        broken = asyncio.create_task(_until_closed(reader))
        try:
            while not broken.done():
                known = await self._look(connection, known=known)
                interval = READY_INTERVAL if self._facts.ready else STARTING_INTERVAL
                await asyncio.wait({broken}, timeout=interval)
        finally:
            broken.cancel()
            await asyncio.wait({broken})  # never `await broken`: a cancellation of this task must not be taken for its

    async def _look(self, connection: str, *, known: bool) -> bool:
        """One look; returns whether the process behind this connection has been identified."""
        try:
            healthy = await self._engine.healthy()
            self._silent = 0
        except TimeoutError:
            self._silent += 1
            if self._silent >= _SILENT_LIMIT:
                self._lost("the engine does not answer /health")
            return known
        if not healthy:
            self._lost("the engine is not healthy")
            return False
        try:
            mark = self._listing_mark()
            started, listed = await asyncio.gather(self._started(known=known), self._engine.listed())
            instance = started or connection
        except AdapterError as error:
            log.warning(
                "engine is healthy but cannot be asked", extra={"reason": error.reason, "detail": error.message}
            )
            if self._facts.ready:
                return known
            self._lost(error.message)
            return False
        if self._listing_mark() == mark or not self._facts.ready or instance != self._facts.instance:
            self._found(instance, listed)
        return True

    async def _started(self, *, known: bool) -> str:
        return self._facts.instance if known else await self._engine.started()

    def _found(self, instance: str, listed: Mapping[str, str]) -> None:
        now = _now_ms()
        if not self._facts.ready or self._facts.instance != instance:
            log.info("engine is ready", extra={"instance": instance, "adapters": len(listed)})
            self._facts = EngineFacts(EngineState.READY, instance, now, listed)
        else:
            self._facts = replace(self._facts, listed=listed)
        self._changed(self._facts)
        self.looked.set()

    def _lost(self, message: str) -> None:
        progress = self._model_progress()
        fetching = progress.get("state") in {"waiting", "fetching", "failed"}
        was_up = self._facts.state in {EngineState.READY, EngineState.DOWN}
        state = EngineState.DOWN if was_up else EngineState.FETCHING_MODEL if fetching else EngineState.STARTING
        if self._facts.ready:
            log.warning("engine is down", extra={"instance": self._facts.instance, "detail": message})
        since = self._facts.since_ms if state is self._facts.state else _now_ms()
        facts = EngineFacts(
            state=state,
            instance=self._facts.instance,
            since_ms=since,
            message=str(progress.get("message", "")) if fetching else message,
            done_bytes=int(progress.get("doneBytes", 0)) if fetching else 0,
            total_bytes=int(progress.get("totalBytes", 0)) if fetching else 0,
        )
        if facts != self._facts:
            self._facts = facts
            self._changed(facts)
        self.looked.set()

    def _model_progress(self) -> Mapping[str, Any]:
        """What the model's init container tells; before its first word it is waited for."""
        if self._progress_file is None:
            return {}
        try:
            parsed = json.loads(self._progress_file.read_text())
        except (OSError, ValueError):
            return {"state": "waiting", "message": "the container that fetches the base model has not begun"}
        return parsed if isinstance(parsed, dict) else {}


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(256):
            pass


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
