"""The operator as a process of its own, whole but for its Agents and Gateways ports, and one that looks on.

`python -m hack.bench.interruption_operator --regions N --folder FOLDER run ...` takes the product's own arguments after
its own. Watches, lists, client, store, triggers, queue, runner, reconcilers, long polls, Secrets, Events and Lease are
those of `npc_operator.wiring`. `settled.json` is written below FOLDER once the fleet is there and nothing moves, and
`found.json` once everything is done about the nodes that were taken away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hack.bench.interruption_following import Following, count_samples, engines
from hack.bench.interruption_plan import ENGINES, GATEWAYS, NODES, going_nodes
from hack.bench.interruption_ports import Agents, Gateways
from hack.bench.waiting import until
from npc_operator.clients.metrics import Metrics
from npc_operator.domain.facts import NodeFact
from npc_operator.edge.logs import set_up_logging
from npc_operator.loop.store import Store
from npc_operator.ports import Outside
from npc_operator.reconcilers import Reconcilers
from npc_operator.settings import Settings, read_settings
from npc_operator.wiring import term
from npc_operator.wiring.fleet import FleetDecisions
from npc_operator.wiring.process import run

SETTLED, FOUND = "settled.json", "found.json"
SETTLE_SECONDS = 600.0
QUIET_SECONDS = 3.0


class FollowedDecisions(FleetDecisions):
    """The product's decisions, and a task that looks at what becomes of them."""

    def __init__(self, settings: Settings, gateways: Gateways, *, regions: int, folder: Path) -> None:
        super().__init__(settings)
        self._gateways, self._regions, self._folder = gateways, regions, folder
        self._looking: asyncio.Task[None] | None = None

    def begin(self, store: Store, outside: Outside) -> Reconcilers:
        if self._looking is not None:
            if (self._folder / SETTLED).exists():
                # What was timed so far belongs to another leadership.
                raise RuntimeError("the Lease was lost during the measurement")
            self._looking.cancel()
        metrics = outside.meter
        assert isinstance(metrics, Metrics)
        self._looking = asyncio.create_task(self._look(store, metrics), name="look on")
        return super().begin(store, outside)

    async def _look(self, store: Store, metrics: Metrics) -> None:
        try:
            await until(lambda: self._complete(store), "a whole fleet", seconds=SETTLE_SECONDS, pause=0.25)
            await _until_quiet(metrics)
            following = Following(store, going_nodes(self._regions), self._gateways.routed.values)
            _write(self._folder / SETTLED, {"engines": sum(1 for _ in engines(store))})
            before = _count(metrics)
            found = await following.found()
            _write(self._folder / FOUND, {**found, **_since(before, _count(metrics))})
        except Exception:
            # Nobody awaits this task while the operator works; its log is what the benchmark shows.
            logging.getLogger(__name__).exception("looking on broke")
            raise

    async def _complete(self, store: Store) -> bool:
        """Every node is known, and every engine pod is on the routes of all gateways of its region."""
        tables = self._gateways.routed
        return (
            store.count(NodeFact) == self._regions * NODES
            and len(tables) == self._regions * GATEWAYS
            and all(len(table) == ENGINES for table in tables.values())
        )


async def _until_quiet(metrics: Metrics) -> None:
    """Until nothing was to be done and nothing but the Lease was written for some seconds."""
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        await asyncio.sleep(0.1)
        readings = metrics.readings
        writes = _writes(metrics)
        if writes != last or readings.queue_depth() or readings.queue_running():
            last, since = writes, time.monotonic()


def _writes(metrics: Metrics) -> float:
    counted = count_samples(metrics.registry, "npc_operator_api_writes", "_total")
    return sum(value for (kind, _), value in counted.items() if kind != "Lease")


def _count(metrics: Metrics) -> dict[str, dict[str, float]]:
    """What is counted from the first notice on, by what it is of."""
    return {
        name: {" ".join(labels): value for labels, value in count_samples(metrics.registry, family, ending).items()}
        for name, family, ending in (
            ("writes", "npc_operator_api_writes", "_total"),
            ("errors", "npc_operator_api_errors", "_total"),
            ("panics", "npc_operator_panics", "_total"),
            ("reconciles", "npc_operator_reconcile_seconds", "_count"),
        )
    }


def _since(before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Only what grew."""
    return {
        name: {what: value - before[name].get(what, 0) for what, value in counts.items()
               if value != before[name].get(what, 0)}
        for name, counts in now.items()
    }  # fmt: skip


def _write(path: Path, found: Mapping[str, Any]) -> None:
    """Whole or not at all: somebody waits for the file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The product's exit codes."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench.interruption_operator", description=__doc__)
    parser.add_argument("--regions", type=int, required=True, help="how many the world has")
    parser.add_argument("--folder", type=Path, required=True, help="where what was found goes")
    own, rest = parser.parse_known_args(arguments)
    settings = read_settings(rest)
    set_up_logging(level=settings.log_level, form=settings.log_format)
    agents, gateways = Agents(), Gateways()
    # The composition root makes its own clients: here, and in this process alone, these stand in their places.
    vars(term).update(AgentClient=lambda **_: agents, GatewayClient=lambda **_: gateways)
    return asyncio.run(run(settings, FollowedDecisions(settings, gateways, regions=own.regions, folder=own.folder)))


if __name__ == "__main__":
    sys.exit(main())
