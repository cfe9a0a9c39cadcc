"""Agents in memory: they take desired sets, and prove, refuse, retry or hold each adapter as the test says.

Honours the words of ports.Agents: an older order is refused, what is absent from a set is drained and gone, a new
process of the engine has nothing resident until it was proven again. What was done is recorded in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from npc_operator.ports import PortError, StaleLeader
from npc_runtime.wire import (
    NO_STAMP,
    Accepted,
    AdapterPhase,
    AdapterReport,
    AgentReport,
    DesiredAdapter,
    DesiredSet,
    EngineReport,
    EngineState,
    InterruptionReport,
    Stamp,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an agent makes of one adapter it is asked for."""

    phase: AdapterPhase
    reason: str = ""
    message: str = ""


PROVEN = Verdict(AdapterPhase.RESIDENT)
LOADING = Verdict(AdapterPhase.LOADING)


@dataclass
class FakeAgent:
    """One pod's agent and its engine."""

    address: str
    pod_uid: str = ""
    """The pod it is in; empty: it does not know, and takes what is meant for any."""
    boot_id: str = "boot-1"
    state: EngineState = EngineState.READY
    instance: int = 1
    since: float = 0.0
    done_bytes: int = 0
    total_bytes: int = 0
    draining: bool = False
    deaf: bool = False
    """True: it cannot be reached."""
    interruption: InterruptionReport | None = None
    """What it says that its machine's metadata service said."""
    late: bool = False
    """True: orders reach it, and what it says to them is under way for long."""
    holding: bool = False
    """True: it loads and loads."""
    silent_about_identity: bool = False
    """True: it proves no identity again, however often it is asked."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By served name; what is not named is proven at once."""
    stamp: Stamp = NO_STAMP
    desired: tuple[DesiredAdapter, ...] = ()
    resident: dict[str, DesiredAdapter] = field(default_factory=dict)
    history: list[tuple[str, ...]] = field(default_factory=list)
    """Served names of every accepted set."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Rank by digest, as the first entry that brought it declared it: a later one that allows less is refused."""
    most: int = 0
    """Most adapters that were asked for at once."""

    def take(self, desired: DesiredSet) -> None:
        if desired.stamp.order() < self.stamp.order():
            raise StaleLeader("older order", current=self.stamp)
        self.stamp, self.desired = desired.stamp, desired.adapters
        names = tuple(entry.served_name for entry in desired.adapters)
        self.history.append(names)
        self.most = max(self.most, len(names))
        wanted = set(names)
        self.resident = {name: entry for name, entry in self.resident.items() if name in wanted}
        self.work()

    def verdict(self, entry: DesiredAdapter) -> Verdict:
        if entry.rank < self.ranks.setdefault(entry.digest, entry.rank):
            return Verdict(AdapterPhase.REFUSED, "RankTooHigh", f"rank {self.ranks[entry.digest]} of {entry.rank}")
        return self.verdicts.get(entry.served_name, PROVEN)

    def work(self) -> None:
        """Prove what can be proven."""
        if self.state is not EngineState.READY or self.holding:
            return
        for entry in self.desired:
            if self.verdict(entry) is PROVEN:
                self.resident[entry.served_name] = entry
            elif self.verdict(entry).phase is AdapterPhase.REFUSED:
                self.resident.pop(entry.served_name, None)

    def lose(self, name: str, verdict: Verdict) -> None:
        """What was proven is not any more."""
        self.verdicts[name] = verdict
        self.resident.pop(name, None)

    def restart_engine(self) -> None:
        """The engine process ended and a new one is not ready yet."""
        self.state, self.resident = EngineState.STARTING, {}
        self.instance += 1

    def engine_ready(self, now: float = 0.0) -> None:
        self.state, self.since = EngineState.READY, now
        self.work()

    def restart(self) -> None:
        """The agent's own process ended; it persisted its set without credentials, and its order."""
        self.boot_id = f"boot-{int(self.boot_id.removeprefix('boot-')) + 1}"

    def report(self) -> AgentReport:
        reports = []
        for entry in self.desired:
            verdict = self.verdict(entry)
            if entry.served_name in self.resident:
                verdict = PROVEN
            elif verdict is PROVEN:
                verdict = Verdict(AdapterPhase.QUEUED)
            reports.append(
                AdapterReport(
                    served_name=entry.served_name,
                    archetype=entry.archetype,
                    digest=entry.digest,
                    phase=verdict.phase,
                    reason=verdict.reason,
                    message=verdict.message,
                    identity_checked=0 if verdict is not PROVEN or self.silent_about_identity else entry.identity_check,
                )
            )
        return AgentReport(
            boot_id=self.boot_id,
            revision=1,
            stamp=self.stamp,
            full=True,
            ready=self.state is EngineState.READY,
            draining=self.draining,
            engine=EngineReport(
                state=self.state,
                instance=str(self.instance),
                since_ms=int(self.since * 1000),
                done_bytes=self.done_bytes,
                total_bytes=self.total_bytes,
            ),
            adapters=tuple(reports),
            interruption=self.interruption,
        )


class FakeAgents:
    """ports.Agents over agents in memory."""

    def __init__(self) -> None:
        self.by_address: dict[str, FakeAgent] = {}
        self.pushes: list[tuple[str, DesiredSet]] = []
        self.before: Callable[[str], None] = lambda what: None
        self.after: Callable[[str], None] = lambda what: None
        self.in_flight: dict[str, int] = {}
        self._revisions = itertools.count(1)

    def agent(self, address: str) -> FakeAgent:
        return self.by_address.setdefault(address, FakeAgent(address))

    async def push(self, namespace: str, address: str, desired: DesiredSet, *, pod_uid: str) -> Accepted:
        self.before(f"push desired to {address}")
        agent = self._reach(address, pod_uid)
        self.in_flight[address] = self.in_flight.get(address, 0) + 1
        assert self.in_flight[address] == 1, "two pushes to one agent at once"
        try:
            agent.take(desired)
        finally:
            self.in_flight[address] -= 1
        self.pushes.append((address, desired))
        self.after(f"push desired to {address}")
        return Accepted(boot_id=agent.boot_id, stamp=desired.stamp, revision=next(self._revisions))

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> AgentReport:
        return self._reach(address, pod_uid).report()

    def _reach(self, address: str, pod_uid: str) -> FakeAgent:
        """The agent there, if it can be reached and is the pod's that is meant."""
        agent = self.by_address.get(address)
        if agent is None or agent.deaf:
            raise PortError(f"no agent answers at {address}")
        if pod_uid and agent.pod_uid not in ("", pod_uid):
            raise PortError(f"this is pod {agent.pod_uid}, not {pod_uid}", reason="OtherPod", code=421)
        return agent
