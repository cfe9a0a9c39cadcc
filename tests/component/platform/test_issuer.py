"""The keys of service account tokens: read when somebody wants them, read again, and kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from npc_operator.clients.issuer import DISCOVERY, KEYS, REFRESH_SECONDS, IssuerWatch, parse_issuer
from npc_operator.clients.resources import Resource
from npc_operator.domain.facts import ISSUER, IssuerFact, Region
from npc_operator.loop.store import Store
from npc_operator.ports import PortError
from tests.support.builders import NAMESPACE, region_fact
from tests.support.fake_clock import FakeClock, run_virtual, settle

ACCOUNTS = {"audience": "npc", "allowed": ["game:server"]}
WANTS = region_fact(spec={"gateway": {"auth": {"mode": "None", "serviceAccounts": ACCOUNTS}}})


class Server:
    """An API server that has these two documents, or fails."""

    def __init__(self) -> None:
        self.keys: Any = {"keys": [{"kid": "1"}]}
        self.broken: PortError | None = None
        self.asked: list[str] = []

    async def request(self, verb: str, resource: Resource, path: str, *, accept: str = "application/json") -> Any:
        assert verb == "get"
        assert accept == {DISCOVERY: "application/json", KEYS: "application/jwk-set+json"}[path]
        self.asked.append(path)
        if self.broken is not None:
            raise self.broken
        return {DISCOVERY: {"issuer": "https://cluster"}, KEYS: self.keys}[path]


@contextlib.asynccontextmanager
async def watching(clock: FakeClock, *regions: Region) -> AsyncIterator[tuple[Store, Server]]:
    store, server = Store(clock), Server()
    for region in regions:
        store.put(Region, NAMESPACE, region.meta.name, region)
    task = asyncio.create_task(IssuerWatch(kube=server, store=store, jitter=lambda: 0.5).run())
    await settle()
    try:
        yield store, server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def known(store: Store) -> IssuerFact | None:
    return store.get(IssuerFact, "", ISSUER)


def test_nobody_is_asked_until_a_region_wants_it_and_then_at_once() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with watching(clock, region_fact()) as (store, server):
            await asyncio.sleep(3600)
            assert server.asked == []
            store.put(Region, NAMESPACE, "eu-west", WANTS)
            await settle()
            assert known(store) == IssuerFact("https://cluster", '{"keys":[{"kid":"1"}]}')

    run_virtual(scenario)


def test_it_is_read_again_every_ten_minutes_and_kept_while_it_cannot_be() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with watching(clock, WANTS) as (store, server):
            first = known(store)
            server.broken = PortError("not now")
            await asyncio.sleep(REFRESH_SECONDS + 30)
            assert known(store) == first
            assert len(server.asked) > 2
            server.broken, server.keys = None, {"keys": [{"kid": "2"}]}
            await asyncio.sleep(61)
            fact = known(store)
            assert fact is not None
            assert fact.keys == '{"keys":[{"kid":"2"}]}'
            before = len(server.asked)
            await asyncio.sleep(REFRESH_SECONDS - 62)
            assert len(server.asked) == before
            await asyncio.sleep(63)
            assert len(server.asked) == before + 2

    run_virtual(scenario)


def test_keys_that_were_never_read_are_told_with_the_reason_and_asked_for_soon() -> None:
    async def scenario(clock: FakeClock) -> None:
        async with watching(clock) as (store, server):
            server.broken = PortError("get JSONWebKeySet: Forbidden", reason="Forbidden", retryable=False)
            store.put(Region, NAMESPACE, "eu-west", WANTS)
            await settle()
            assert known(store) == IssuerFact(error="get JSONWebKeySet: Forbidden")
            server.broken = None
            await asyncio.sleep(1.1)
            fact = known(store)
            assert fact is not None
            assert fact.issuer == "https://cluster"
            assert not fact.error

    run_virtual(scenario)


@pytest.mark.parametrize(
    ("discovery", "keys"),
    [
        ({}, {"keys": [{}]}),
        ([], {"keys": [{}]}),
        ({"issuer": ""}, {"keys": [{}]}),
        ({"issuer": "x"}, {"keys": []}),
        ({"issuer": "x"}, {"keys": "none"}),
        ({"issuer": "x"}, "none"),
        ({"issuer": "x"}, {"keys": ["k" * 70_000]}),
    ],
)
def test_what_is_no_issuer_is_refused(discovery: Any, keys: Any) -> None:
    with pytest.raises(PortError):
        parse_issuer(discovery, keys)
