"""Looking at everything again: what the store learns from lists, and what lists may not undo."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from npc_operator.domain.facts import Adapter, Child, Pod, Region, Unreadable
from npc_operator.edge.kinds import OURS
from npc_operator.edge.parse import identify, learn, parse, unlearn
from npc_operator.edge.resync import Resync
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Manifest, PortError
from tests.support import builders
from tests.support.builders import NAMESPACE
from tests.support.fake_clock import FakeClock, run_virtual
from tests.support.fake_kube import FakeKube

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "gold", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "npc-operator"}},
    "spec": {"ports": [{"port": 80}]},
}


def resync_of(kube: FakeKube, store: Store, clock: FakeClock, *, interval: float = 300.0) -> Resync:
    return Resync(kube=kube, store=store, clock=clock, interval=interval, jitter=lambda: 0.5)


def test_the_first_round_fills_the_store_and_opens_its_gates() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        kube.put(builders.region())
        kube.put(SERVICE)
        kube.put({**SERVICE, "metadata": {"name": "foreign", "namespace": NAMESPACE}})
        assert not store.synced(Region)
        await resync_of(kube, store, clock).first()
        assert store.get(Region, NAMESPACE, "eu-west") is not None
        assert list(store.list(Child, NAMESPACE)) == ["Service/gold"], f"only {OURS}"
        assert all(store.synced(kind) for kind in (Region, Adapter, Pod, Child, Unreadable))

    run_virtual(scenario)


def test_a_second_round_of_an_unchanged_world_is_no_news() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        kube.put(builders.region())
        kube.put(SERVICE)
        resync = resync_of(kube, store, clock)
        await resync.first()
        changes: list[Change] = []
        store.subscribe(changes.append)
        clock.advance(100)
        await resync.round()
        assert changes == []
        assert store.age(Region, NAMESPACE, "eu-west") == 0, "but it was confirmed"

    run_virtual(scenario)


def test_a_round_brings_what_was_missed_and_takes_what_is_gone() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        kube.put(builders.region("one"))
        kube.put(SERVICE)
        resync = resync_of(kube, store, clock)
        await resync.first()
        kube.remove("NPCRegion", NAMESPACE, "one")
        kube.remove("Service", NAMESPACE, "gold")
        kube.put(builders.region("two"))
        await resync.round()
        assert list(store.list(Region, NAMESPACE)) == ["two"]
        assert dict(store.list(Child, NAMESPACE)) == {}

    run_virtual(scenario)


class Overtaken(FakeKube):
    """Things happen between a list's answer and its reading."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[object] = []

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        page = [item async for item in super().list(api_version, kind, namespace=namespace, selector=selector)]
        if kind == "NPCRegion":
            for happen in self.meanwhile:
                happen()  # type: ignore[operator]
            self.meanwhile.clear()
        for item in page:
            yield item


def test_a_list_does_not_undo_what_a_watch_said_meanwhile() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = Overtaken(), Store(clock)

        def hear(event: str, manifest: Manifest) -> None:
            kind = manifest["kind"]
            if event == "DELETED":
                unlearn(store, identify(kind, manifest))
            else:
                learn(store, parse(manifest["apiVersion"], kind, manifest))

        kube.put(builders.region("stays"))
        kube.put(builders.region("goes"))
        kube.listen(hear)
        kube.meanwhile = [
            lambda: kube.remove("NPCRegion", NAMESPACE, "goes"),
            lambda: kube.put(builders.region("comes")),
            lambda: kube.put(builders.region("stays", gateways=7)),
        ]
        await resync_of(kube, store, clock).round()
        assert sorted(store.list(Region, NAMESPACE)) == ["comes", "stays"]
        stays = store.get(Region, NAMESPACE, "stays")
        assert stays is not None
        assert stays.spec.gateway.replicas == 7

    run_virtual(scenario)


def test_an_unreadable_object_is_kept_apart_and_goes_with_its_object() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        odd = builders.region("odd", spec={"defaultTier": 7})
        kube.put(odd)
        kube.put(builders.region("fine"))
        resync = resync_of(kube, store, clock)
        await resync.first()
        found = store.get(Unreadable, NAMESPACE, "NPCRegion/odd")
        assert found is not None
        assert "defaultTier" in found.error
        assert list(store.list(Region, NAMESPACE)) == ["fine"]
        kube.remove("NPCRegion", NAMESPACE, "odd")
        await resync.round()
        assert store.count(Unreadable) == 0

    run_virtual(scenario)


def test_an_object_that_becomes_readable_again_is_no_longer_unreadable() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        kube.put(builders.region(gateways=3))
        resync = resync_of(kube, store, clock)
        await resync.first()
        kube.put(builders.region(spec={"defaultTier": 7}))
        await resync.round()
        last = store.get(Region, NAMESPACE, "eu-west")
        assert last is not None, "what was last understood stays"
        assert last.spec.gateway.replicas == 3
        assert store.count(Unreadable) == 1
        kube.put(builders.region(gateways=5))
        await resync.round()
        assert store.count(Unreadable) == 0

    run_virtual(scenario)


class Failing(FakeKube):
    def __init__(self) -> None:
        super().__init__()
        self.failing = True

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        if self.failing and kind == "Pod":
            raise PortError("away", reason="Unreachable")
        async for item in super().list(api_version, kind, namespace=namespace, selector=selector):
            yield item


def test_half_a_round_opens_no_gate_and_the_first_is_tried_until_it_is_whole() -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = Failing(), Store(clock)
        kube.put(builders.region())
        first = asyncio.create_task(resync_of(kube, store, clock).first())
        await asyncio.sleep(5)
        assert not first.done()
        assert not store.synced(Region)
        kube.failing = False
        await asyncio.sleep(1.1)
        assert first.done()
        assert store.synced(Region)

    run_virtual(scenario)


@pytest.mark.parametrize("wanted", [False, True])
def test_rounds_come_at_their_interval_or_soon_after_somebody_wants_one(wanted: bool) -> None:
    async def scenario(clock: FakeClock) -> None:
        kube, store = FakeKube(), Store(clock)
        resync = resync_of(kube, store, clock, interval=300)
        rounds: list[float] = []

        async def note() -> None:
            rounds.append(clock.monotonic())

        began = clock.monotonic()
        task = asyncio.create_task(resync.run(note))
        if wanted:
            asyncio.get_running_loop().call_later(10, resync.want)
            asyncio.get_running_loop().call_later(10.5, resync.want)
        await asyncio.sleep(400)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        times = [round(when - began) for when in rounds]
        assert times == ([11, 311] if wanted else [300])

    run_virtual(scenario)
