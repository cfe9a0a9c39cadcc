"""What pods that go away do to lines, for the operator: it waits for the last line of such a pod before it ends it, and
it accounts for what the going cost.

Read from what is counted anyway. Lines that run on a pod which the table does not name any more are looked for twice a
second; what went wrong is added up more seldom, because that walks through every archetype of every tier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from npc_runtime import wire
from npc_runtime.gateway.errors import Reason
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.table import CompiledTable

LOOK_SECONDS: Final = 0.5
LINES_EVERY: Final = 4
"""Every so many looks the lines that went wrong are added up, too."""
LOST: Final = frozenset(
    {
        Reason.NO_RESIDENT,
        Reason.ENGINE_UNREACHABLE,
        Reason.ENGINE_FAILED,
        Reason.ENGINE_INTERRUPTED,
        Reason.ENGINE_STALLED,
        Reason.TIMEOUT,
    }
)
"""A line that ended with one of these had nobody to answer it, or lost them. Refusals are not among them."""


@dataclass(slots=True)
class Disturbances:
    """Of one event loop, or of all together."""

    departures: dict[str, int] = field(default_factory=dict)
    """Lines that run, by uid of pods that the table does not name any more."""
    lines: dict[str, list[int]] | None = None
    """By tier: lost, re-routed and downgraded; None: not asked for."""

    def say(self) -> dict[str, Any]:
        """As JSON values, for another process."""
        return {"departures": self.departures, "lines": self.lines}


def count_lines(metrics: Metrics) -> dict[str, list[int]]:
    """By tier: lines lost, re-routed and downgraded since the event loop began."""
    found: dict[str, list[int]] = {}
    for (archetype, tier), series in metrics.items():
        if not archetype:
            continue
        sums = found.setdefault(tier, [0, 0, 0])
        sums[0] += sum(count for reason, count in series.errors.items() if reason in LOST)
        sums[1] += series.retries + series.resumed
        sums[2] += sum(series.degraded.values())
    return found


def add_up(said: Iterable[Mapping[str, Any]]) -> Disturbances:
    """What several event loops said, together."""
    total = Disturbances()
    for one in said:
        for uid, count in one["departures"].items():
            total.departures[uid] = total.departures.get(uid, 0) + count
        for tier, counts in (one["lines"] or {}).items():
            total.lines = {} if total.lines is None else total.lines
            known = total.lines.get(tier, [0, 0, 0])
            total.lines[tier] = [mine + theirs for mine, theirs in zip(known, counts, strict=True)]
    return total


@dataclass(frozen=True, slots=True)
class Report:
    """What the operator is told."""

    counted: wire.Stamp = wire.NO_STAMP
    pods: frozenset[str] = frozenset()
    """Uids of the pods in that table."""
    departures: tuple[wire.Departure, ...] = ()
    lines: tuple[wire.TierLines, ...] = ()

    def is_news(self, before: Report) -> bool:
        """Whether somebody who waits must hear of it. Not of every table: of one that names other pods, because of one
        that it left out somebody waits to hear that no line runs, and of the first of each leader, who knows no other.
        """
        if (self.departures, self.lines, self.pods) != (before.departures, before.lines, before.pods):
            return True
        return self.counted.epoch != before.counted.epoch


class DisturbanceWatch:
    """Looks, and tells what it found whether it changed or not. `table` is the one that is in force everywhere."""

    def __init__(
        self,
        *,
        ask: Callable[[bool], Awaitable[Disturbances]],
        table: Callable[[], CompiledTable | None],
        tell: Callable[[Report], None],
    ) -> None:
        self._ask = ask
        self._table = table
        self._tell = tell
        self._known = Report()

    async def watch_for_ever(self) -> None:
        """Run until cancelled."""
        looks = 0
        while True:
            await self.look(lines=looks % LINES_EVERY == 0)
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, *, lines: bool) -> None:
        """One look. Which table is in force is read before: what is counted then was counted under it or a newer
        one."""
        table = self._table()
        found = await self._ask(lines)
        told = self._known.lines
        if found.lines is not None:
            told = tuple(
                wire.TierLines(tier=tier, lost=lost, rerouted=rerouted, downgraded=downgraded)
                for tier, (lost, rerouted, downgraded) in sorted(found.lines.items())
                if lost or rerouted or downgraded
            )
        departures = tuple(wire.Departure(uid=uid, lines=count) for uid, count in sorted(found.departures.items()))
        if table is None:
            self._known = Report(lines=told)
        else:
            pods = frozenset(endpoint.key.uid for endpoint in table.endpoints)
            self._known = Report(table.stamp, pods, departures, told)
        self._tell(self._known)
