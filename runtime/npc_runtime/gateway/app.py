"""One gateway process put together: its ports, what runs beside them, and how it starts and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry

from npc_runtime.gateway.access_log import AccessLog, standard_output
from npc_runtime.gateway.admin import build_admin
from npc_runtime.gateway.agents_watch import AgentsWatch
from npc_runtime.gateway.degradation import Degradation
from npc_runtime.gateway.disturbances import DisturbanceWatch
from npc_runtime.gateway.health import build_health
from npc_runtime.gateway.internal import InternalDir
from npc_runtime.gateway.metrics import GatewayCollector, Reading
from npc_runtime.gateway.persistence import load_newest
from npc_runtime.gateway.plane import Counts, DataPlane, LocalPlane
from npc_runtime.gateway.rollouts.metrics import CandidateCollector
from npc_runtime.gateway.rollouts.telling import Telling
from npc_runtime.gateway.routes import Routes
from npc_runtime.gateway.settings import Settings
from npc_runtime.gateway.supervise import supervise
from npc_runtime.gateway.table import CompiledTable
from npc_runtime.gateway.tls import ServerTls
from npc_runtime.gateway.workers import WorkersPlane

log = logging.getLogger(__name__)

FIRST_WORD_SECONDS = 3.0
"""How long a table without residency keeps the gateway unready while the agents are asked for the first time."""


class Gateway:
    """A running gateway. `start`, then `stop`; `ports` says where it listens."""

    def __init__(self, settings: Settings, *, access_log_to: BinaryIO | None = None) -> None:
        """Read the internal folder and build the parts; nothing listens yet.

        Raises:
            BadInternalDir: see `InternalDir`.
            BadCertificate: see `ServerTls`.

        """
        self._settings = settings
        self._internal = InternalDir(settings.internal_dir)
        # Read here in any case: what workers could not start with must end the start and not each of them.
        tls = None if settings.tls_dir is None else ServerTls(settings.tls_dir)
        self.plane: DataPlane
        if settings.workers == 1:
            log_to = AccessLog(access_log_to if settings.access_log else None)
            self.plane = LocalPlane(log_to, tls=tls, prefix_affinity=settings.prefix_affinity)
        else:
            self.plane = WorkersPlane(
                workers=settings.workers,
                access_log=settings.access_log,
                log_level=settings.log_level,
                tls_dir=settings.tls_dir,
                prefix_affinity=settings.prefix_affinity,
            )
        self._agents = AgentsWatch(
            port=settings.agent_port, mounted_ca=self._internal.ca, hear=self.plane.hear, lose=self.plane.lose
        )
        self.routes = Routes(
            applier=self.plane,
            state_dir=settings.state_dir,
            on_coming=self._agents.expect,
            on_change=self._follow,
        )
        self._telling = Telling(ask=self.plane.candidates, tell=self.routes.tell)
        self._degradation = Degradation(ask=self.plane.degraded, tell=self.routes.tell_degraded)
        self._disturbances = DisturbanceWatch(
            ask=self.plane.disturbances, table=lambda: self.routes.current, tell=self.routes.tell_disturbed
        )
        self._counts = Counts()
        self._stopping = False
        self._asking_until = 0.0
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.ports: dict[str, int] = {}

    @property
    def agents_in_contact(self) -> int:
        """Agents whose last poll was answered."""
        return self._agents.in_contact

    @property
    def asked_every_agent(self) -> bool:
        """Whether each agent of the table was asked at least once, answered or not."""
        return self._agents.asked_everyone

    async def start(self) -> None:
        """Load the last table and listen on all ports.

        Raises:
            OSError: a port cannot be had.

        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        table = await asyncio.to_thread(load_newest, settings.state_dir, settings.routes_file)
        if table is not None:
            self._asking_until = loop.time() + FIRST_WORD_SECONDS
            await self.routes.accept(table)
            log.info(
                "serving from a saved route table",
                extra={"epoch": table.stamp.epoch, "generation": table.stamp.generation},
            )
        following = supervise("following the internal folder", self._internal.follow)
        telling = supervise("telling of candidates", self._telling.tell_for_ever)
        watching = supervise("watching who is degraded", self._degradation.watch_for_ever)
        looking = supervise("watching what pods that go do to lines", self._disturbances.watch_for_ever)
        self._tasks = [
            asyncio.create_task(following, name="internal folder"),
            asyncio.create_task(telling, name="candidates"),
            asyncio.create_task(watching, name="degradation"),
            asyncio.create_task(looking, name="disturbances"),
        ]
        self.ports["data"] = await self.plane.start(settings.host, settings.port)
        admin = build_admin(routes=self.routes, internal=self._internal, pod_uid=settings.pod_uid)
        self.ports["admin"] = await self._listen(admin, settings.admin_port, ssl_context=self._internal.tls)
        registry = CollectorRegistry()
        registry.register(
            GatewayCollector(
                lambda: self._counts.metrics,
                gauges=self._gauges(),
                counters=self._counters(),
                ejections=lambda: self._counts.ejections,
                waiting=lambda: self._counts.waiting,
            )
        )
        registry.register(CandidateCollector(lambda: self.routes.candidates))
        registry.register(PROCESS_COLLECTOR)
        health = build_health(registry=registry, not_ready_because=self.not_ready_because, refresh=self._count)
        self.ports["health"] = await self._listen(health, settings.health_port)
        log.info("listening", extra={"ports": self.ports})

    def not_ready_because(self) -> str | None:
        """Why no new connections should come here; None when they should."""
        if self._stopping:
            return "shutting down"
        table = self.routes.current
        if table is None:
            return "no route table yet"
        if asyncio.get_running_loop().time() < self._asking_until and not self.asked_every_agent:
            return "asking the agents"
        return None

    async def stop(self) -> None:
        """End gracefully: unready at once, serve while endpoints are removed, then let running answers finish."""
        settings = self._settings
        self._stopping = True
        self.plane.leave()
        log.info("shutting down", extra={"delay": settings.shutdown_delay, "drain": settings.drain})
        await asyncio.sleep(settings.shutdown_delay)
        if running := await self.plane.drain(settings.drain):
            log.warning("answers were still running at the end of the drain time", extra={"count": running})
        await self.close()

    async def close(self) -> None:
        """End now."""
        await self._agents.close()
        await self.plane.close()
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.routes.saved()

    async def _listen(self, app: web.Application, port: int, **options: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._settings.host, port, **options)
        await site.start()
        return int(runner.addresses[0][1])

    def _follow(self, table: CompiledTable) -> None:
        self._agents.follow(table)
        self._telling.follow(table)

    async def _count(self) -> None:
        self._counts = await self.plane.counts()

    def _gauges(self) -> list[Reading]:
        """Read right after `_count`."""
        return [
            ("npc_gateway_client_connections", "Open connections of game servers.", lambda: self._counts.connections),
            ("npc_gateway_engine_connections", "Open connections to engines.", lambda: self._counts.engine_connections),
            ("npc_gateway_endpoints", "Engine pods in the route table.", self._endpoints),
            (
                "npc_gateway_ejected_pods",
                "Pods left out for what they did to lines, counted once for each event loop that does so.",
                lambda: self._counts.ejected,
            ),
            ("npc_gateway_agents_in_contact", "Pods whose agent answers.", lambda: self.agents_in_contact),
            ("npc_gateway_route_table_epoch", "Epoch of the table in force.", lambda: self.routes.stamp.epoch),
            ("npc_gateway_route_table_generation", "Generation of that table.", lambda: self.routes.stamp.generation),
        ]

    def _counters(self) -> list[Reading]:
        return [
            (
                "npc_gateway_access_log_dropped_lines",
                "Access log lines that could not be written.",
                lambda: self._counts.dropped_lines,
            )
        ]

    def _endpoints(self) -> int:
        table = self.routes.current
        return 0 if table is None else len(table.endpoints)


async def run_until_signal(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT and return the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(_check_state_dir, settings.state_dir)
    gateway = Gateway(settings, access_log_to=standard_output())
    await gateway.start()
    # What exists now stays: without this a full collection would walk every imported module in the middle of answers.
    gc.collect()
    gc.freeze()
    await stop.wait()
    await gateway.stop()
    log.info("stopped")
    return 0


def _check_state_dir(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
