"""The composition of one agent: what exists, who hears of what, and in which order it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
from aiohttp import web

from ..wire import EngineReport
from . import lag
from .acts import Acts, Sources
from .base_model import BaseFinder
from .cache import Cache
from .credentials import Credentials
from .drain import Drain, DrainSocket
from .engine import Engine, Keys
from .errors import AdapterError
from .facts import EngineFacts, Facts
from .inspect.adapter import Limits
from .keeper import Keeper
from .memory import OrderMemory
from .metadata import MetadataWatch
from .metrics import Metrics
from .plan import Refuse
from .report import Board, Content
from .server import Api, health_application
from .settings import Settings
from .state import KeeperLimits
from .view import adapter_reports, resident_names, settled, slots_used
from .watch import EngineWatch

LINES_SECONDS = 0.5
"""Between looks at the running lines while an adapter drains."""
FIRST_LOOK_SECONDS = 10.0
"""The engine's hook waits so long for the agent's first look; a busy engine takes up to 5 s to answer it."""

log = logging.getLogger(__name__)


class Agent:
    """One agent. `run` serves until it is told to stop; `port` and `health_port` are the real ones once it listens."""

    def __init__(self, settings: Settings, credentials: Credentials, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._credentials = credentials
        self.port = self.health_port = 0
        self.listening = asyncio.Event()
        self._stop = asyncio.Event()
        self._first_ready_at: float | None = None
        self._first_set_done = False
        self._board = Board()
        self._metrics = Metrics(
            namespace=settings.namespace, region=settings.region, tier=settings.tier, pod=settings.pod
        )
        self._engine = Engine(session, settings.engine_url, Keys(settings.engine_key_files))
        self._cache = Cache(settings.adapters_dir)
        self._memory = OrderMemory(settings.adapters_dir / ".order.json")
        self._acts = Acts(
            cache=self._cache,
            engine=self._engine,
            sources=Sources(settings.file_roots, settings.max_adapter_size),
            limits=Limits(settings.max_lora_rank),
        )
        self._keeper = Keeper(
            acts=self._acts,
            cache=self._cache,
            memory=self._memory,
            metrics=self._metrics,
            limits=KeeperLimits(
                cache_size=settings.cache_size,
                max_rank=settings.max_lora_rank,
                slots=settings.max_cpu_loras,
                drain_seconds=settings.drain_seconds,
            ),
            publish=self._publish,
        )
        self._drain = Drain(
            self._engine,
            seconds=settings.drain_seconds,
            engine_ready=lambda: self._keeper.engine_ready,
            changed=self._republish,
        )
        self._watch = EngineWatch(
            self._engine,
            settings.engine_url,
            progress_file=settings.progress_file,
            changed=self._engine_changed,
            listing_mark=self._keeper.listing_mark,
        )
        self._metadata: MetadataWatch | None = None
        if settings.metadata is not None:
            self._metadata = MetadataWatch(
                settings.metadata,
                settings.metadata_url,
                changed=self._republish,
                failed=self._metrics.metadata_failed,
            )
        self._last: tuple[Facts, tuple[Refuse, ...]] | None = None

    async def run(self) -> None:
        """Serves until stop(); raises what ended it otherwise: OSError for ports, sockets and folders that cannot be
        used.
        """
        await asyncio.to_thread(self._cache.prepare)
        remembered = await asyncio.to_thread(self._memory.load)
        folders = await asyncio.to_thread(self._cache.load)
        self._keeper.resume(remembered, folders)
        keep = [adapter.digest for adapter in (remembered.order.adapters if remembered else ())]
        await asyncio.to_thread(self._cache.remove_staging, keep=keep)
        # Before anybody can ask: a first word that is taken back a moment later would be passed on as a change.
        self._watch.begin()
        self._publish(self._keeper.facts(), ())
        async with self._ports(), self._drain_socket():
            self.listening.set()
            log.info(
                "agent is up",
                extra={"port": self.port, "health_port": self.health_port, "boot_id": self._board.boot_id},
            )
            try:
                await self._run_all()
            finally:
                await asyncio.to_thread(self._acts.close)

    def stop(self) -> None:
        """Drains and ends; safe to call from a signal handler of the loop."""
        self._stop.set()

    async def _run_all(self) -> None:
        """Everything that runs for as long as the agent does; the first to fail ends all."""
        forever: tuple[Coroutine[Any, Any, None], ...] = (
            self._watch.run(),
            self._keeper.run(),
            self._find_base(),
            self._watch_lines(),
            self._watch_readiness(),
            self._credentials.watch(),
            lag.measure(self._metrics.lag),
            *(() if self._metadata is None else (self._metadata.run(),)),
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in forever]
            await self._stop.wait()
            await self._drain.run(self._last[0].engine.instance if self._last else "")
            for task in tasks:
                task.cancel()

    async def _find_base(self) -> None:
        finder = BaseFinder(
            self._settings.base,
            progress_file=self._settings.progress_file,
            engine_ready=lambda: self._keeper.engine_ready,
        )
        await self._keeper.base_found(*await finder.find())

    async def _watch_lines(self) -> None:
        """Asks what runs only while an adapter drains: at rest nothing is asked."""
        while True:
            if self._keeper.draining and self._keeper.engine_ready:
                try:
                    lines = await self._engine.lines()
                    self._keeper.lines_seen(frozenset() if lines.requests == 0 else lines.adapters)
                except AdapterError as error:
                    log.warning("running lines cannot be told", extra={"reason": error.reason})
                    self._keeper.lines_seen(None)
            await asyncio.sleep(LINES_SECONDS)

    async def _watch_readiness(self) -> None:
        """Lets time alone make the pod ready, once the first set has taken too long."""
        while not self._first_set_done:
            await asyncio.sleep(1.0)
            self._republish()

    def _engine_changed(self, engine: EngineFacts) -> None:
        if engine.ready:
            if self._first_ready_at is None:
                self._first_ready_at = time.monotonic()
            self._drain.forget_for(engine.instance)
        self._keeper.engine_changed(engine)

    def _republish(self) -> None:
        if self._last is not None:
            self._publish(*self._last)

    def _publish(self, facts: Facts, refused: tuple[Refuse, ...]) -> None:
        self._last = (facts, refused)
        reports = adapter_reports(facts, refused)
        machine = self._metadata
        draining = self._drain.active or (machine is not None and machine.draining)
        if not self._first_set_done and facts.engine.ready:
            serving = {adapter.served_name for adapter in facts.desired or () if adapter.serving}
            self._first_set_done = self._first_set_over(facts, settled(reports, serving))
        up = facts.engine.ready and not draining
        self._board.publish(
            Content(
                stamp=facts.stamp,
                ready=up and self._first_set_done,
                draining=draining,
                accepting=up,
                engine=_engine_report(facts.engine),
                adapters=reports,
                resident=resident_names(reports),
                slots_used=slots_used(facts),
                slots_total=self._settings.max_cpu_loras,
                cache_bytes=self._keeper.cache_bytes,
                cache_limit_bytes=self._settings.cache_size,
                interruption=machine.report if machine is not None else None,
            )
        )

    def _first_set_over(self, facts: Facts, all_settled: bool) -> bool:
        if facts.desired is not None and all_settled:
            return True
        waited = time.monotonic() - self._first_ready_at if self._first_ready_at is not None else 0.0
        return waited >= self._settings.ready_timeout_seconds

    @contextlib.asynccontextmanager
    async def _ports(self) -> AsyncIterator[None]:
        api = Api(
            board=self._board,
            credentials=self._credentials,
            metrics=self._metrics,
            accept=self._keeper.accept,
            pod_uid=self._settings.pod_uid,
        )
        host = self._settings.host or None
        runners = [
            web.AppRunner(api.application(), access_log=None, shutdown_timeout=1.0),
            web.AppRunner(health_application(self._board, self._metrics), access_log=None, shutdown_timeout=1.0),
        ]
        try:
            for runner in runners:
                await runner.setup()
            await web.TCPSite(runners[0], host, self._settings.port, ssl_context=self._credentials.context).start()
            await web.TCPSite(runners[1], host, self._settings.health_port).start()
            self.port, self.health_port = (runner.addresses[0][1] for runner in runners)
            yield
        finally:
            for runner in runners:
                await runner.cleanup()

    @contextlib.asynccontextmanager
    async def _drain_socket(self) -> AsyncIterator[None]:
        async def drain() -> bool:
            # An agent that has just begun takes no engine that it has not looked at for one that is gone.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._watch.looked.wait(), FIRST_LOOK_SECONDS)
            return await self._drain.run(self._last[0].engine.instance if self._last else "")

        socket = DrainSocket(self._settings.socket, drain)
        await socket.start()
        try:
            yield
        finally:
            await socket.stop()


def _engine_report(engine: EngineFacts) -> EngineReport:
    return EngineReport(
        state=engine.state,
        instance=engine.instance,
        since_ms=engine.since_ms,
        done_bytes=engine.done_bytes,
        total_bytes=engine.total_bytes,
        message=engine.message,
    )


async def serve(settings: Settings, credentials: Credentials) -> None:
    """Runs an agent until SIGTERM or SIGINT."""
    connector = aiohttp.TCPConnector(
        limit=32, keepalive_timeout=2.0
    )  # below the engine's own 5 s, so none is reused as it closes
    async with aiohttp.ClientSession(connector=connector) as session:
        agent = Agent(settings, credentials, session)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        await agent.run()
