"""The route table as the hot path reads it: parsed and checked once per push, then only looked up.

Everything a request needs is a dictionary access or a ready byte string; nothing here changes after it was built, so
a new table takes effect by replacing one reference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from npc_runtime import wire

log = logging.getLogger(__name__)

_DIGEST = re.compile(wire.DIGEST_PATTERN)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVED_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_ADDRESS = re.compile(r"[0-9A-Za-z.:-]{1,253}")
_KEY_TEXT = re.compile(r"[\x21-\x7e]+")
_HEX = re.compile(r"[0-9a-f]{64}")


class BadTable(ValueError):
    """The route table contradicts itself; nothing of it is applied."""


@dataclass(frozen=True, slots=True)
class Target:
    """One digest an archetype may be answered with on one tier."""

    served_name: str
    digest: str
    headers: bytes
    """Ready header lines that name tier and digest in the answer."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which NPCs a candidate answers."""

    below: int
    """Those in lower buckets,"""
    control_below: int
    """compared with those from there up to here; not above `below` where nobody is compared."""
    pinned: Mapping[bytes, bool]
    """By NPC id, whether the candidate speaks for it, whatever its bucket;"""
    pinned_prefixes: Mapping[bytes, bool]
    """then by how the id begins, the longest beginning first."""
    prefix_lengths: tuple[int, ...]
    """Lengths that occur in `pinned_prefixes`, longest first."""


@dataclass(frozen=True, slots=True)
class Alias:
    """One archetype on one tier."""

    archetype: str
    archetype_bytes: bytes
    tier: str
    stable: Target
    candidate: Target | None = None
    share: Share | None = None
    """Of the candidate; None exactly where there is none."""
    rollout: wire.AliasRollout | None = None
    """By what the candidate is watched; None where nobody watches."""


@dataclass(frozen=True, slots=True)
class EndpointKey:
    """What makes an engine pod the same one across tables; a changed address is another endpoint."""

    uid: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One engine pod as the table offers it."""

    key: EndpointKey
    pod: str
    tier: str
    resident: frozenset[str] | None
    """None: the table was written without residency, the agent must say it."""
    authorization: bytes
    """The ready Authorization header line for this engine; empty when its key is unknown."""


@dataclass(frozen=True, slots=True)
class Key:
    """One API key: how it is known, and what it may do."""

    name: str
    sha256: bytes
    """Hex digits."""
    archetypes: frozenset[str] = frozenset()
    """What it may ask for; empty means everything."""
    tiers: frozenset[str] = frozenset()
    """Where; empty means everywhere."""
    expires_ms: int | None = None
    cache_salt: str | None = field(default=None, repr=False)
    rate: wire.Rate | None = None

    def is_over(self, now_ms: float) -> bool:
        """Whether it counts no more at this Unix time in milliseconds."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """A whole route table, ready for look-ups. Build it with `compile_table`."""

    source: wire.RouteTable
    tiers: frozenset[str]
    default_tier: str
    assignments: Mapping[bytes, str]
    prefix_lengths: tuple[int, ...]
    """Lengths that occur in `assignments`, longest first."""
    aliases: Mapping[tuple[str, str], Alias]
    """By (tier, archetype)."""
    archetypes: frozenset[str]
    endpoints: tuple[EndpointFacts, ...]
    keys: tuple[Key, ...]
    authentication_required: bool
    limits: wire.GatewayLimits

    @property
    def stamp(self) -> wire.Stamp:
        """Who ordered this table, and which order it was."""
        return self.source.stamp

    def find_key(self, digest: bytes, now_ms: float) -> Key | None:
        """The API key with this sha256 (hex digits), or None. Every hash is compared, in constant time, so timing tells
        nothing about the keys. Of several entries for one key an entry that still counts wins."""
        found: Key | None = None
        for key in self.keys:
            if compare_digest(digest, key.sha256) and (found is None or found.is_over(now_ms)):
                found = key
        return found


def compile_table(table: wire.RouteTable) -> CompiledTable:
    """Check a route table and turn it into look-ups.

    Raises:
        BadTable: names the first thing in it that contradicts itself or could not be sent over HTTP.

    """
    tiers = [tier.name for tier in table.tiers]
    _unique("tier", tiers)
    for tier in tiers:
        _must(_LABEL.fullmatch(tier) is not None, f"the tier name {tier!r} is not a DNS label")
    _must(not tiers or table.default_tier in tiers, f"the default tier {table.default_tier!r} is not one of the tiers")
    _unique("assignment of prefix", [assignment.npc_prefix for assignment in table.assignments])
    for assignment in table.assignments:
        _must(
            assignment.tier in tiers,
            f"prefix {assignment.npc_prefix!r} is assigned to unknown tier {assignment.tier!r}",
        )
    assignments = {assignment.npc_prefix.encode(): assignment.tier for assignment in table.assignments}
    _unique("alias", [f"{alias.archetype} on tier {alias.tier}" for alias in table.aliases])
    for alias in table.aliases:
        _check_alias(alias, tiers)
    # One without a target is known, and has nothing that may be chosen.
    aliases = {(alias.tier, alias.archetype): _alias(alias) for alias in table.aliases if alias.targets}
    endpoints = tuple(_endpoints(table))
    _unique("endpoint", [f"{endpoint.key.address}:{endpoint.key.port}" for endpoint in endpoints])
    return CompiledTable(
        source=table,
        tiers=frozenset(tiers),
        default_tier=table.default_tier,
        assignments=assignments,
        prefix_lengths=tuple(sorted({len(prefix) for prefix in assignments}, reverse=True)),
        aliases=aliases,
        archetypes=frozenset(alias.archetype for alias in table.aliases)
        | frozenset(voice.archetype for voice in table.voices),
        endpoints=endpoints,
        keys=tuple(_keys(table)),
        authentication_required=table.authentication == "ApiKey",
        limits=table.limits,
    )


def _check_alias(alias: wire.Alias, tiers: list[str]) -> None:
    where = f"the alias {alias.archetype!r} on tier {alias.tier!r}"
    _must(_LABEL.fullmatch(alias.archetype) is not None, f"{where} is not a DNS label")
    _must(alias.tier in tiers, f"{where} is for an unknown tier")
    _must(len(alias.targets) <= 2, f"{where} has more than one candidate")
    total = sum(target.percent for target in alias.targets)
    _must(total == 100 or not alias.targets, f"the percents of {where} sum to {total}, not 100")
    _unique(f"served name in {where}", [target.served_name for target in alias.targets])
    for target in alias.targets:
        _must(_SERVED_NAME.fullmatch(target.served_name) is not None, f"{where} has an invalid served name")
        _must(_DIGEST.fullmatch(target.digest) is not None, f"{where} has an invalid digest")


def _alias(alias: wire.Alias) -> Alias:
    stable = _target(alias.targets[0], alias.tier)
    name = alias.archetype.encode()
    candidate = alias.targets[-1]
    if candidate is alias.targets[0] or (alias.rollout is None and candidate.percent == 0):
        return Alias(alias.archetype, name, alias.tier, stable)
    share = _share(candidate, alias.rollout)
    return Alias(alias.archetype, name, alias.tier, stable, _target(candidate, alias.tier), share, alias.rollout)


def _share(candidate: wire.Target, rollout: wire.AliasRollout | None) -> Share:
    if rollout is None:
        below = candidate.percent * wire.NPC_BUCKETS // 100
        return Share(below, below, {}, {}, ())
    prefixes = {pin.npc.encode(): pin.candidate for pin in rollout.overrides if pin.prefix}
    return Share(
        below=rollout.candidate_below,
        control_below=rollout.control_below,
        pinned={pin.npc.encode(): pin.candidate for pin in rollout.overrides if not pin.prefix},
        pinned_prefixes=prefixes,
        prefix_lengths=tuple(sorted({len(prefix) for prefix in prefixes}, reverse=True)),
    )


def _target(target: wire.Target, tier: str) -> Target:
    headers = f"X-NPC-Served-Tier: {tier}\r\nX-NPC-Served-By: {target.digest}\r\n".encode()
    return Target(target.served_name, target.digest, headers)


def _endpoints(table: wire.RouteTable) -> list[EndpointFacts]:
    keys = {key.id: key.key.get_secret_value() for key in table.engine_keys}
    for key_id, value in keys.items():
        _must(_KEY_TEXT.fullmatch(value) is not None, f"the engine key {key_id!r} cannot be sent in a header")
    found: list[EndpointFacts] = []
    for tier in table.tiers:
        for endpoint in tier.endpoints:
            _must(_ADDRESS.fullmatch(endpoint.address) is not None, f"the pod {endpoint.pod!r} has an invalid address")
            _must(0 < endpoint.port < 65536, f"the pod {endpoint.pod!r} has an invalid port")
            key = keys.get(endpoint.engine_key_id)
            found.append(
                EndpointFacts(
                    key=EndpointKey(endpoint.uid, endpoint.address, endpoint.port),
                    pod=endpoint.pod,
                    tier=tier.name,
                    resident=None if endpoint.resident is None else frozenset(endpoint.resident),
                    authorization=b"" if key is None else f"Authorization: Bearer {key}\r\n".encode(),
                )
            )
    return found


def _keys(table: wire.RouteTable) -> list[Key]:
    keys: list[Key] = []
    for key in table.api_keys:
        value = key.sha256.lower()
        if _HEX.fullmatch(value) is None:
            # Nothing hashes to it, so leaving it out changes nothing; refusing the table would take all other keys
            # hostage.
            log.warning("an API key's hash is not 64 hex digits and can never match", extra={"key_name": key.name})
            continue
        keys.append(
            Key(
                name=key.name,
                sha256=value.encode(),
                archetypes=frozenset(key.archetypes),
                tiers=frozenset(key.tiers),
                expires_ms=key.expires_ms,
                cache_salt=None if key.cache_salt is None else key.cache_salt.get_secret_value() or None,
                rate=key.rate,
            )
        )
    return keys


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise BadTable(message)


def _unique(what: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        _must(value not in seen, f"the {what} {value!r} occurs twice")
        seen.add(value)
