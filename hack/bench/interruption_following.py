"""When each pod was heard of, decided about and written down, as the operator's own store has it.

It only looks: a callback of the store for what must be timed to the moment, and a look every 20 ms at the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry

from hack.bench.figures import percentile
from npc_operator.api import names
from npc_operator.domain.facts import Child, NodeFact, Pod
from npc_operator.domain.interruption.tier_view import TierInterruptions
from npc_operator.loop.store import Change, Store

LIMIT_SECONDS = 120.0
LOOK_SECONDS = 0.02
Routed = Callable[[], Iterable[frozenset[str]]]
"""The pods (uids) that each gateway's table in force names."""


class Following:
    """Begins with a world at rest. `found` waits until everything is done about the engine pods on these nodes.

    Raises ValueError where one of them is on no gateway's routes: nothing would have to be done about it.
    """

    def __init__(self, store: Store, going: Collection[str], routed: Routed) -> None:
        self._store = store
        self._routed = routed
        doomed = [pod for pod in engines(store) if pod.node in frozenset(going)]
        self._node_of = {pod.uid: pod.node for pod in doomed}
        if idle := self._node_of.keys() - frozenset().union(*routed()):
            raise ValueError(f"{len(idle)} of {len(doomed)} pods are on no gateway's routes")
        self._wanted = {(pod.namespace, pod.tier): 0 for pod in doomed}
        for pod in doomed:
            self._wanted[pod.namespace, pod.tier] += 1
        for place in self._wanted:
            self._wanted[place] += asked(store, *place)
        self._going = frozenset(self._node_of.values())
        self._begun = asyncio.Event()
        self._told: dict[str, float] = {}
        self._decided: dict[str, float] = {}
        self._written: dict[str, float] = {}
        store.subscribe(self._note)

    async def found(self, limit: float = LIMIT_SECONDS) -> dict[str, Any]:
        """Seconds of every step, and `missing`: those that were not done `limit` seconds after the first notice."""
        await self._begun.wait()
        began, cpu = min(self._told.values()), time.process_time()
        steps = self._steps()
        at: dict[str, float] = {}
        while steps and time.monotonic() - began < limit:
            await asyncio.sleep(LOOK_SECONDS)
            for name in [name for name, done in steps.items() if done()]:
                at[name] = time.monotonic()
                del steps[name]
        spent = time.process_time() - cpu
        last = max(self._told.values())
        waits = [self._decided[uid] - self._told[node] for uid, node in self._node_of.items() if uid in self._decided]
        result: dict[str, Any] = {
            "pods": len(self._node_of),
            "missing": sorted(steps),
            "first event at": began,
            "last event at": last,
            "CPU, s": spent,
        }
        if not steps:
            result |= {f"{name}, s": moment - began for name, moment in at.items()}
            result["written down at every pod, s"] = max(self._written.values()) - began
            result["last notice -> replacements, s"] = at["replacements asked for"] - last
            result["notice -> decided, median, s"] = percentile(waits, 0.5)
            result["notice -> decided, worst, s"] = max(waits)
        return result

    def _note(self, change: Change) -> None:
        if change.new is None:
            return
        if change.kind is TierInterruptions:
            for one in change.new.draining:
                self._decided.setdefault(one.uid, time.monotonic())
        elif change.kind is NodeFact and change.new.notices and change.name in self._going:
            self._told.setdefault(change.name, time.monotonic())
            self._begun.set()
        elif change.kind is Pod and change.new.interruption:
            self._written.setdefault(change.new.uid, time.monotonic())

    def _steps(self) -> dict[str, Callable[[], bool]]:
        uids = frozenset(self._node_of)
        return {
            "every node heard of": lambda: len(self._told) == len(self._going),
            "decided": lambda: self._decided.keys() >= uids,
            "replacements asked for": lambda: all(
                asked(self._store, *place) >= count for place, count in self._wanted.items()
            ),
            "off every gateway's routes": lambda: not any(uids & table for table in self._routed()),
            "written down at every pod": lambda: self._written.keys() >= uids,
        }


def engines(store: Store) -> Iterator[Pod]:
    """Every engine pod that is known."""
    return (pod for pod in store.all(Pod) if pod.component == names.COMPONENT_ENGINE)


def asked(store: Store, namespace: str, tier: str) -> int:
    """Pods that both Deployments of a tier ask for, as the API server has them."""
    found = (store.get(Child, namespace, f"Deployment/{tier}-{one}") for one in ("on-demand", "spot"))
    return sum(int(one.manifest["spec"]["replicas"]) for one in found if one is not None)


def count_samples(registry: CollectorRegistry, family: str, ending: str) -> dict[tuple[str, ...], float]:
    """Values of one family's samples by their labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for found in registry.collect()
        if found.name == family
        for sample in found.samples
        if sample.name == f"{family}{ending}"
    }
