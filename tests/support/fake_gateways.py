"""Gateways in memory: they take route tables, keep the last one over a restart, and remember every table they had.

Honours the words of ports.Gateways: an older order is refused; an answer means that every worker goes by the table.
What contradicts itself is refused by the very code of the real gateway.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from npc_operator.ports import PortError, StaleLeader
from npc_runtime.gateway.table import BadTable, compile_table
from npc_runtime.wire import (
    NO_STAMP,
    Accepted,
    Alias,
    DegradedReport,
    Departure,
    GatewayReport,
    RolloutReport,
    RouteTable,
    Stamp,
    TierLines,
)


@dataclass
class FakeGateway:
    """One gateway pod."""

    address: str
    pod_uid: str = ""
    """The pod it is in; empty: it does not know, and takes what is meant for any."""
    boot_id: str = "boot-1"
    deaf: bool = False
    refusing: bool = False
    """It is heard and takes no table."""
    table: RouteTable | None = None
    history: list[RouteTable] = field(default_factory=list)
    rollouts: tuple[RolloutReport, ...] = ()
    """What it says it saw of candidates; of every other one of its table it says that it saw nothing yet."""
    numberless: bool = False
    """It is of a version that knows no attempts, and tells of none."""
    degraded: tuple[DegradedReport, ...] = ()
    """Whom it says it answers for with less than the adapter."""
    running: dict[str, int] = field(default_factory=dict)
    """Lines that run, by pod uid."""
    lines: tuple[TierLines, ...] = ()
    """What it says of lines that did not go as they should."""
    counting: bool = True
    """False: it is of an earlier version, which does not say on which pods lines run."""

    @property
    def stamp(self) -> Stamp:
        return self.table.stamp if self.table is not None else NO_STAMP

    def take(self, table: RouteTable) -> None:
        try:
            compile_table(table)
        except BadTable as error:
            raise PortError(f"BadMessage: {error}", reason="BadMessage", retryable=False, code=400) from error
        if table.stamp.order() < self.stamp.order():
            raise StaleLeader("older order", current=self.stamp)
        self.table = table
        self.history.append(table)

    def restart(self) -> None:
        self.boot_id = f"boot-{int(self.boot_id.removeprefix('boot-')) + 1}"

    def report(self) -> GatewayReport:
        known = {(one.archetype, one.tier, one.candidate, one.attempt): one for one in self.rollouts}
        silent = [one for key, one in self._trying().items() if key not in known]
        rollouts = [*self.rollouts, *silent]
        if self.numberless:
            rollouts = [one.model_copy(update={"attempt": 0}) for one in rollouts]
        named = {endpoint.uid for tier in self.table.tiers for endpoint in tier.endpoints} if self.table else set()
        departures = tuple(
            Departure(uid=uid, lines=count) for uid, count in sorted(self.running.items()) if count and uid not in named
        )
        return GatewayReport(
            boot_id=self.boot_id,
            revision=1,
            stamp=self.stamp,
            rollouts=tuple(rollouts),
            degraded=self.degraded,
            counted=self.stamp if self.counting else NO_STAMP,
            departures=departures if self.counting else (),
            lines=self.lines if self.counting else (),
        )

    def _trying(self) -> dict[tuple[str, str, str, int], RolloutReport]:
        """Every candidate of its table, with no answers."""
        found = {}
        for alias in () if self.table is None else self.table.aliases:
            if alias.rollout is not None and len(alias.targets) == 2:
                stable, candidate = (target.digest for target in alias.targets)
                one = RolloutReport(
                    archetype=alias.archetype,
                    tier=alias.tier,
                    stable=stable,
                    candidate=candidate,
                    attempt=alias.rollout.attempt,
                )
                found[alias.archetype, alias.tier, candidate, one.attempt] = one
        return found

    def routes(self, tier: str) -> dict[str, str]:
        """Archetype -> served name of one tier."""
        if self.table is None:
            return {}
        return {
            alias.archetype: alias.targets[0].served_name
            for alias in self.table.aliases
            if alias.tier == tier and alias.targets
        }

    def alias(self, archetype: str, tier: str = "gold") -> Alias | None:
        """Where one archetype goes."""
        aliases = () if self.table is None else self.table.aliases
        return next((one for one in aliases if (one.archetype, one.tier) == (archetype, tier)), None)


class FakeGateways:
    """ports.Gateways over gateways in memory."""

    def __init__(self) -> None:
        self.by_address: dict[str, FakeGateway] = {}
        self.pushes: list[tuple[str, RouteTable]] = []
        self.before: Callable[[str], None] = lambda what: None
        self.after: Callable[[str], None] = lambda what: None
        self._revisions = itertools.count(1)

    def gateway(self, address: str) -> FakeGateway:
        return self.by_address.setdefault(address, FakeGateway(address))

    async def push(self, namespace: str, address: str, table: RouteTable, *, pod_uid: str) -> Accepted:
        self.before(f"push routes to {address}")
        gateway = self.by_address.get(address)
        if gateway is None or gateway.deaf:
            raise PortError(f"no gateway answers at {address}")
        if gateway.pod_uid not in ("", pod_uid):
            raise PortError(f"this is pod {gateway.pod_uid}, not {pod_uid}", reason="OtherPod")
        if gateway.refusing:
            raise PortError("not now", reason="Internal")
        gateway.take(table)
        self.pushes.append((address, table))
        self.after(f"push routes to {address}")
        return Accepted(boot_id=gateway.boot_id, stamp=table.stamp, revision=next(self._revisions))

    async def watch(
        self, namespace: str, address: str, *, pod_uid: str, after: int, boot_id: str, wait_seconds: int
    ) -> GatewayReport:
        gateway = self.by_address.get(address)
        if gateway is None or gateway.deaf:
            raise PortError(f"no gateway answers at {address}")
        if gateway.pod_uid not in ("", pod_uid):
            raise PortError(f"this is pod {gateway.pod_uid}, not {pod_uid}", reason="OtherPod")
        return gateway.report()
