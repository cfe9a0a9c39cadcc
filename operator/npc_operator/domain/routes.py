"""A region's route table: built once for all its gateways, from the published stable digests and from what the agents
prove.

An alias names a candidate only once the status says that NPCs hear it; an endpoint lists only served names that an
alias of its tier uses, so that adapters being loaded beside them do not change the table. Where residency is unknown
(an agent not heard since this leader began) it is left open and the gateway asks the agent itself: a new leader never
takes a serving pod off the routes by not knowing it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Set
from dataclasses import dataclass

from pydantic import SecretStr, ValidationError

from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.gputier import GpuTierSpec, Quality
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.callers import build_rate
from npc_operator.domain.engines import Engine
from npc_operator.manifests.engine_container import SERVED_BASE
from npc_runtime.wire import (
    NO_STAMP,
    Alias,
    ApiKey,
    Assignment,
    Endpoint,
    EngineKey,
    GatewayLimits,
    Identity,
    RouteTable,
    TierRoutes,
    Voice,
)

ROUTES_MAX_BYTES = 16 << 20
"""Largest table that gateways take (npc_runtime.gateway.persistence.MAX_BYTES)."""
ROUTES_SECRET_MAX_BYTES = 1_000_000
"""Largest packed table that is written: the API server refuses Secrets above 1 MiB of data."""

_GZIP = zlib.MAX_WBITS | 16
"""What zlib calls the gzip format; its header then has no time and no name."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a gateway needs to talk to engines and agents. repr shows no secret because every field hides its own."""

    engine_keys: tuple[EngineKey, ...]
    agent_tokens: tuple[SecretStr, ...]
    agent_ca: str


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may ask, beside what the region's own spec says of it."""

    api_keys: tuple[ApiKey, ...] = ()
    identity: Identity | None = None


DEFAULT_SLOTS = 256
"""Lines an engine works on at once where nothing says otherwise: vLLM's own default on most devices (CPUs and GPUs
below 70 GiB; 1,024 above, in vllm.engine.arg_utils of 0.32). The lower one holds lines back rather too early than too
late; --max-num-seqs in engine.extraArgs says it exactly."""


def build_tier(
    name: str, spec: GpuTierSpec, engines: Iterable[tuple[Engine, Endpoint]], *, fallback: str = ""
) -> TierRoutes:
    """One tier with what may serve there. What its engines can do is read off their own command lines: pods that were
    started by an earlier version run on as they were, and an engine without priorities refuses every line that has one.
    """
    serving = list(engines)
    return TierRoutes(
        name=name,
        quality=spec.quality,
        endpoints=tuple(endpoint for _, endpoint in serving),
        fallback_tier=fallback,
        base_model=SERVED_BASE,
        slots=min((engine.pod.slots or DEFAULT_SLOTS for engine, _ in serving), default=DEFAULT_SLOTS),
        queue=spec.objectives.queue_lines * len(serving),
        first_token_milliseconds=spec.objectives.first_token_milliseconds,
        stall_seconds=spec.objectives.stall_seconds,
        prioritised=bool(serving) and all(engine.pod.prioritised for engine, _ in serving),
    )


def absent_tier(name: str) -> TierRoutes:
    """A tier that the region names and that is not there. It is in the table without pods: prefixes and the default may
    point at it, and a table in which they point at nothing is refused as a whole, for the sake of one missing object.
    """
    quality: Quality = "Bronze"
    return TierRoutes(name=name, quality=quality)


def build_voice(spec: ArchetypeAdapterSpec) -> Voice:
    """What gateways need of an archetype beside its adapters."""
    return Voice(
        archetype=spec.archetype,
        importance=spec.importance,
        system_prompt=spec.persona.system_prompt,
        scripted_lines=spec.persona.scripted_lines,
        must_not_match=spec.answers.must_not_match,
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
    tiers: Iterable[TierRoutes],
    aliases: tuple[Alias, ...],
    voices: tuple[Voice, ...],
    callers: Callers,
    ready_gateways: int,
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
        tiers=tuple(tiers),
        aliases=aliases,
        voices=voices,
        authentication=spec.gateway.auth.mode,
        api_keys=callers.api_keys,
        identity=callers.identity,
        rate=build_rate(limits.rate),
        ready_gateways=max(1, ready_gateways),
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
