"""Listens to every agent and gateway: one long poll per pod with an IP, its answers merged into the store.

A change in a pod is here as fast as a packet, and at rest nothing is asked but once per LONG_POLL_SECONDS. Silence is
not bad news: a failed poll only marks the last word as memory (`reachable` False), and the pod is asked again within
a second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from npc_operator.api.names import COMPONENT_ENGINE, COMPONENT_GATEWAY
from npc_operator.clients.supervision import Broken
from npc_operator.domain.facts import AgentFact, GatewayFact, Pod
from npc_operator.domain.holdings import Held
from npc_operator.domain.reports import lost_contact, merge_report
from npc_operator.loop.slim import Pool, share
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Agents, Gateways, PortError
from npc_runtime.wire import LONG_POLL_SECONDS

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0)
"""Pauses after failed polls; the last repeats for PATIENCE tries, because a starting pod must be heard soon."""
PATIENCE = 120
SLOW_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Target:
    """The pod a poll speaks to. Another uid or address is another conversation."""

    component: str
    uid: str
    ip: str


class Polls:
    """Runs during a leadership. What it learned is unknown again afterwards: the facts go with it."""

    def __init__(
        self, *, store: Store, agents: Agents, gateways: Gateways, jitter: Callable[[], float] = random.random
    ) -> None:
        self._store = store
        self._agents = agents
        self._gateways = gateways
        self._jitter = jitter
        self._tasks: dict[tuple[str, str], tuple[_Target, asyncio.Task[None]]] = {}
        self._broken = Broken()
        # Every pod of a tier comes to hold the same, so its words are those of its siblings.
        self._held: Pool[Held] = Pool(lambda held: held.served_name)

    async def run(self) -> None:
        """Follows the pods of the store until cancelled. Raises what ended a poll by itself."""
        unsubscribe = self._store.subscribe(self._on_change)
        try:
            for pod in self._store.all(Pod):
                self._follow(pod)
            await self._broken.wait()
        finally:
            unsubscribe()
            running = [task for _, task in self._tasks.values()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
            for namespace, name in list(self._tasks):
                self._forget(namespace, name)
            self._tasks.clear()

    def _on_change(self, change: Change) -> None:
        if change.kind is not Pod:
            return
        if change.new is None:
            self._end(change.namespace, change.name)
        else:
            self._follow(change.new)

    def _follow(self, pod: Pod) -> None:
        target = _target_of(pod)
        key = (pod.namespace, pod.name)
        known = self._tasks.get(key)
        if known is not None and known[0] == target:
            return
        if known is not None:
            self._end(*key)
        if target is None:
            return
        listen: Coroutine[Any, Any, None]
        if target.component == COMPONENT_ENGINE:
            listen = self._listen(key, target, self._hear_agent)
        else:
            listen = self._listen(key, target, self._hear_gateway)
        task = asyncio.create_task(listen, name=f"poll {pod.namespace}/{pod.name}")
        task.add_done_callback(self._broken.look_at)
        self._tasks[key] = (target, task)

    def _end(self, namespace: str, name: str) -> None:
        known = self._tasks.pop((namespace, name), None)
        if known is not None:
            known[1].cancel()
            self._forget(namespace, name)

    def _forget(self, namespace: str, name: str) -> None:
        self._store.drop(AgentFact, namespace, name)
        self._store.drop(GatewayFact, namespace, name)

    async def _listen(
        self,
        key: tuple[str, str],
        target: _Target,
        hear: Callable[[tuple[str, str], _Target, int, str], Coroutine[Any, Any, tuple[int, str]]],
    ) -> None:
        revision, boot_id, failures = 0, "", 0
        while True:
            try:
                revision, boot_id = await hear(key, target, revision, boot_id)
                failures = 0
                continue
            except PortError as error:
                if failures == 0:
                    logger.info("no word: %s", error, extra={"key": f"pod/{key[0]}/{key[1]}"})
                # Whoever says nothing new would be waited for, and would count as not heard all that time.
                revision, boot_id = 0, ""
            except Exception:
                logger.exception(
                    "a report could not be merged, asking for all of it", extra={"key": f"pod/{key[0]}/{key[1]}"}
                )
                revision, boot_id = 0, ""
            failures += 1
            self._lose(key)
            pause = SLOW_RETRY_SECONDS if failures > PATIENCE else RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1]
            await asyncio.sleep(pause * (0.8 + 0.2 * self._jitter()))

    async def _hear_agent(self, key: tuple[str, str], target: _Target, revision: int, boot_id: str) -> tuple[int, str]:
        report = await self._agents.watch(
            key[0],
            target.ip,
            pod_uid=target.uid,
            after=revision,
            boot_id=boot_id,
            wait_seconds=LONG_POLL_SECONDS,
        )
        old = self._store.get(AgentFact, *key)
        fact = merge_report(old, share(report), pod_uid=target.uid, sharing=self._held.shared)
        self._store.put(AgentFact, *key, fact)
        return report.revision, report.boot_id

    async def _hear_gateway(
        self, key: tuple[str, str], target: _Target, revision: int, boot_id: str
    ) -> tuple[int, str]:
        report = await self._gateways.watch(
            key[0],
            target.ip,
            pod_uid=target.uid,
            after=revision,
            boot_id=boot_id,
            wait_seconds=LONG_POLL_SECONDS,
        )
        share(report)
        fact = GatewayFact(
            pod_uid=target.uid,
            boot_id=report.boot_id,
            stamp=report.stamp,
            rollouts=report.rollouts,
            degraded=report.degraded,
            counted=report.counted,
            departures=report.departures,
            lines=report.lines,
        )
        self._store.put(GatewayFact, *key, fact)
        return report.revision, report.boot_id

    def _lose(self, key: tuple[str, str]) -> None:
        agent = self._store.get(AgentFact, *key)
        if agent is not None and agent.reachable:
            self._store.put(AgentFact, *key, lost_contact(agent))
        gateway = self._store.get(GatewayFact, *key)
        if gateway is not None and gateway.reachable:
            self._store.put(GatewayFact, *key, replace(gateway, reachable=False))


def _target_of(pod: Pod) -> _Target | None:
    """Whom to ask, or None: no address yet, or the pod has ended."""
    if not pod.ip or pod.phase in ("Succeeded", "Failed") or pod.component not in (COMPONENT_ENGINE, COMPONENT_GATEWAY):
        return None
    return _Target(component=pod.component, uid=pod.uid, ip=pod.ip)
