"""One process from start to end: waits for the API server, checks, watches, stands by, leads, and goes."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import logging
import signal
import time
from collections.abc import Iterator

import aiohttp

from npc_operator.clients import preflight
from npc_operator.clients.capacity_metrics import CapacityCollector
from npc_operator.clients.connection import Connection, NoCredentials, connect
from npc_operator.clients.interruption_queues import troubles
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.kube_lease import KubeLease
from npc_operator.clients.lease import Elector, Term
from npc_operator.clients.metrics import CONTENT_TYPE, Metrics
from npc_operator.clients.rollout_metrics import RolloutCollector
from npc_operator.domain.facts import Adapter, Tier
from npc_operator.edge.app import Watchers
from npc_operator.edge.health import LAG_LIMIT_SECONDS, HealthServer, LagMeter
from npc_operator.edge.parse import learn, unlearn
from npc_operator.loop.slim import give_large_blocks_back
from npc_operator.loop.store import Store
from npc_operator.settings import Settings
from npc_operator.wiring.decisions import Decisions
from npc_operator.wiring.term import Leadership

logger = logging.getLogger(__name__)


TLS_BUFFER_BYTES = 64 * 1024


def shrink_tls_buffers() -> None:
    """asyncio gives every TLS connection a read buffer of 256 KiB, and this process holds dozens of long polls and
    watches that are silent most of the time: a quarter is plenty, and saves some 5 MB.
    """
    asyncio.sslproto.SSLProtocol.max_size = min(asyncio.sslproto.SSLProtocol.max_size, TLS_BUFFER_BYTES)


class SystemClock:
    """ports.Clock by the machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Operator:
    """One process. `run` returns when `stop` was called, or raises what made it useless."""

    def __init__(self, settings: Settings, connection: Connection, decisions: Decisions) -> None:
        self._settings = settings
        self._connection = connection
        self._decisions = decisions
        self._clock = SystemClock()
        self.metrics = Metrics()
        self.kube = KubeClient(connection, metrics=self.metrics, namespaces=settings.namespaces)
        self.store = Store(self._clock)
        self._lag = LagMeter(self._clock, told=self.metrics.loop_lag.set)
        self._leadership: Leadership | None = None
        self._stopping = asyncio.Event()
        self._watchers = Watchers(
            login=self._login,
            namespaces=settings.namespaces,
            on_object=lambda parsed: learn(self.store, parsed),
            on_gone=lambda at: unlearn(self.store, at),
            on_gap=self._look_again,
            on_restart=self._restarted,
        )
        self.elector = Elector(
            leases=KubeLease(self.kube, namespace=settings.lease_namespace, name=settings.lease_name),
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            clock=self._clock,
            on_change=self._leads,
        )
        self.health = HealthServer(
            host=settings.metrics_host,
            port=settings.metrics_port,
            alive=self._alive,
            ready=self._ready,
            metrics=self.metrics.render,
            metrics_type=CONTENT_TYPE,
        )
        self._show_readings()

    def stop(self) -> None:
        """End: give the Lease back, leave everything as it is. Safe to call more than once."""
        self._stopping.set()

    async def run(self) -> int:
        """The exit code: 0 after `stop`, 1 where something is missing that a person must mend."""
        await self.health.start()
        lag = asyncio.create_task(self._lag.run(), name="measure the event loop")
        try:
            return await self._until_stopped(lag)
        finally:
            lag.cancel()
            await self._watchers.stop()
            await self.health.stop()
            await self.kube.close()

    async def _until_stopped(self, lag: asyncio.Task[None]) -> int:
        stopping = asyncio.create_task(self._stopping.wait(), name="wait for the end")
        work = asyncio.create_task(self._work(), name="work")
        try:
            await asyncio.wait({stopping, work, lag}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if lag.done():
                # Without it the process would seem to hang, and be killed for a reason that is not its own.
                raise RuntimeError("the measuring of the event loop ended by itself") from lag.exception()
            logger.info("stopping")
            return 0
        finally:
            stopping.cancel()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _work(self) -> int:
        if await _find_problems(self.kube, self._connection, self._settings):
            return 1
        self._watchers.start()
        await self.elector.run(self._lead)
        raise RuntimeError("the leader election ended by itself")

    async def _lead(self, term: Term) -> None:
        self._leadership = Leadership(
            settings=self._settings,
            store=self.store,
            kube=self.kube,
            clock=self._clock,
            metrics=self.metrics,
            decisions=self._decisions,
            stamps=term,
            heard=self._watchers.heard,
        )
        try:
            await self._leadership.run()
        finally:
            self._leadership = None

    async def _login(self) -> tuple[str, aiohttp.ClientSession]:
        return self._connection.server, self._connection.session()

    def _leads(self, epoch: int) -> None:
        self.metrics.leader.set(1 if epoch else 0)
        self.metrics.leadership_epoch.set(epoch)

    def _look_again(self) -> None:
        if self._leadership is not None:
            self._leadership.look_again()

    def _restarted(self) -> None:
        self.metrics.watch_restarted()
        self._look_again()

    def _alive(self) -> str:
        lag = self._lag.present()
        if lag > LAG_LIMIT_SECONDS:
            return f"the event loop is {lag:.1f} s late"
        if self.elector.leading and not self._watchers.alive():
            return "leading, but the watchers are dead"
        return ""

    def _ready(self) -> str:
        if not self._watchers.alive():
            return "waiting for the API server, its CRDs or rights: see the log"
        if self._leadership is not None and not self._leadership.synced:
            return "leading, but not everything was looked at yet"
        return ""

    def _show_readings(self) -> None:
        readings = self.metrics.readings
        readings.queue_depth = lambda: float(self._leadership.queue.depth()) if self._leadership else 0.0
        readings.queue_oldest = lambda: self._leadership.queue.oldest_seconds() if self._leadership else 0.0
        readings.queue_running = lambda: float(self._leadership.queue.running()) if self._leadership else 0.0
        readings.watch_ages = lambda: dict(self._watchers.ages())
        self.metrics.registry.register(RolloutCollector(self._adapters))
        self.metrics.registry.register(CapacityCollector(self._tiers))
        self.metrics.queues.troubles = lambda: troubles(self.store)
        readings.facts = lambda: {kind.__name__: self.store.count(kind) for kind in self.store.kinds()}

    def _adapters(self) -> Iterator[Adapter]:
        """Every voice, while this process leads."""
        return self.store.all(Adapter) if self._leadership is not None else iter(())

    def _tiers(self) -> Iterator[Tier]:
        """Every tier, while this process leads."""
        return self.store.all(Tier) if self._leadership is not None else iter(())


async def run(settings: Settings, decisions: Decisions) -> int:
    """`npc-operator run`: the exit code. Raises LeadershipStuck when the process must end at once."""
    connection = await _connect(settings)
    if connection is None:
        return 1
    shrink_tls_buffers()
    give_large_blocks_back()
    operator = Operator(settings, connection, decisions)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    return await operator.run()


async def check(settings: Settings) -> int:
    """`npc-operator check`: says what is missing; 0 when nothing is."""
    connection = await _connect(settings)
    if connection is None:
        return 1
    kube = KubeClient(connection, metrics=Metrics(), namespaces=settings.namespaces)
    try:
        if await _find_problems(kube, connection, settings):
            return 1
    finally:
        await kube.close()
    logger.info("CRDs and rights are there")
    return 0


async def _find_problems(kube: KubeClient, connection: Connection, settings: Settings) -> bool:
    """Says what is missing; True when something is."""
    await preflight.wait_for_server(kube, connection.server)
    problems = await preflight.check(kube, namespaces=settings.namespaces, own_namespace=settings.lease_namespace)
    if problems:
        logger.error("not everything that is needed is there:\n%s", preflight.describe(problems))
    return bool(problems)


async def _connect(settings: Settings) -> Connection | None:
    try:
        return await connect(kubeconfig=settings.kubeconfig, context=settings.context, in_cluster=settings.in_cluster)
    except NoCredentials as error:
        logger.error("%s", error)
        return None
