"""One leadership, from the first look at everything to the last Event: whatever acts lives here and ends with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from npc_operator.clients.agents import AgentClient
from npc_operator.clients.autoscaling import AutoScalingClient
from npc_operator.clients.gateways import GatewayClient
from npc_operator.clients.interruption_queues import InterruptionQueues
from npc_operator.clients.issuer import IssuerWatch
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.nodes import NodeWatch
from npc_operator.clients.polls import Polls
from npc_operator.clients.recorder import EventRecorder
from npc_operator.clients.secrets import Secrets, trust_of
from npc_operator.clients.supervision import endless
from npc_operator.domain.keys import Key
from npc_operator.edge.resync import Resync
from npc_operator.loop.queue import KeyedQueue, Lane, Share
from npc_operator.loop.runner import Runner
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Clock, Images, Outside, Stamps
from npc_operator.reconcilers.triggers import pick_lane, waits_for_pods
from npc_operator.settings import Settings
from npc_operator.wiring.decisions import Decisions

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 0.5
_BREATH = 200


class Leadership:
    """Built anew for each term, so that nothing of an old one can leak into the next."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        kube: KubeClient,
        clock: Clock,
        metrics: Metrics,
        decisions: Decisions,
        stamps: Stamps,
        heard: Callable[[str], None],
    ) -> None:
        self._store = store
        self._kube = kube
        self._metrics = metrics
        self._decisions = decisions
        orders = Share(waits_for_pods, most=max(1, settings.workers * 3 // 4))
        self.queue: KeyedQueue[Key] = KeyedQueue(clock, share=orders)
        self.synced = False
        self._is_ending = False
        trust = trust_of(store)
        self._agents = AgentClient(trust=trust, metrics=metrics)
        self._gateways = GatewayClient(trust=trust, metrics=metrics)
        self._recorder = EventRecorder(sink=kube, clock=clock, metrics=metrics, instance=settings.identity)
        self._resync = Resync(kube=kube, store=store, clock=clock, interval=settings.resync_seconds, heard=heard)
        outside = Outside(
            kube=kube,
            agents=self._agents,
            gateways=self._gateways,
            groups=AutoScalingClient(),
            recorder=self._recorder,
            meter=metrics,
            clock=clock,
            stamps=stamps,
            images=Images(
                engine=settings.engine_image, fleet=settings.fleet_image, pull_policy=settings.image_pull_policy
            ),
        )
        work = decisions.begin(store, outside)
        self._runner = Runner(
            queue=self.queue, handle=work.reconcile, clock=clock, observer=metrics, concurrency=settings.workers
        )
        self._interruption_queues = InterruptionQueues(
            store=store,
            clock=clock,
            listener=work.interruptions,
            meter=metrics.queues,
            own=settings.interruption_queue,
        )

    def look_again(self) -> None:
        """News may have been missed: list everything soon."""
        self._resync.want()

    async def run(self) -> None:
        """Works until cancelled; raises what made working impossible."""
        self._store.mark_unsynced()
        unsubscribe = self._store.subscribe(lambda change: self._mark(change, None))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._note_end(), name="end")
                tasks.create_task(endless("events", self._recorder.run), name="events")
                await self._resync.first()
                await self._mark_everything()
                self.synced = True
                logger.info("everything was looked at once, working")
                secrets = Secrets(source=self._kube, store=self._store)
                tasks.create_task(endless("secrets", secrets.run), name="secrets")
                polls = Polls(store=self._store, agents=self._agents, gateways=self._gateways)
                tasks.create_task(endless("polls", polls.run), name="polls")
                nodes = NodeWatch(source=self._kube, store=self._store, strange=self._metrics.node_word_ignored)
                tasks.create_task(endless("nodes", nodes.run), name="nodes")
                # Before the first reconcile: what is known of a queue must not be missing from a status for a moment.
                tasks.create_task(endless("interruption queues", self._interruption_queues.run), name="queues")
                issuer = IssuerWatch(kube=self._kube, store=self._store)
                tasks.create_task(endless("issuer", issuer.run), name="issuer")
                tasks.create_task(endless("runner", self._runner.run), name="runner")
                resync = self._resync
                tasks.create_task(endless("resync", lambda: resync.run(self._mark_everything)), name="resync")
        finally:
            unsubscribe()
            await self._recorder.flush(seconds=LAST_WORDS_SECONDS)
            await self._agents.close()
            await self._gateways.close()

    async def _note_end(self) -> None:
        """What is forgotten at the end concerns nobody, and to find whom it would takes too long for thousands of
        pods: the Lease's patience is short."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_ending = True

    async def _mark_everything(self) -> None:
        """A look at every key, behind everything that has a reason to hurry."""
        count = 0
        for kind in self._store.kinds():
            for namespace, name, fact in self._store.items(kind):
                self._mark(Change(kind, namespace, name, None, fact), Lane.BACKGROUND)
                count += 1
                if count % _BREATH == 0:
                    await asyncio.sleep(0)

    def _mark(self, change: Change, lane: Lane | None) -> None:
        if self._is_ending:
            return
        try:
            keys = tuple(self._decisions.triggers(self._store, change))
        except Exception:
            # A bug in triggers must not break whoever brought the news; the next resync asks again.
            about = f"{change.kind.__name__}/{change.namespace}/{change.name}"
            logger.exception("cannot tell what a change concerns", extra={"key": about})
            return
        for key in keys:
            self.queue.add(key, pick_lane(self._store, key) if lane is None else lane)
