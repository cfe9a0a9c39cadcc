"""Knows exactly those Secrets that somebody refers to: one named watch each, so the rights can stay as narrow as
names, and nothing else is read. Of the certificate for game servers only what is to be said of it is kept.

Who refers to what is counted from the custom resources in the store, so a reference that appears is watched at once
and one that goes is forgotten together with its values. Values live in SecretFact only; metadata of our own Secrets
is kept as Child like that of all children.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from npc_operator.api.names import MANAGER_CHILDREN, SECRET_ENGINE_KEY, SECRET_INTERNAL, routes_secret
from npc_operator.clients.certificates import read_certificate
from npc_operator.clients.supervision import Broken
from npc_operator.clients.transport import Trust
from npc_operator.domain.facts import Adapter, CertificateFact, Child, Region, SecretFact, Tier
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Manifest, PortError

logger = logging.getLogger(__name__)

OURS = (SECRET_INTERNAL, SECRET_ENGINE_KEY)
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)


class SecretSource(Protocol):
    """What is needed of the API server (clients.kube.KubeClient)."""

    async def list_version(
        self, api_version: str, kind: str, *, namespace: str, name: str, metadata_only: bool = False
    ) -> tuple[Manifest | None, str]: ...

    def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str, metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, Manifest]]: ...


def references(fact: object) -> frozenset[str]:
    """Names of the Secrets whose values a fact needs, our own per-namespace ones included."""
    match fact:
        case Region(spec=spec):
            auth = spec.gateway.auth.secret_ref
            return frozenset((*OURS, *((auth.name,) if auth else ())))
        case Tier(spec=spec):
            model = spec.model.secret_ref
            return frozenset((*OURS, *((model.name,) if model else ())))
        case Adapter(spec=spec, status=status):
            wanted = [variant.source.secret_ref for variant in spec.variants]
            for one in status.variants:
                wanted += [revision.secret_ref for revision in (one.stable, one.candidate) if revision is not None]
            return frozenset((*OURS, *(ref.name for ref in wanted if ref is not None)))
        case _:
            return frozenset()


def metadata_references(fact: object) -> frozenset[str]:
    """Names of the Secrets of which only the metadata matters: ours, with contents nobody compares."""
    return frozenset({routes_secret(fact.meta.name)}) if isinstance(fact, Region) else frozenset()


def certificate_references(fact: object) -> frozenset[str]:
    """Names of the Secrets with a certificate for game servers."""
    tls = fact.spec.gateway.tls if isinstance(fact, Region) else None
    return frozenset() if tls is None else frozenset({tls.secret_name})


class Use(StrEnum):
    """What of a Secret is needed."""

    VALUES = "values"
    METADATA = "metadata"
    CERTIFICATE = "certificate"


class Secrets:
    """Runs during a leadership; afterwards all values are forgotten."""

    def __init__(self, *, source: SecretSource, store: Store, jitter: Callable[[], float] = random.random) -> None:
        self._source = source
        self._store = store
        self._jitter = jitter
        self._wanted: Counter[tuple[str, str, Use]] = Counter()
        self._tasks: dict[tuple[str, str, Use], asyncio.Task[None]] = {}
        self._broken = Broken()

    async def run(self) -> None:
        """Follows the references in the store until cancelled. Raises what ended a watch by itself."""
        unsubscribe = self._store.subscribe(self._on_change)
        try:
            for kind in (Region, Tier, Adapter):
                for namespace, _, fact in self._store.items(kind):
                    self._want(namespace, None, fact)
            await self._broken.wait()
        finally:
            unsubscribe()
            running = list(self._tasks.values())
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
            for key in list(self._tasks):
                self._forget(key)
            self._tasks.clear()
            self._wanted.clear()

    def _on_change(self, change: Change) -> None:
        if change.kind in (Region, Tier, Adapter):
            self._want(change.namespace, change.old, change.new)

    def _want(self, namespace: str, old: object, new: object) -> None:
        before, after = _keys(namespace, old), _keys(namespace, new)
        for key in after - before:
            self._wanted[key] += 1
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._follow(*key), name=f"{key[2]} of secret {key[0]}/{key[1]}")
                self._tasks[key].add_done_callback(self._broken.look_at)
        for key in before - after:
            self._wanted[key] -= 1
            if self._wanted[key] <= 0:
                del self._wanted[key]
                task = self._tasks.pop(key, None)
                if task is not None:
                    task.cancel()
                    self._forget(key)

    def _forget(self, key: tuple[str, str, Use]) -> None:
        namespace, name, use = key
        if use is Use.CERTIFICATE:
            self._store.drop(CertificateFact, namespace, name)
            return
        if use is Use.VALUES:
            self._store.drop(SecretFact, namespace, name)
        if use is Use.METADATA or name in OURS:
            self._store.drop(Child, namespace, f"Secret/{name}")

    async def _follow(self, namespace: str, name: str, use: Use) -> None:
        failures, expired, metadata_only = 0, 0, use is Use.METADATA
        while True:
            try:
                found, since = await self._source.list_version(
                    "v1", "Secret", namespace=namespace, name=name, metadata_only=metadata_only
                )
                self._learn(namespace, name, found, use)
                # A list that succeeds is no success yet: what comes of it may be too old, or refused, each time.
                async for kind, secret in self._source.watch(
                    "v1", "Secret", namespace=namespace, name=name, since=since, metadata_only=metadata_only
                ):
                    self._learn(namespace, name, None if kind == "DELETED" else secret, use)
                    failures = expired = 0
            except PortError as error:
                if error.reason == "Expired":
                    expired += 1
                    if expired == 1:
                        continue
                elif failures == 0:
                    self._complain(namespace, name, error)
            except Exception:
                # Whatever a proxy answered or a parser made of it: nobody else would begin to follow this Secret again.
                logger.exception("cannot follow the Secret", extra={"key": f"secret/{namespace}/{name}"})
            else:
                failures = expired = 0
                continue  # the server ends every watch after a while
            pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            failures += 1
            await asyncio.sleep(pause * (0.8 + 0.2 * self._jitter()))

    def _complain(self, namespace: str, name: str, error: PortError) -> None:
        mend = ""
        if error.reason == "Forbidden":
            mend = (
                f" The operator may not read Secrets in {namespace}; the rights come with the region's chart:"
                f" helm upgrade --install <region> charts/npc-region -n {namespace}"
            )
        logger.warning("cannot watch the Secret: %s.%s", error, mend, extra={"key": f"secret/{namespace}/{name}"})

    def _learn(self, namespace: str, name: str, found: Manifest | None, use: Use) -> None:
        if use is Use.CERTIFICATE:
            self._store.put(CertificateFact, namespace, name, read_certificate(found))
            return
        if use is Use.VALUES:
            self._store.put(SecretFact, namespace, name, parse_secret(namespace, name, found))
        if use is Use.METADATA or name in OURS:
            if found is None:
                self._store.drop(Child, namespace, f"Secret/{name}")
            else:
                self._store.put(Child, namespace, f"Secret/{name}", child_of(found))


def _keys(namespace: str, fact: object) -> frozenset[tuple[str, str, Use]]:
    wanted = (
        (Use.VALUES, references(fact)),
        (Use.METADATA, metadata_references(fact)),
        (Use.CERTIFICATE, certificate_references(fact)),
    )
    return frozenset((namespace, name, use) for use, names in wanted for name in names)


def parse_secret(namespace: str, name: str, secret: Manifest | None) -> SecretFact:
    """Decoded values; entries that are not UTF-8 text are left out. None becomes a fact without version: looked, and
    not there."""
    if secret is None:
        return SecretFact(namespace=namespace, name=name, resource_version="", data=MappingProxyType({}))
    values: dict[str, str] = {}
    for key, encoded in (secret.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(encoded).decode()
        except (binascii.Error, UnicodeDecodeError):
            logger.info("entry %s is not text and is ignored", key, extra={"key": f"secret/{namespace}/{name}"})
    version = secret["metadata"]["resourceVersion"]
    return SecretFact(namespace=namespace, name=name, resource_version=version, data=MappingProxyType(values))


def child_of(secret: Manifest) -> Child:
    """Metadata alone: whose it is and what is noted on it."""
    meta: dict[str, Any] = dict(secret["metadata"])
    ours = [entry for entry in meta.get("managedFields") or () if entry.get("manager") == MANAGER_CHILDREN]
    meta["managedFields"] = ours
    manifest: Mapping[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
    return Child(
        api_version="v1",
        kind="Secret",
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        manifest=manifest,
    )


def trust_of(store: Store) -> Callable[[str], Trust | None]:
    """How PodTransport finds a namespace's identity: in its internal Secret, as the store knows it at that moment."""

    def trust(namespace: str) -> Trust | None:
        secret = store.get(SecretFact, namespace, SECRET_INTERNAL)
        if secret is None or not secret.data.get("ca.crt"):
            return None
        return Trust(
            ca=secret.data["ca.crt"], tokens=_present(secret.data.get(key) for key in ("token", "token-previous"))
        )

    return trust


def _present(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(value for value in values if value)
