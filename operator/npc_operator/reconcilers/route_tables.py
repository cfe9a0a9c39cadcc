"""Builds the route table of a region from what the world knows now: tiers with their endpoints, voices, callers.

With a thousand adapters most of a table is what it was a moment ago, so what it was made of is kept, and made again
only where it changed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from npc_operator.api import names
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.callers import SALT, build_identity, hash_api_keys
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Region, SecretFact, Tier
from npc_operator.domain.fallbacks import pick_fallbacks
from npc_operator.domain.rotation import pick_engine_keys, pick_tokens
from npc_operator.domain.routes import (
    Callers,
    Trust,
    absent_tier,
    build_endpoint,
    build_table,
    build_tier,
    pick_routed,
    unpack_routes,
)
from npc_operator.manifests.gateway_deployment import ROUTES_KEY
from npc_operator.ports import Manifest
from npc_operator.reconcilers.world import World
from npc_runtime.wire import Alias, Endpoint, RouteTable, TierRoutes

NOTHING_ROUTED: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why there is no table yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Made:
    """An endpoint and what it was made of."""

    engine: Engine
    routed: frozenset[str]
    endpoint: Endpoint


@dataclass(slots=True)
class _Parts:
    """What the last table of a region was made of, to be used again where it did not change."""

    aliases: tuple[Alias, ...] | None = None
    routed: dict[str, frozenset[str]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, _Made]] = field(default_factory=dict)
    """By tier and pod uid."""


class RouteTables:
    """Tables by region. Lives as long as one leadership."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parts: dict[tuple[str, str], _Parts] = {}

    def forget(self, namespace: str, region: str) -> None:
        """The region is gone, or does not hold its namespace any more."""
        self._parts.pop((namespace, region), None)

    def build(self, namespace: str, region: Region) -> RouteTable | Waiting:
        """The present table, without a stamp of its own."""
        world, spec = self._world, region.spec
        if not world.synced():
            return Waiting("the store is being filled")
        internal = world.secret(namespace, names.SECRET_INTERNAL)
        engine_keys = world.secret(namespace, names.SECRET_ENGINE_KEY)
        if internal is None or engine_keys is None or not internal.data.get("token") or not engine_keys.data:
            return Waiting("the namespace's keys and certificates are being made")
        callers = self._callers(namespace, spec, internal)
        if isinstance(callers, Waiting):
            return callers
        present = world.store.list(Tier, namespace)
        fallbacks = pick_fallbacks(world.fallback_links(namespace), named={entry.tier for entry in spec.tiers})
        aliases = world.roster(namespace).aliases()
        parts = self._parts.setdefault((namespace, region.meta.name), _Parts())
        if parts.aliases is not aliases:
            parts.aliases, parts.routed = aliases, pick_routed(aliases)
        before, parts.endpoints = parts.endpoints, {}
        return build_table(
            namespace=namespace,
            region=region.meta.name,
            spec=spec,
            tiers=[
                self._part(tier, parts, before.get(name, {}), fallbacks.get(name, ""))
                if (tier := present.get(name)) is not None
                else absent_tier(name)
                for name in (entry.tier for entry in spec.tiers)
            ],
            aliases=aliases,
            voices=world.voices(namespace, region),
            callers=callers,
            ready_gateways=sum(
                door.pod.ready and not door.pod.deleting for door in world.doors(namespace, region.meta.name)
            ),
            trust=Trust(
                engine_keys=pick_engine_keys(engine_keys.data),
                agent_tokens=pick_tokens(internal.data),
                agent_ca=internal.data.get("ca.crt", ""),
            ),
        )

    def _callers(self, namespace: str, spec: NPCRegionSpec, internal: SecretFact) -> Callers | Waiting:
        auth, salt = spec.gateway.auth, internal.data.get(SALT, "")
        identity = build_identity(auth.service_accounts, self._world.issuer())
        if auth.mode != "ApiKey" or auth.secret_ref is None:
            return Callers(identity=identity)
        keys = self._world.secret(namespace, auth.secret_ref.name)
        if keys is None:
            return Waiting(f"Secret {auth.secret_ref.name} is being read")
        if not salt and any(policy.separate_cache for policy in auth.policies):
            return Waiting("the namespace's keys and certificates are being made")
        return Callers(hash_api_keys(keys.data, auth.policies, salt=salt), identity)

    def _part(self, tier: Tier, parts: _Parts, before: dict[str, _Made], fallback: str) -> TierRoutes:
        """The tier with its endpoints, each built again only when its pod, its agent's word or the aliases changed."""
        name, port = tier.meta.name, tier.spec.engine.port
        routed = parts.routed.get(name, NOTHING_ROUTED)
        after = parts.endpoints[name] = dict[str, _Made]()
        for engine in self._world.engines(tier.meta.namespace, name):
            if not engine.routable():
                continue
            made = before.get(engine.pod.uid)
            if made is None or made.engine is not engine or made.routed is not routed or made.endpoint.port != port:
                made = _Made(engine, routed, build_endpoint(engine, port, routed))
            after[engine.pod.uid] = made
        serving = ((made.engine, made.endpoint) for made in after.values())
        return build_tier(name, tier.spec, serving, fallback=fallback)


def read_routes(live: Manifest | None) -> RouteTable | None:
    """The table in a routes Secret, or None if there is none that can be read."""
    try:
        packed = base64.b64decode(((live or {}).get("data") or {}).get(ROUTES_KEY, ""), validate=True)
    except ValueError:
        return None
    return unpack_routes(packed) if packed else None
