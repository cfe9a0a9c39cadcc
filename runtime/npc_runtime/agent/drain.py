"""Takes the pod out of traffic and waits until no line runs.

The engine's preStop hook connects to a Unix socket, sends a line and waits for the answer, which comes when the engine
has nothing left to do, at most after the drain time. The hook also runs when kubelet restarts an unhealthy engine; so a
drain is forgotten when a new engine process comes up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .engine import Engine
from .errors import AdapterError

SETTLE_SECONDS = 1.0
"""The least a drain takes: gateways that hear of it have requests on their way."""
LOOK_SECONDS = 0.25

log = logging.getLogger(__name__)


class Drain:
    """Whether this pod drains, and the wait for its lines. `changed` is called whenever `active` does."""

    def __init__(
        self, engine: Engine, *, seconds: float, engine_ready: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._engine_ready = engine_ready
        self._changed = changed
        self._since: float | None = None
        self._instance = ""

    @property
    def active(self) -> bool:
        """True while no new line may be taken."""
        return self._since is not None

    async def run(self, instance: str) -> bool:
        """Drains and returns True once no line runs, False when time is up. A second call joins the first one's
        deadline.
        """
        if self._since is None:
            self._since, self._instance = time.monotonic(), instance
            log.info("draining", extra={"seconds": self._seconds})
            self._changed()
        since = self._since
        calm = 0
        while calm < 2 or time.monotonic() < since + min(SETTLE_SECONDS, self._seconds):
            if not self._engine_ready():
                return True
            if time.monotonic() >= since + self._seconds:
                log.warning("drain time is up and lines still run")
                return False
            calm = calm + 1 if await self._idle() else 0
            await asyncio.sleep(LOOK_SECONDS)
        log.info("drained", extra={"seconds": round(time.monotonic() - since, 3)})
        return True

    def forget_for(self, instance: str) -> None:
        """Ends a drain that was meant for another engine process."""
        if self._since is not None and instance and instance != self._instance:
            self._since = None
            log.info("drain is forgotten: a new engine process is up", extra={"instance": instance})
            self._changed()

    async def _idle(self) -> bool:
        try:
            return (await self._engine.lines()).requests == 0
        except AdapterError:
            return False


class DrainSocket:
    """The Unix socket of the preStop hook."""

    def __init__(self, path: Path, drain: Callable[[], Awaitable[bool]]) -> None:
        self._path = path
        self._drain = drain
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens; replaces what an earlier process of this agent left. Raises OSError when the folder cannot be
        written.
        """
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, self._path)
        self._path.chmod(0o660)

    async def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readline()
            writer.write(b"idle\n" if await self._drain() else b"timeout\n")
            await writer.drain()
        writer.close()
