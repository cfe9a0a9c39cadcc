"""Which routes each gateway goes by: the present table of a region, built when asked and only when something in it
changed, and what is acknowledged.

An adapter may only be unloaded when no gateway can still send a line to it. What a gateway applied is known by the
stamp it reports; a stamp this leader did not give says nothing, so what is resident stays until that gateway has taken
a table of ours.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.callers import SALT, build_identity, hash_api_keys
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.desired import pick_quarantined
from npc_operator.domain.doors import gone_at, may_serve
from npc_operator.domain.engines import Engine
from npc_operator.domain.facts import Adapter, GatewayFact, Pod, Region, SecretFact, Tier
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
    routed_names,
    same_routes,
    unpack_routes,
)
from npc_operator.manifests.gateway_deployment import ROUTES_KEY
from npc_operator.ports import Clock, Manifest, Stamps
from npc_operator.reconcilers.world import Door, World
from npc_runtime.wire import Alias, Endpoint, RouteTable, Stamp, TierRoutes, served_name

REMEMBERED = 64
"""Tables of a region whose content is remembered by stamp; a gateway further behind counts as unknown until it has
caught up. For each region alone: a busy one must not make others forget what their gateways go by."""


NOTHING_ROUTED: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why there is no table yet."""

    reason: str


@dataclass(slots=True)
class _Page:
    table: RouteTable
    version: int
    """Of the world the table was built from."""
    since: float
    contents: OrderedDict[tuple[int, int], frozenset[tuple[str, str]]]
    """What this table and those before it may ask for, by stamp; the present one is the last."""


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


@dataclass(frozen=True, slots=True)
class _Silence:
    """One gateway that is not heard."""

    uid: str
    since: float
    began: bool
    """Whether it is known to have served: before that there is nothing to hear."""


class RouteBook:
    """Present tables by region, and which served names gateways may use. Lives as long as one leadership."""

    def __init__(self, world: World, stamps: Stamps, clock: Clock) -> None:
        self._world = world
        self._stamps = stamps
        self._clock = clock
        self._begun = clock.now()
        self._silent: dict[tuple[str, str], _Silence] = {}
        self._pages: dict[tuple[str, str], _Page] = {}
        self._acknowledged: dict[tuple[str, str], tuple[str, str, Stamp]] = {}
        self._sent: dict[tuple[str, str], tuple[str, tuple[tuple[int, int], ...]]] = {}
        """By gateway: its pod's uid, and the tables that were pushed to it since the last that it is known to go by."""
        self._parts: dict[tuple[str, str], _Parts] = {}
        self._kept: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
        self._coming: dict[str, dict[str, frozenset[tuple[str, str]]]] = {}
        """By namespace and adapter: what routes may name as soon as a status is written."""

    def present(self, namespace: str, region: Region, now: float) -> RouteTable | Waiting:
        """The table the region's gateways should have. Its stamp changes with its content, or to beat another leader's
        (`restamp`). `now`, here and below, is monotonic.
        """
        key = (namespace, region.meta.name)
        version = self._world.version(namespace)
        page = self._pages.get(key)
        if page is not None and page.version == version:
            return page.table
        built = self._build(namespace, region)
        if isinstance(built, Waiting):
            return built
        if page is not None and same_routes(page.table, built):
            page.version = version
            return page.table
        return self._open(key, built, version, now)

    def restamp(self, namespace: str, region: Region, held: Stamp, now: float) -> None:
        """Give the present table a stamp that beats the one a gateway holds, unless it does already: gateways that are
        outranked together get the same one."""
        key = (namespace, region.meta.name)
        page = self._pages.get(key)
        if page is not None and page.table.stamp.order() <= held.order():
            self._open(key, page.table, page.version, now)

    def age(self, namespace: str, region: str, now: float) -> float:
        """Seconds since the present table's content changed or was stamped anew; 0 without one."""
        page = self._pages.get((namespace, region))
        return 0.0 if page is None else max(0.0, now - page.since)

    def send(self, door: Door, table: RouteTable) -> None:
        """This table is about to be pushed: from now on the gateway may go by it, heard or not, until it says that it
        goes by a newer one."""
        applied = self.applied(door)
        since = (0, 0) if applied is None else applied.order()
        place, uid = (door.pod.namespace, door.pod.name), door.pod.uid
        known = [order for order in self._open_pushes(door) if order > since]
        self._sent[place] = (uid, (*known, table.stamp.order()))

    def _open_pushes(self, door: Door) -> tuple[tuple[int, int], ...]:
        uid, orders = self._sent.get((door.pod.namespace, door.pod.name), ("", ()))
        return orders if uid == door.pod.uid else ()

    def acknowledge(self, pod: Pod, boot_id: str, stamp: Stamp) -> None:
        """A gateway answered a push: every worker of it goes by this table now."""
        self._acknowledged[pod.namespace, pod.name] = (pod.uid, boot_id, stamp)

    def keep(self, namespace: str, region: str, *tables: RouteTable | None) -> None:
        """This is what the region's Secret holds now, if anything, or one of these while it is being written: a gateway
        that starts goes by it before anybody hears of it."""
        self._kept[namespace, region] = frozenset().union(*(routed_names(table) for table in tables if table))

    def expect(self, adapter: Adapter, status: ArchetypeAdapterStatus) -> None:
        """This status is about to be written. Routes follow it whatever the spec has come to name meanwhile, so pods
        keep what it speaks of until it is settled what became of that."""
        coming = self._coming.setdefault(adapter.meta.namespace, {})
        named = {
            (variant.tier, served_name(adapter.spec.archetype, revision.digest))
            for variant in status.variants
            for revision in (variant.stable, variant.candidate)
            if revision is not None
        }
        # With what an earlier write spoke of that nobody answered: it may still be made.
        coming[adapter.meta.name] = coming.get(adapter.meta.name, frozenset()) | named

    def settle(self, namespace: str, adapter: str) -> None:
        """What was expected of an adapter is in the store, or will not come."""
        coming = self._coming.get(namespace, {})
        coming.pop(adapter, None)
        if not coming:
            self._coming.pop(namespace, None)

    def forget_gateway(self, namespace: str, name: str) -> None:
        """The pod is gone."""
        self._acknowledged.pop((namespace, name), None)
        self._sent.pop((namespace, name), None)
        self._silent.pop((namespace, name), None)

    def forget_region(self, namespace: str, name: str) -> None:
        """The region is gone, or does not hold its namespace any more."""
        self._pages.pop((namespace, name), None)
        self._kept.pop((namespace, name), None)
        self._parts.pop((namespace, name), None)

    def applied(self, door: Door) -> Stamp | None:
        """The newest stamp a gateway is known to go by; None if it was not heard."""
        if door.fact is None:
            return None
        uid, boot_id, stamp = self._acknowledged.get((door.pod.namespace, door.pod.name), ("", "", door.fact.stamp))
        # Its answer to a push may be here before its next report is.
        answered = uid == door.pod.uid and boot_id == door.fact.boot_id
        return stamp if answered and stamp.order() > door.fact.stamp.order() else door.fact.stamp

    def silent_since(self, door: Door) -> float | None:
        """Since when (Unix seconds) a gateway was not heard; None while it is. Of one that this leader never heard:
        since it began, or since the leadership did where that is later."""
        key = (door.pod.namespace, door.pod.name)
        if door.fact is not None and door.fact.reachable:
            self._silent.pop(key, None)
            return None
        now, began = self._clock.now(), door.fact is not None or door.pod.ready
        known = self._silent.get(key)
        if known is None or known.uid != door.pod.uid:
            age = None if door.fact is None else self._world.store.age(GatewayFact, *key)
            begun = max(self._begun, parse_rfc3339(door.pod.created) or 0.0)
            since = min(now, begun) if age is None else now - age  # clocks differ: never a time to come
            known = self._silent[key] = _Silence(door.pod.uid, since, began)
        elif began and not known.began:
            known = self._silent[key] = _Silence(door.pod.uid, now, began)
        return known.since

    def is_gone(self, door: Door) -> bool:
        """Whether a gateway whose pod is still listed cannot be there any more."""
        due = gone_at(door.pod, self.silent_since(door))
        return due is not None and due <= self._clock.now()

    def up_to_date(self, door: Door, table: RouteTable) -> bool:
        return self.applied(door) == table.stamp

    def goes_by_too_much(self, door: Door, table: RouteTable) -> bool:
        """Whether a gateway may go on asking for something that the present routes have taken off, as far as is
        known."""
        stamp = self.applied(door)
        page = self._pages.get((door.pod.namespace, table.region))
        content = None if page is None or stamp is None else page.contents.get(stamp.order())
        return content is None or not content <= routed_names(table)

    def may_be_used(self, namespace: str, tier: str, served_name: str) -> bool:
        """Whether a gateway may still send a line to a served name on a tier."""
        region = self._world.active_region(namespace)
        if region is None:
            return False
        wanted = (tier, served_name)
        if any(wanted in coming for coming in self._coming.get(namespace, {}).values()):
            return True
        kept = self._kept.get((namespace, region.meta.name))
        if kept is None or wanted in kept:
            return True  # unknown at the beginning of a leadership, until the Secret was read
        page = self._pages.get((namespace, region.meta.name))
        contents = {} if page is None else page.contents
        if page is not None and wanted in contents[page.table.stamp.order()]:
            return True
        for door in self._world.doors(namespace, region.meta.name):
            if self.is_gone(door):
                continue
            stamp = self.applied(door)
            content = None if stamp is None else contents.get(stamp.order())
            if content is None:
                # With unknown routes it may use anything.
                if may_serve(door.pod, heard=door.fact is not None):
                    return True
            elif wanted in content or (stamp is not None and self._is_on_its_way(door, stamp, wanted, contents)):
                return True
        return False

    def _is_on_its_way(
        self,
        door: Door,
        applied: Stamp,
        wanted: tuple[str, str],
        contents: Mapping[tuple[int, int], frozenset[tuple[str, str]]],
    ) -> bool:
        """Whether a table that was pushed to a gateway, and that it did not answer yet, lets it use something."""
        later = (order for order in self._open_pushes(door) if order > applied.order())
        return any(order not in contents or wanted in contents[order] for order in later)

    def offers_banned(self, namespace: str, region: Region, stamp: Stamp | None) -> bool:
        """Whether routes with this stamp may name what is quarantined or was taken back: that much of them changes even
        while the region is suspended."""
        banned = self._banned(namespace, region)
        page = self._pages.get((namespace, region.meta.name))
        content = None if page is None or stamp is None else page.contents.get(stamp.order())
        return bool(banned) and (content is None or not content.isdisjoint(banned))

    def keeps_banned(self, namespace: str, region: Region) -> bool:
        """The same of the region's Secret."""
        banned = self._banned(namespace, region)
        kept = self._kept.get((namespace, region.meta.name))
        return bool(banned) and (kept is None or not kept.isdisjoint(banned))

    def _banned(self, namespace: str, region: Region) -> frozenset[tuple[str, str]]:
        """(tier, served name) of what must not be heard."""
        return frozenset(
            (status.tier, served_name(adapter.spec.archetype, digest))
            for adapter in self._world.store.list(Adapter, namespace).values()
            for status in adapter.status.variants
            for digest in (
                *pick_quarantined(adapter, region),
                *(() if status.rejected is None else (status.rejected.digest,)),
            )
        )

    def _open(self, key: tuple[str, str], table: RouteTable, version: int, now: float) -> RouteTable:
        stamped = table.model_copy(update={"stamp": self._stamps.next()})
        before = self._pages.get(key)
        content = routed_names(stamped)
        contents = OrderedDict() if before is None else before.contents
        known = None if before is None else contents[before.table.stamp.order()]
        # Most tables differ only in what is resident where: 64 of them remember one set of a thousand names, not 64.
        contents[stamped.stamp.order()] = known if known is not None and known == content else content
        self._pages[key] = _Page(stamped, version, now, contents)
        while len(contents) > REMEMBERED:
            contents.popitem(last=False)
        return stamped

    def _build(self, namespace: str, region: Region) -> RouteTable | Waiting:
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
