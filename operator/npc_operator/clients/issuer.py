"""Who signs the cluster's service account tokens: read from the API server for gateways that let such callers in.

Read when the first region wants it, then every ten minutes: the keys change when the cluster's are rotated, and the API
server tells the new one before it signs with it. What was read once is kept while it cannot be read again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from typing import Any, Protocol

from npc_operator.clients.resources import Resource
from npc_operator.domain.conditions import clip
from npc_operator.domain.facts import ISSUER, IssuerFact, Region
from npc_operator.loop.store import Change, Store
from npc_operator.ports import PortError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 600.0
RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
"""Pauses after reads that failed; the last repeats."""
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/openid/v1/jwks"
"""The API server's own; the address in the discovery document may be one that only the outside can reach."""
KEYS_TYPE = "application/jwk-set+json"
"""The API server gives the keys in no other form (406)."""
MAX_KEYS_CHARACTERS = 65_536


class Asking(Protocol):
    """KubeClient's one request."""

    async def request(self, verb: str, resource: Resource, path: str, *, accept: str = "application/json") -> Any:
        """One request, parsed. Raises PortError."""
        ...


class IssuerWatch:
    """Runs during a leadership. What it learned stays known: it is the cluster's, not the leader's."""

    def __init__(self, *, kube: Asking, store: Store, jitter: Callable[[], float] = random.random) -> None:
        self._kube = kube
        self._store = store
        self._jitter = jitter
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Reads until cancelled."""
        unsubscribe = self._store.subscribe(self._on_change)
        failures = 0
        try:
            while True:
                self._wanted.clear()
                if not any(_wants(region) for region in self._store.all(Region)):
                    await self._wanted.wait()
                    continue
                try:
                    self._learn(await self._read())
                    failures = 0
                    pause = REFRESH_SECONDS * (0.8 + 0.4 * self._jitter())
                except PortError as error:
                    if failures == 0:
                        logger.warning("the keys of service account tokens cannot be read: %s", error)
                    self._despair(error)
                    pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                    failures += 1
                await asyncio.sleep(pause)
        finally:
            unsubscribe()

    def _on_change(self, change: Change) -> None:
        if change.kind is Region and change.new is not None and _wants(change.new):
            self._wanted.set()

    async def _read(self) -> IssuerFact:
        """Raises PortError, also where the answers are not what they should be."""
        found = await self._kube.request("get", Resource("v1", "OpenIDConfiguration", ""), DISCOVERY)
        keys = await self._kube.request("get", Resource("v1", "JSONWebKeySet", ""), KEYS, accept=KEYS_TYPE)
        return parse_issuer(found, keys)

    def _learn(self, fact: IssuerFact) -> None:
        self._store.put(IssuerFact, "", ISSUER, fact)

    def _despair(self, error: PortError) -> None:
        known = self._store.get(IssuerFact, "", ISSUER)
        if known is None or not known.keys:
            self._learn(IssuerFact(error=clip(str(error), 256)))


def _wants(region: Region) -> bool:
    return region.spec.gateway.auth.service_accounts is not None


def parse_issuer(discovery: Any, keys: Any) -> IssuerFact:
    """The two documents as one fact. Raises PortError (reason BadMessage) for anything else."""
    issuer = discovery.get("issuer") if isinstance(discovery, dict) else None
    found = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(issuer, str) or not issuer:
        raise PortError(f"{DISCOVERY} names no issuer", reason="BadMessage")
    if not isinstance(found, list) or not found:
        raise PortError(f"{KEYS} has no keys", reason="BadMessage")
    text = json.dumps({"keys": found}, separators=(",", ":"), sort_keys=True)
    if len(text) > MAX_KEYS_CHARACTERS:
        raise PortError(f"{KEYS} has {len(text)} characters of keys, at most {MAX_KEYS_CHARACTERS}", reason="TooLarge")
    return IssuerFact(issuer=issuer, keys=text)
