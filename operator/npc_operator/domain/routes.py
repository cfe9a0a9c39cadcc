"""A region's route table: built once for all its gateways, from the published stable digests and from what the agents
prove.

An alias names only stable digests, never a candidate; an endpoint lists only served names that an alias of its tier
uses, so that adapters being loaded beside them do not change the table. Where residency is unknown (an agent not heard
since this leader began) it is left open and the gateway asks the agent itself: a new leader never takes a serving pod
off the routes by not knowing it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pydantic import SecretStr, ValidationError

from npc_operator.api.gputier import Quality
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.engines import Engine
from npc_runtime.wire import (
    Alias,
    ApiKey,
    Assignment,
    Endpoint,
    EngineKey,
    GatewayLimits,
    RouteTable,
    Stamp,
    Target,
    TierRoutes,
    served_name,
)

ROUTES_MAX_BYTES = 16 << 20
"""Largest table that gateways take (npc_runtime.gateway.persistence.MAX_BYTES)."""
ROUTES_SECRET_MAX_BYTES = 1_000_000
"""Largest packed table that is written: the API server refuses Secrets above 1 MiB of data."""

_GZIP = zlib.MAX_WBITS | 16
"""What zlib calls the gzip format; its header then has no time and no name."""

NO_STAMP = Stamp(epoch=0, generation=0)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a gateway needs to talk to engines and agents. repr shows no secret because every field hides its own."""

    engine_keys: tuple[EngineKey, ...]
    agent_tokens: tuple[SecretStr, ...]
    agent_ca: str


@dataclass(frozen=True, slots=True)
class TierPart:
    """One tier with what may serve there."""

    name: str
    quality: Quality
    endpoints: tuple[Endpoint, ...]


def build_alias(archetype: str, tier: str, digest: str) -> Alias:
    """All traffic of an archetype on a tier goes to one digest."""
    target = Target(served_name=served_name(archetype, digest), digest=digest, percent=100)
    return Alias(archetype=archetype, tier=tier, targets=(target,))


def hash_api_keys(data: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """The keys of a Secret by name, hashed; white space around a key (a file's last newline) is not part of it, empty
    ones are no keys.
    """
    return tuple(
        ApiKey(name=name, sha256=hashlib.sha256(key.strip().encode()).hexdigest())
        for name, key in sorted(data.items())
        if key.strip()
    )


def pick_routed(aliases: Iterable[Alias]) -> dict[str, frozenset[str]]:
    """Served names that aliases use, by tier."""
    routed: dict[str, set[str]] = {}
    for alias in aliases:
        routed.setdefault(alias.tier, set()).update(target.served_name for target in alias.targets)
    return {tier: frozenset(names) for tier, names in routed.items()}


def build_endpoint(engine: Engine, port: int, routed: Set[str]) -> Endpoint:
    """One pod that may serve, with the routed names that are proven there."""
    proven = engine.resident()
    return Endpoint(
        pod=engine.pod.name,
        uid=engine.pod.uid,
        address=engine.pod.ip,
        port=port,
        engine_key_id=engine.pod.engine_key_id,
        resident=None if proven is None else tuple(sorted(proven & routed)),
    )


def build_table(
    *,
    namespace: str,
    region: str,
    spec: NPCRegionSpec,
    tiers: Iterable[TierPart],
    aliases: tuple[Alias, ...],
    api_keys: tuple[ApiKey, ...],
    trust: Trust,
) -> RouteTable:
    """The table without a stamp."""
    limits = spec.gateway.limits
    return RouteTable(
        stamp=NO_STAMP,
        namespace=namespace,
        region=region,
        default_tier=spec.default_tier,
        assignments=tuple(Assignment(npc_prefix=entry.npc_prefix, tier=entry.tier) for entry in spec.assignments),
        tiers=tuple(TierRoutes(name=part.name, quality=part.quality, endpoints=part.endpoints) for part in tiers),
        aliases=aliases,
        authentication=spec.gateway.auth.mode,
        api_keys=api_keys,
        engine_keys=trust.engine_keys,
        agent_tokens=trust.agent_tokens,
        agent_ca=trust.agent_ca,
        limits=GatewayLimits(
            max_body_bytes=limits.max_body_bytes,
            max_header_bytes=limits.max_header_bytes,
            request_timeout_seconds=limits.request_timeout_seconds,
            max_connections=limits.max_connections,
        ),
    )


def routed_names(table: RouteTable) -> frozenset[tuple[str, str]]:
    """(tier, served name) of everything a gateway with this table may ask for."""
    return frozenset((alias.tier, target.served_name) for alias in table.aliases for target in alias.targets)


def without_residency(table: RouteTable) -> RouteTable:
    """The table as it is kept in a Secret: what is resident is asked of the agents by whoever starts from it."""
    tiers = tuple(
        tier.model_copy(
            update={"endpoints": tuple(endpoint.model_copy(update={"resident": None}) for endpoint in tier.endpoints)}
        )
        for tier in table.tiers
    )
    return table.model_copy(update={"tiers": tiers})


def pack_routes(table: RouteTable) -> bytes:
    """A table as it is kept in a Secret: compressed (gzip), because five tiers of a thousand voices are more than a
    Secret may hold, and without a time, so that the same table is the same bytes.
    """
    packing = zlib.compressobj(level=6, wbits=_GZIP)
    return packing.compress(table.to_bytes()) + packing.flush()


def unpack_routes(packed: bytes) -> RouteTable | None:
    """The table of `pack_routes`, or None if there is none that can be read. Never longer than ROUTES_MAX_BYTES."""
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        text = unpacking.decompress(packed, ROUTES_MAX_BYTES)
        return RouteTable.model_validate_json(text) if unpacking.eof else None
    except (zlib.error, ValidationError):
        return None


def same_routes(one: RouteTable, other: RouteTable) -> bool:
    """Whether two tables say the same, whoever ordered them and when."""
    return one.model_copy(update={"stamp": NO_STAMP}) == other.model_copy(update={"stamp": NO_STAMP})
