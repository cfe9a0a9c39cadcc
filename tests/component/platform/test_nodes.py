"""The watch of nodes: lists in pages, follows, comes back after what ends it, and says what it may not see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from npc_operator.clients import nodes
from npc_operator.clients.nodes import NodeWatch
from npc_operator.clients.resources import Resource
from npc_operator.domain.facts import NodeFact
from npc_operator.domain.interruption.visibility import NODES, NodesFact
from npc_operator.loop.store import Store
from npc_operator.ports import Manifest, PortError
from npc_operator.wiring.process import SystemClock

CORDONED = {"unschedulable": True}


def node(name: str, version: int, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "spec": spec, "status": {}}


class Source:
    """An API server with nodes; what is put into `news` comes over the watch."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = list(pages)
        self.news: asyncio.Queue[tuple[str, dict[str, Any]] | PortError | None] = asyncio.Queue()
        self.refusal: PortError | None = None
        self.lists = 0
        self.since: list[str] = []

    async def request(self, verb: str, resource: Resource, path: str, *, params: Mapping[str, str]) -> Any:
        assert (verb, path) == ("list", "/api/v1/nodes")
        if self.refusal is not None:
            raise self.refusal
        number = int(params.get("continue", 0))
        self.lists += number == 0
        meta = {"resourceVersion": "100"}
        if number + 1 < len(self.pages):
            meta["continue"] = str(number + 1)
        return {"metadata": meta, "items": self.pages[number]}

    async def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str
    ) -> AsyncIterator[tuple[str, Manifest]]:
        assert (kind, namespace, name) == ("Node", "", "")
        self.since.append(since)
        while (event := await self.news.get()) is not None:
            if isinstance(event, PortError):
                raise event
            yield event


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "RETRY_SECONDS", (0.001,))


@asynccontextmanager
async def watching(
    source: Source, words: list[str] | None = None, *, store: Store | None = None
) -> AsyncIterator[Store]:
    """`words`: gets what is strange; `store`: that of an earlier leadership."""
    store = Store(SystemClock()) if store is None else store
    strange = [] if words is None else words
    watch = NodeWatch(source=source, store=store, strange=strange.append)
    task = asyncio.create_task(watch.run())
    try:
        yield store
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for is in a store without events of its own
            await asyncio.sleep(0.002)


def names(store: Store) -> set[str]:
    return set(store.list(NodeFact, ""))


async def test_all_pages_are_read_before_what_is_missing_means_anything() -> None:
    source = Source([node("a", 1)], [node("b", 2)], [node("c", 3)])
    async with watching(source) as store:
        await until(lambda: store.synced(NodeFact))
        assert names(store) == {"a", "b", "c"}
        await until(lambda: source.since == ["100"])


async def test_news_come_and_nodes_go() -> None:
    source = Source([node("a", 1), node("b", 2)])
    async with watching(source) as store:
        source.news.put_nowait(("MODIFIED", node("a", 5, **CORDONED)))
        source.news.put_nowait(("DELETED", node("b", 6)))
        await until(lambda: names(store) == {"a"})
        fact = store.get(NodeFact, "", "a")
        assert fact is not None
        assert fact.cordoned


async def test_a_watch_that_ends_goes_on_where_it_was_and_one_that_is_too_old_begins_anew() -> None:
    source = Source([node("a", 1), node("b", 2)])
    async with watching(source) as store:
        source.news.put_nowait(("MODIFIED", node("a", 7)))
        source.news.put_nowait(None)
        await until(lambda: source.since == ["100", "7"])
        source.pages = [[node("a", 9)]]
        source.news.put_nowait(PortError("too old", reason="Expired", code=410))
        await until(lambda: source.lists == 2)
        await until(lambda: names(store) == {"a"})


async def test_what_breaks_is_tried_again_and_nothing_is_forgotten_meanwhile() -> None:
    source = Source([node("a", 1)])
    async with watching(source) as store:
        await until(lambda: store.synced(NodeFact))
        source.news.put_nowait(PortError("away", reason="Unreachable"))
        source.news.put_nowait(("MODIFIED", {"metadata": "nonsense"}))
        source.pages = [[node("a", 8, **CORDONED)]]
        await until(lambda: source.lists == 2)
        await until(lambda: bool((fact := store.get(NodeFact, "", "a")) and fact.cordoned))


async def test_the_end_of_the_watch_forgets_what_may_change_unseen() -> None:
    source = Source([node("a", 1), node("b", 2)])
    async with watching(source) as store:
        await until(lambda: names(store) == {"a", "b"})
    assert names(store) == set()
    source.pages = [[node("a", 1)]]
    async with watching(source, store=store):
        await until(lambda: names(store) == {"a"})


async def test_whoever_may_not_see_nodes_says_what_to_grant_once_and_waits_for_none(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "FORBIDDEN_SECONDS", 0.001)
    source = Source([node("a", 1)])
    source.refusal = PortError("no", reason="Forbidden", code=403)
    with caplog.at_level(logging.WARNING):
        async with watching(source) as store:
            await until(lambda: store.synced(NodeFact))
            await asyncio.sleep(0.05)
            assert [record.message.count("ClusterRole") for record in caplog.records] == [1]
            assert store.get(NodesFact, "", NODES) == NodesFact(hidden=True)
            source.refusal = None
            await until(lambda: names(store) == {"a"})
            await until(lambda: store.get(NodesFact, "", NODES) == NodesFact(hidden=False))


async def test_rights_that_are_taken_away_and_given_back_between_two_watches_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that runs is not ended by that: the next one is refused."""
    monkeypatch.setattr(nodes, "FORBIDDEN_SECONDS", 0.001)
    source = Source([node("a", 1)])
    with caplog.at_level(logging.WARNING):
        async with watching(source) as store:
            await until(lambda: source.since == ["100"])
            source.news.put_nowait(None)
            await until(lambda: len(source.since) == 2)
            source.refusal = PortError("no", reason="Forbidden", code=403)
            source.news.put_nowait(source.refusal)
            await until(lambda: store.get(NodesFact, "", NODES) == NodesFact(hidden=True))
            assert [record.message.count("ClusterRole") for record in caplog.records] == [1]
            source.refusal = None
            await until(lambda: store.get(NodesFact, "", NODES) == NodesFact(hidden=False))


async def test_what_a_sender_says_anew_is_counted_once_per_node() -> None:
    taint = {"key": "aws-node-termination-handler/brand-new", "effect": "NoSchedule"}
    words: list[str] = []
    source = Source([node("a", 1, taints=[taint])])
    async with watching(source, words) as store:
        await until(lambda: store.synced(NodeFact))
        source.news.put_nowait(("MODIFIED", node("a", 2, taints=[taint], **CORDONED)))
        source.news.put_nowait(("ADDED", node("b", 3, taints=[taint])))
        await until(lambda: names(store) == {"a", "b"})
        assert words == ["NodeTerminationHandler/UnknownTaint"] * 2
