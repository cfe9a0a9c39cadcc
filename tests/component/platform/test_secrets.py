"""Secrets: exactly those that somebody refers to, and nothing of them left when nobody does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from npc_operator.clients.secrets import Secrets, trust_of
from npc_operator.domain.facts import CertificateFact, Child, SecretFact
from npc_operator.edge.parse import learn, parse, unlearn
from npc_operator.loop.store import Store
from npc_operator.ports import Manifest, PortError
from npc_operator.reconcilers.material import make_certificate
from tests.support import builders
from tests.support.builders import NAMESPACE
from tests.support.fake_clock import FakeClock, run_virtual


def encode(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


class Vault:
    """Secrets on an API server, listed and watched by name."""

    def __init__(self) -> None:
        self.live: dict[str, dict[str, Any]] = {}
        self.watchers: dict[str, list[asyncio.Queue[tuple[str, Manifest] | PortError]]] = {}
        self.asked: list[tuple[str, bool]] = []
        self.refuse: Exception | None = None
        self.expires = False
        """Every watch finds its beginning too old."""
        self._version = 10

    def set(self, name: str, **values: str) -> None:
        self._version += 1
        meta = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "resourceVersion": str(self._version),
            "managedFields": [{"manager": "npc-operator"}, {"manager": "kubectl"}],
            "annotations": {"a": "b"},
        }
        known = name in self.live
        self.live[name] = {"metadata": meta, "data": encode(**values)}
        self._tell(name, "MODIFIED" if known else "ADDED", self.live[name])

    def delete(self, name: str) -> None:
        self._tell(name, "DELETED", self.live.pop(name))

    def fail_watches(self, error: PortError) -> None:
        for name in list(self.watchers):
            for queue in self.watchers[name]:
                queue.put_nowait(error)

    def _tell(self, name: str, event: str, secret: Manifest) -> None:
        for queue in self.watchers.get(name, []):
            queue.put_nowait((event, secret))

    async def list_version(
        self, api_version: str, kind: str, *, namespace: str, name: str, metadata_only: bool = False
    ) -> tuple[Manifest | None, str]:
        self.asked.append((name, metadata_only))
        if self.refuse is not None:
            raise self.refuse
        return self._shown(self.live.get(name), metadata_only), str(self._version)

    async def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str, metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, Manifest]]:
        await asyncio.sleep(0.001)
        if self.expires:
            raise PortError("too old", reason="Expired")
        queue: asyncio.Queue[tuple[str, Manifest] | PortError] = asyncio.Queue()
        self.watchers.setdefault(name, []).append(queue)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, PortError):
                    raise item
                shown = self._shown(item[1], metadata_only)
                assert shown is not None
                yield item[0], shown
        finally:
            self.watchers[name].remove(queue)

    @staticmethod
    def _shown(secret: Manifest | None, metadata_only: bool) -> Manifest | None:
        return {"metadata": secret["metadata"]} if secret is not None and metadata_only else secret


@contextlib.asynccontextmanager
async def following(clock: FakeClock, vault: Vault) -> AsyncIterator[Store]:
    store = Store(clock)
    task = asyncio.create_task(Secrets(source=vault, store=store, jitter=lambda: 1.0).run())
    await asyncio.sleep(0)
    try:
        yield store
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert store.count(SecretFact) == 0, "values are forgotten with the leadership"
        assert not any(vault.watchers.values())


def put(store: Store, manifest: dict[str, Any], version: int = 1) -> None:
    manifest["metadata"]["resourceVersion"] = str(version)
    learn(store, parse(manifest["apiVersion"], manifest["kind"], manifest))


def drop(store: Store, manifest: dict[str, Any]) -> None:
    unlearn(store, parse(manifest["apiVersion"], manifest["kind"], manifest))


def values(store: Store, name: str) -> dict[str, str] | None:
    fact = store.get(SecretFact, NAMESPACE, name)
    return None if fact is None else dict(fact.data)


def test_the_api_keys_of_a_region_are_known_and_follow_every_change() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("keys", studio="one")
        vault.set("unrelated", x="y")
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {"studio": "one"}
            vault.set("keys", studio="one", editor="two")
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {"studio": "one", "editor": "two"}
            vault.delete("keys")
            await asyncio.sleep(0.01)
            fact = store.get(SecretFact, NAMESPACE, "keys")
            assert fact is not None
            assert (fact.resource_version, dict(fact.data)) == ("", {})
            assert "unrelated" not in {name for name, _ in vault.asked}

    run_virtual(scenario)


def test_a_secret_that_does_not_exist_is_known_not_to_and_appears_when_it_is_made() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        async with following(clock, vault) as store:
            assert values(store, "keys") is None, "nobody looked: unknown"
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {}, "looked, and it is not there"
            vault.set("keys", studio="one")
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {"studio": "one"}

    run_virtual(scenario)


def test_our_own_secrets_are_followed_with_their_metadata_and_the_routes_by_metadata_alone() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("npc-fleet-internal", token="t")
        vault.set("eu-west-routes", table="big")
        async with following(clock, vault) as store:
            put(store, builders.region("eu-west"))
            await asyncio.sleep(0.01)
            child = store.get(Child, NAMESPACE, "Secret/npc-fleet-internal")
            assert child is not None
            assert child.manifest["metadata"]["annotations"] == {"a": "b"}
            assert [entry["manager"] for entry in child.manifest["metadata"]["managedFields"]] == ["npc-operator"]
            assert "data" not in child.manifest
            assert store.get(Child, NAMESPACE, "Secret/eu-west-routes") is not None
            assert values(store, "eu-west-routes") is None
            assert ("eu-west-routes", True) in vault.asked
            vault.delete("eu-west-routes")
            await asyncio.sleep(0.01)
            assert store.get(Child, NAMESPACE, "Secret/eu-west-routes") is None

    run_virtual(scenario)


def test_a_secret_two_refer_to_is_kept_until_both_let_go() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("shared", k="v")
        async with following(clock, vault) as store:
            region = builders.region(auth="shared")
            tier = builders.tier(model={"secretRef": {"name": "shared"}})
            put(store, region)
            put(store, tier)
            await asyncio.sleep(0.01)
            assert [name for name, _ in vault.asked].count("shared") == 1
            drop(store, region)
            await asyncio.sleep(0.01)
            assert values(store, "shared") == {"k": "v"}
            drop(store, tier)
            await asyncio.sleep(0.01)
            assert values(store, "shared") is None
            assert not any(vault.watchers.values())

    run_virtual(scenario)


def test_a_reference_that_changes_follows_the_new_name() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("old", k="1")
        vault.set("new", k="2")
        async with following(clock, vault) as store:
            put(store, builders.region(auth="old"), version=1)
            await asyncio.sleep(0.01)
            put(store, builders.region(auth="new"), version=2)
            await asyncio.sleep(0.01)
            assert values(store, "old") is None
            assert values(store, "new") == {"k": "2"}

    run_virtual(scenario)


def test_a_watch_that_breaks_is_taken_up_again_and_nothing_is_forgotten_meanwhile() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("keys", studio="one")
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(0.01)
            vault.refuse = PortError("connection refused", reason="Unreachable")
            vault.fail_watches(PortError("reset", reason="Unreachable"))
            await asyncio.sleep(30)
            assert values(store, "keys") == {"studio": "one"}
            vault.set("keys", studio="two")
            vault.refuse = None
            await asyncio.sleep(5)
            assert values(store, "keys") == {"studio": "two"}

    run_virtual(scenario)


def test_an_answer_that_nobody_expected_ends_no_following() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.refuse = ValueError("not JSON")
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(1)
            vault.refuse = None
            vault.set("keys", studio="one")
            await asyncio.sleep(6)
            assert values(store, "keys") == {"studio": "one"}

    run_virtual(scenario)


def test_a_watch_that_expired_is_begun_anew_at_once() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(0.01)
            before = clock.monotonic()
            vault.fail_watches(PortError("too old", reason="Expired"))
            vault.set("keys", studio="one")
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {"studio": "one"}
            assert clock.monotonic() - before < 0.1

    run_virtual(scenario)


def test_a_watch_that_expires_each_time_is_not_begun_anew_without_a_pause() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.expires = True
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(60)
            assert sum(name == "keys" for name, _ in vault.asked) < 20
            vault.expires = False
            vault.set("keys", studio="one")
            await asyncio.sleep(6)
            assert values(store, "keys") == {"studio": "one"}

    run_virtual(scenario)


def test_missing_rights_are_said_with_the_command_that_mends_them(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.refuse = PortError("secrets is forbidden", reason="Forbidden")
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(30)
            assert values(store, "keys") is None, "unknown, not absent"

    with caplog.at_level(logging.WARNING):
        run_virtual(scenario)
    said = [record.getMessage() for record in caplog.records if "keys" in str(getattr(record, "key", ""))]
    assert len(said) == 1, "once, not at every try"
    assert f"helm upgrade --install <region> charts/npc-region -n {NAMESPACE}" in said[0]


def test_values_that_are_not_text_are_left_out() -> None:
    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        vault.set("keys", good="text")
        vault.live["keys"]["data"]["binary"] = base64.b64encode(b"\xff\xfe").decode()
        async with following(clock, vault) as store:
            put(store, builders.region(auth="keys"))
            await asyncio.sleep(0.01)
            assert values(store, "keys") == {"good": "text"}

    run_virtual(scenario)


def test_a_namespaces_identity_is_read_from_its_internal_secret() -> None:
    store = Store(FakeClock())
    trust = trust_of(store)
    assert trust(NAMESPACE) is None
    data = {"ca.crt": "PEM", "token": "new", "token-previous": ""}
    store.put(SecretFact, NAMESPACE, "npc-fleet-internal", SecretFact(NAMESPACE, "npc-fleet-internal", "5", data))
    found = trust(NAMESPACE)
    assert found is not None
    assert (found.ca, found.tokens) == ("PEM", ("new",))
    assert "new" not in repr(found)


def test_of_a_certificate_only_what_is_to_be_said_of_it_is_kept() -> None:
    made = make_certificate("game", 1_790_000_000.0)

    async def scenario(clock: FakeClock) -> None:
        vault = Vault()
        region = builders.region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}})
        async with following(clock, vault) as store:
            put(store, region)
            await asyncio.sleep(0.01)
            assert store.get(CertificateFact, NAMESPACE, "cert") == CertificateFact(missing=True)
            vault.set("cert", **{"tls.crt": made.certificate, "tls.key": "hello"})
            await asyncio.sleep(0.01)
            fact = store.get(CertificateFact, NAMESPACE, "cert")
            assert fact == CertificateFact(fault="tls.key holds no private key in PEM form")
            vault.set("cert", **{"tls.crt": made.certificate, "tls.key": made.private_key})
            await asyncio.sleep(0.01)
            fact = store.get(CertificateFact, NAMESPACE, "cert")
            assert fact is not None
            assert (fact.missing, fact.fault) == (False, "")
            assert values(store, "cert") is None, "its key is kept by nobody"
            drop(store, region)
            await asyncio.sleep(0.01)
            assert store.count(CertificateFact) == 0

    run_virtual(scenario)
