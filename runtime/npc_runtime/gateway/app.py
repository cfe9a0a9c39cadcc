"""One gateway process put together: its ports, what runs beside them, and how it starts and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry

from npc_runtime.gateway.access_log import AccessLog
from npc_runtime.gateway.admin import build_admin
from npc_runtime.gateway.agents_watch import AgentsWatch
from npc_runtime.gateway.health import build_health
from npc_runtime.gateway.internal import InternalDir
from npc_runtime.gateway.metrics import GatewayCollector, Metrics
from npc_runtime.gateway.persistence import load_newest
from npc_runtime.gateway.routes import Routes
from npc_runtime.gateway.service import Service
from npc_runtime.gateway.settings import Settings
from npc_runtime.gateway.table import CompiledTable

log = logging.getLogger(__name__)

FIRST_WORD_SECONDS = 3.0
"""How long a table without residency keeps the gateway unready while the agents are asked for the first time."""

_BACKLOG = 4096


class LocalPlane:
    """The data plane in this process. Implements `routes.Applier`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def apply_everywhere(self, table: CompiledTable) -> None:
        """Serve from the table from now on."""
        self._service.apply(table)


class Gateway:
    """A running gateway. `start`, then `stop`; `ports` says where it listens."""

    def __init__(self, settings: Settings, *, access_log_to: BinaryIO | None = None) -> None:
        """Read the internal folder and build the parts; nothing listens yet.

        Raises:
            BadInternalDir: see `InternalDir`.

        """
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._internal = InternalDir(settings.internal_dir)
        self._metrics = Metrics()
        self._access_log = AccessLog(access_log_to if settings.access_log else None)
        self.service = Service(loop=loop, metrics=self._metrics, access_log=self._access_log)
        self._agents = AgentsWatch(
            port=settings.agent_port,
            mounted_ca=self._internal.ca,
            hear=self.service.fleet.hear,
            lose=self.service.fleet.lose,
        )
        self.routes = Routes(
            applier=LocalPlane(self.service), state_dir=settings.state_dir, on_change=self._agents.follow
        )
        self._stopping = False
        self._asking_until = 0.0
        self._server: asyncio.Server | None = None
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
        self._tasks = [
            asyncio.create_task(self.service.sweep_for_ever(), name="sweep"),
            asyncio.create_task(self._internal.follow(), name="internal folder"),
        ]
        self._server = await loop.create_server(
            self.service.connect, settings.host, settings.port, backlog=_BACKLOG, reuse_address=True
        )
        self.ports["data"] = self._server.sockets[0].getsockname()[1]
        admin = build_admin(routes=self.routes, internal=self._internal)
        self.ports["admin"] = await self._listen(admin, settings.admin_port, ssl_context=self._internal.tls)
        registry = CollectorRegistry()
        registry.register(GatewayCollector(self._metrics, self._gauges()))
        registry.register(PROCESS_COLLECTOR)
        health = build_health(registry=registry, not_ready_because=self.not_ready_because, refresh=self._nothing)
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
        self.service.draining = True
        log.info("shutting down", extra={"delay": settings.shutdown_delay, "drain": settings.drain})
        await asyncio.sleep(settings.shutdown_delay)
        if self._server is not None:
            self._server.close()
        self.service.close_idle()
        if not await self.service.wait_until_quiet(settings.drain):
            count = self.service.answering
            log.warning("answers were still running at the end of the drain time", extra={"count": count})
        await self.close()

    async def close(self) -> None:
        """End now."""
        if self._server is not None:
            self._server.close()
        self.service.abort_all()
        await self._agents.close()
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.routes.saved()
        self.service.sweep(asyncio.get_running_loop().time())
        await asyncio.to_thread(self._access_log.close)

    async def _listen(self, app: web.Application, port: int, **options: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._settings.host, port, **options)
        await site.start()
        return int(runner.addresses[0][1])

    async def _nothing(self) -> None:
        """One process has its counts at hand."""

    def _gauges(self) -> list[tuple[str, str, Any]]:
        fleet = self.service.fleet
        return [
            ("npc_gateway_client_connections", "Open connections of game servers.", lambda: self.service.connections),
            (
                "npc_gateway_engine_connections",
                "Open connections to engines.",
                lambda: sum(endpoint.pool.connections for endpoint in fleet.endpoints),
            ),
            ("npc_gateway_endpoints", "Engine pods in the route table.", lambda: len(list(fleet.endpoints))),
            ("npc_gateway_agents_in_contact", "Pods whose agent answers.", lambda: self.agents_in_contact),
            ("npc_gateway_route_table_epoch", "Epoch of the table in force.", lambda: self.routes.stamp.epoch),
            ("npc_gateway_route_table_generation", "Generation of that table.", lambda: self.routes.stamp.generation),
            ("npc_gateway_access_log_dropped_lines", "Lines not written so far.", lambda: self._access_log.dropped),
        ]


async def run_until_signal(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT and return the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(_check_state_dir, settings.state_dir)
    gateway = Gateway(settings, access_log_to=sys.stdout.buffer)
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
