"""The end of a leadership: thousands of pods are forgotten within the Lease's short patience."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from npc_operator.api import names
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.metrics import Metrics
from npc_operator.domain.facts import AgentFact, Pod
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Outside, PortError
from npc_operator.settings import read_settings
from npc_operator.wiring.term import Leadership
from tests.component.operator.harness import FakeStamps
from tests.support.builders import agent_fact
from tests.support.fake_clock import FakeClock, run_virtual
from tests.support.fake_kube import FakeKube

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "gold-spot-1",
        "namespace": "eu",
        "labels": {
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_COMPONENT: names.COMPONENT_ENGINE,
            names.LABEL_TIER: "gold",
        },
    },
    "status": {"phase": "Running", "podIP": "10.0.0.1"},
}


class ListOnly(FakeKube):
    """Lists, and is silent where something is watched or read."""

    async def request(self, *_: object, **__: object) -> NoReturn:
        raise PortError("no answer")

    list_version = request

    def watch(self, *_: object, **__: object) -> NoReturn:
        raise PortError("no answer")


class Noting:
    """Decisions that note what they are asked about, and decide nothing."""

    interruptions = SimpleNamespace()

    def __init__(self) -> None:
        self.asked: list[Change] = []

    def begin(self, store: Store, outside: Outside) -> Any:
        return self

    def triggers(self, store: Store, change: Change) -> Iterable[Key]:
        self.asked.append(change)
        return ()

    async def reconcile(self, key: Key, /) -> Outcome:
        return Done()


def test_what_is_forgotten_at_the_end_concerns_nobody() -> None:
    async def scenario(clock: FakeClock) -> None:
        store, decisions = Store(clock), Noting()
        kube = ListOnly()
        kube.put(POD)
        leadership = Leadership(
            settings=read_settings(["run", "--fleet-image=x"], {}),
            store=store,
            kube=cast(KubeClient, kube),
            clock=clock,
            metrics=Metrics(),
            decisions=decisions,
            stamps=FakeStamps(1),
            heard=lambda _kind: None,
        )
        running = asyncio.create_task(leadership.run())
        await asyncio.sleep(60)  # in virtual time: everything was listed, and its polls are begun
        (pod,) = store.all(Pod)
        store.put(AgentFact, pod.namespace, pod.name, agent_fact(pod))
        assert decisions.asked[-1].new is not None
        count = len(decisions.asked)
        running.cancel()
        await asyncio.wait({running})
        assert store.get(AgentFact, pod.namespace, pod.name) is None
        assert decisions.asked[count:] == []

    run_virtual(scenario)
