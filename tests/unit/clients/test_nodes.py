"""How often the watch of nodes asks an API server that it gets no news from; on a loop that owns its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from npc_operator.clients.nodes import NodeWatch
from npc_operator.clients.resources import Resource
from npc_operator.domain.facts import NodeFact
from npc_operator.loop.store import Store
from npc_operator.ports import Manifest, PortError
from tests.support.fake_clock import FakeClock, run_virtual

EXPIRED = PortError("too old", reason="Expired", code=410)
NO_NEWS: list[tuple[str, Manifest]] = []


@dataclass
class Server:
    """Lists no node; every watch does what it is told, then ends."""

    watched: Callable[[], AsyncIterator[tuple[str, Manifest]]]
    refusal: PortError | None = None
    lists: int = 0
    watches: int = 0

    async def request(self, verb: str, resource: Resource, path: str, *, params: Mapping[str, str]) -> Any:
        self.lists += 1
        if self.refusal is not None:
            raise self.refusal
        return {"metadata": {"resourceVersion": "7"}, "items": []}

    async def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str
    ) -> AsyncIterator[tuple[str, Manifest]]:
        self.watches += 1
        async for event in self.watched():
            yield event


async def ends() -> AsyncIterator[tuple[str, Manifest]]:
    for event in NO_NEWS:
        yield event


async def expired() -> AsyncIterator[tuple[str, Manifest]]:
    async for event in ends():
        yield event
    raise EXPIRED


async def quiet() -> AsyncIterator[tuple[str, Manifest]]:
    await asyncio.sleep(300)
    async for event in ends():
        yield event


async def quiet_then_expired() -> AsyncIterator[tuple[str, Manifest]]:
    async for event in quiet():
        yield event
    raise EXPIRED


async def one_word_then_expired() -> AsyncIterator[tuple[str, Manifest]]:
    yield "MODIFIED", {"metadata": {"name": "a", "resourceVersion": "8"}, "spec": {}, "status": {}}
    await asyncio.sleep(1)
    raise EXPIRED


def asked(server: Server, seconds: float) -> Server:
    async def scenario(clock: FakeClock) -> None:
        store = Store(clock)
        watch = NodeWatch(source=server, store=store, strange=lambda _: None, jitter=lambda: 1.0)
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(seconds)
        assert not task.done()
        assert store.synced(NodeFact) is (server.refusal is None)
        task.cancel()

    run_virtual(scenario)
    return server


@pytest.mark.parametrize("watched", [expired, ends])
def test_a_server_whose_watches_never_hold_is_asked_less_and_less_often(watched: Any) -> None:
    server = asked(Server(watched), 120)
    assert 8 <= server.watches <= 12
    assert server.lists == (server.watches if watched is expired else 1)


def test_a_server_whose_lists_are_always_too_old_is_asked_less_and_less_often() -> None:
    assert 8 <= asked(Server(quiet, refusal=EXPIRED), 120).lists <= 12


@pytest.mark.parametrize("watched", [quiet, quiet_then_expired])
def test_a_quiet_watch_that_the_server_ended_is_followed_by_another_at_once(watched: Any) -> None:
    """However often that happens: a notice must not wait for the longest pause."""
    server = asked(Server(watched), 10 * 300 + 5)
    assert server.watches == 11


def test_news_are_no_failure_however_soon_the_watch_is_too_old_again() -> None:
    server = asked(Server(one_word_then_expired), 60)
    assert 45 <= server.lists <= 60
