"""Recording ports: agents that prove at once whatever they are told, and gateways that apply every table.

They are asked by the product's own long polls, one for each pod, and answer as the real ones do: at once with
something new, else after the time that the operator is willing to wait. Nothing is sent, so what TLS, sockets and
JSON cost is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import cache
from typing import Generic, TypeVar

from npc_runtime.wire import (
    NO_STAMP,
    Accepted,
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredSet,
    EngineReport,
    EngineState,
    GatewayReport,
    RouteTable,
)

Report = TypeVar("Report", bound=AgentReport | GatewayReport)
BOOT = "bench"
_ENGINE = EngineReport(state=EngineState.READY, instance="1")


class Words(Generic[Report]):
    """What each pod (uid) said last, and who waits for more."""

    def __init__(self, first: Report) -> None:
        self._first = first
        self._last: dict[str, Report] = {}
        self._news: dict[str, asyncio.Event] = {}

    def next_revision(self, pod_uid: str) -> int:
        return self._last.get(pod_uid, self._first).revision + 1

    def say(self, pod_uid: str, report: Report) -> None:
        """From now on this is the pod's word."""
        self._last[pod_uid] = report
        news = self._news.pop(pod_uid, None)
        if news is not None:
            news.set()

    async def hear(self, pod_uid: str, *, after: int, boot_id: str, wait_seconds: float) -> Report:
        """The long poll."""
        last = self._last.get(pod_uid, self._first)
        if last.revision <= after and boot_id == last.boot_id:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.setdefault(pod_uid, asyncio.Event()).wait(), wait_seconds)
        return self._last.get(pod_uid, self._first)


class Agents:
    """ports.Agents, and `close` as the operator's own has it."""

    def __init__(self) -> None:
        self.orders = 0
        self._words = Words(_report(DesiredSet(stamp=NO_STAMP), revision=0))

    async def close(self) -> None:
        return

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        self.orders += 1
        report = _report(desired, revision=self._words.next_revision(pod_uid))
        self._words.say(pod_uid, report)
        return Accepted(boot_id=BOOT, stamp=desired.stamp, revision=report.revision)

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> AgentReport:
        return await self._words.hear(pod_uid, after=after, boot_id=boot_id, wait_seconds=wait_seconds)


class Gateways:
    """ports.Gateways, and `close` as the operator's own has it."""

    def __init__(self) -> None:
        self.tables = 0
        self.routed: dict[str, frozenset[str]] = {}
        """Pods (uids) to which the last table of each gateway (uid) lets lines go."""
        self._words = Words(GatewayReport(boot_id=BOOT, revision=0, stamp=NO_STAMP))

    async def close(self) -> None:
        return

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        self.tables += 1
        self.routed[pod_uid] = frozenset(end.uid for tier in table.tiers for end in tier.endpoints)
        revision = self._words.next_revision(pod_uid)
        report = GatewayReport(boot_id=BOOT, revision=revision, stamp=table.stamp, counted=table.stamp)
        self._words.say(pod_uid, report)
        return Accepted(boot_id=BOOT, stamp=table.stamp, revision=revision)

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> GatewayReport:
        return await self._words.hear(pod_uid, after=after, boot_id=boot_id, wait_seconds=wait_seconds)


def _report(desired: DesiredSet, *, revision: int) -> AgentReport:
    """Everything that is wanted is resident, and nothing else."""
    return AgentReport(
        boot_id=BOOT,
        revision=revision,
        stamp=desired.stamp,
        full=True,
        ready=True,
        draining=False,
        engine=_ENGINE,
        adapters=tuple(_prove(one.served_name, one.archetype, one.digest) for one in desired.adapters),
    )


@cache
def _prove(served_name: str, archetype: str, digest: str) -> AdapterReport:
    """One object for all pods: what the agents hold is not the operator's, and must not weigh in its process."""
    return AdapterReport(served_name=served_name, archetype=archetype, digest=digest, phase=AdapterPhase.RESIDENT)
