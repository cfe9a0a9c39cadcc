"""Who asks, and what they may: API keys with their policies, service accounts, and everybody where nobody is asked.

A caller is looked up once per connection and table; after that a request costs one comparison. Keys are compared by
hash, all of them, in constant time. How much a caller may ask is in `buckets`, shared by all its connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import orjson

from npc_runtime import wire
from npc_runtime.gateway import errors
from npc_runtime.gateway.buckets import Bucket, keep_buckets, take_from_all
from npc_runtime.gateway.errors import Fault, Refused
from npc_runtime.gateway.identity import Verifier
from npc_runtime.gateway.table import CompiledTable, Key

_REGION: Final = "region"
_KEY: Final = "key:"


class Caller:
    """One key, service account or everybody, as one table describes it."""

    __slots__ = ("_models", "_table", "buckets", "cache_salt", "key", "name")

    def __init__(self, table: CompiledTable, name: str, key: Key | None, buckets: tuple[Bucket, ...]) -> None:
        self._table = table
        self._models: bytes | None = None
        self.name = name
        """For logs: a key's name, or `namespace:name`; empty for everybody."""
        self.key = key
        self.cache_salt = None if key is None else key.cache_salt
        """Put into engine requests, so that no other key's timing tells what this one's prompts were."""
        self.buckets = buckets

    def refusal(self, archetype: str, tier: str) -> Fault | None:
        """Why it may not ask this archetype on this tier. What a tier falls back to is the fleet's own affair."""
        key = self.key
        if key is None:
            return None
        if key.archetypes and archetype not in key.archetypes:
            return errors.archetype_not_allowed(archetype)
        if key.tiers and tier not in key.tiers:
            return errors.tier_not_allowed(tier, sorted(key.tiers & self._table.tiers))
        return None

    def models(self) -> bytes:
        """The body of /v1/models: what it may ask for."""
        if self._models is None:
            listed = [
                {"id": archetype, "object": "model", "created": 0, "owned_by": "npc-fleet"}
                for archetype in sorted(self._table.archetypes)
                if self._may_list(archetype)
            ]
            self._models = orjson.dumps({"object": "list", "data": listed})
        return self._models

    def _may_list(self, archetype: str) -> bool:
        key = self.key
        if key is None:
            return True
        if key.archetypes and archetype not in key.archetypes:
            return False
        return not key.tiers or self._speaks(archetype, key.tiers) or not self._speaks(archetype, self._table.tiers)

    def _speaks(self, archetype: str, tiers: Collection[str]) -> bool:
        return any((tier, archetype) in self._table.aliases for tier in tiers)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a connection showed last, and whom it proved."""

    table: CompiledTable
    header: bytes
    caller: Caller
    valid_until: float | None
    """Unix seconds; None without an end."""


class Callers:
    """Everybody who may ask by the table in force, on one event loop."""

    def __init__(
        self, *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[str, Bucket] = {}
        self._table: CompiledTable | None = None
        self._by_key: Mapping[Key, Caller] = {}
        self._by_subject: dict[str, Caller] = {}
        self._everybody: Caller | None = None
        self._verifier: Verifier | None = None

    def apply(self, table: CompiledTable, *, workers: int) -> None:
        """Go by a new table. Buckets stay as full as they are, and proven tokens proven where nothing of the issuer
        changed."""
        source = table.source
        rates: dict[str, tuple[str, wire.Rate]] = {
            _KEY + key.name: ("key", key.rate) for key in table.keys if key.rate is not None
        }
        if source.rate is not None:
            rates[_REGION] = (_REGION, source.rate)
        self._buckets = keep_buckets(self._buckets, rates, share=source.ready_gateways * workers, now=self._monotonic())
        region = self._buckets_of(_REGION)
        self._table = table
        self._by_key = {
            key: Caller(table, key.name, key, self._buckets_of(_KEY + key.name) + region) for key in table.keys
        }
        self._by_subject = {}
        self._everybody = Caller(table, "", None, region)
        identity = source.identity
        if identity is None:
            self._verifier = None
        elif self._verifier is None or self._verifier.identity != identity:
            self._verifier = Verifier(identity)

    def identify(self, table: CompiledTable, known: Proof | None, header: bytes) -> Proof:
        """Whom an Authorization header proves, given what the connection proved before.

        Raises:
            Refused: 401, or 403 for a service account that may not ask here.

        """
        if known is not None and known.table is table and compare_digest(known.header, header):
            if known.valid_until is None or self._clock() < known.valid_until:
                return known
        elif not table.authentication_required and self._everybody is not None:
            return Proof(table, header, self._everybody, None)
        return self._prove(table, header)

    def take(self, caller: Caller) -> Fault | None:
        """Count one line of a caller; why it may not begin now, if so."""
        if not caller.buckets:
            return None
        held = take_from_all(caller.buckets, self._monotonic())
        if held is None:
            return None
        bucket, wait = held
        return errors.rate_limited(bucket.label, wait, bucket.header_lines(wait))

    def _prove(self, table: CompiledTable, header: bytes) -> Proof:
        scheme, _, presented = header.partition(b" ")
        presented = presented.strip()
        if scheme.lower() != b"bearer" or not presented:
            raise Refused(errors.unauthorized())
        digest = sha256(presented)
        now = self._clock()
        key = table.find_key(digest.hexdigest().encode(), now * 1000)
        if key is not None:
            if key.is_over(now * 1000):
                raise Refused(errors.key_expired(key.name))
            until = None if key.expires_ms is None else key.expires_ms / 1000
            return Proof(table, header, self._by_key[key], until)
        if self._verifier is None or presented.count(b".") != 2:
            raise Refused(errors.unauthorized())
        subject = self._verifier.prove(presented, digest.digest(), now)
        caller = self._by_subject.get(subject.name)
        if caller is None:
            caller = Caller(table, subject.name, None, self._buckets_of(_REGION))
            self._by_subject[subject.name] = caller
        return Proof(table, header, caller, subject.valid_until)

    def _buckets_of(self, name: str) -> tuple[Bucket, ...]:
        bucket = self._buckets.get(name)
        return () if bucket is None else (bucket,)
