"""Which routes each gateway goes by: the present table of a region, built when asked and only when something in it
changed, and what is acknowledged.

An adapter may only be unloaded when no gateway can still send a line to it. What a gateway applied is known by the
stamp it reports; a stamp this leader did not give says nothing, so what is resident stays until that gateway has taken
a table of ours.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.domain.facts import Region, Tier
from npc_operator.domain.rotation import pick_engine_keys, pick_tokens
from npc_operator.domain.routes import (
    TierPart,
    Trust,
    build_table,
    hash_api_keys,
    routed_names,
    same_routes,
)
from npc_operator.ports import Stamps
from npc_operator.reconcilers.world import Door, World
from npc_runtime.wire import RouteTable, Stamp

REMEMBERED = 64
"""Tables whose content is remembered by stamp; a gateway further behind counts as unknown until it has caught up."""


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


class RouteBook:
    """Present tables by region, and which served names gateways may use. Lives as long as one leadership."""

    def __init__(self, world: World, stamps: Stamps) -> None:
        self._world = world
        self._stamps = stamps
        self._pages: dict[tuple[str, str], _Page] = {}
        self._contents: OrderedDict[tuple[int, int], frozenset[tuple[str, str]]] = OrderedDict()
        self._acknowledged: dict[str, tuple[str, Stamp]] = {}

    def present(self, namespace: str, region: Region, now: float) -> RouteTable | Waiting:
        """The table the region's gateways should have. Its stamp changes exactly when its content does."""
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

    def restamp(self, namespace: str, region: Region, now: float) -> None:
        """Give the present table a stamp that beats what a gateway holds."""
        key = (namespace, region.meta.name)
        page = self._pages.get(key)
        if page is not None:
            self._open(key, page.table, page.version, now)

    def age(self, namespace: str, region: str, now: float) -> float:
        """Seconds since the present table's content last changed; 0 without one."""
        page = self._pages.get((namespace, region))
        return 0.0 if page is None else max(0.0, now - page.since)

    def acknowledge(self, pod_uid: str, boot_id: str, stamp: Stamp) -> None:
        """A gateway answered a push: every worker of it goes by this table now."""
        self._acknowledged[pod_uid] = (boot_id, stamp)

    def forget(self, pod_uid: str) -> None:
        self._acknowledged.pop(pod_uid, None)

    def applied(self, door: Door) -> Stamp | None:
        """The newest stamp a gateway is known to go by; None if it was not heard."""
        if door.fact is None:
            return None
        answered = self._acknowledged.get(door.pod.uid)
        if answered is not None and answered[0] == door.fact.boot_id and answered[1].order() > door.fact.stamp.order():
            return answered[1]
        return door.fact.stamp

    def up_to_date(self, door: Door, table: RouteTable) -> bool:
        return self.applied(door) == table.stamp

    def may_be_used(self, namespace: str, tier: str, served_name: str) -> bool:
        """Whether a gateway may still send a line to a served name on a tier."""
        region = self._world.active_region(namespace)
        if region is None:
            return False
        wanted = (tier, served_name)
        page = self._pages.get((namespace, region.meta.name))
        if page is not None and wanted in self._contents.get(page.table.stamp.order(), frozenset()):
            return True
        for door in self._world.doors(namespace, region.meta.name):
            stamp = self.applied(door)
            content = None if stamp is None else self._contents.get(stamp.order())
            if content is None:
                # A gateway that is not ready serves nobody; one that is, with unknown routes, may use anything.
                if door.pod.ready:
                    return True
            elif wanted in content:
                return True
        return False

    def _open(self, key: tuple[str, str], table: RouteTable, version: int, now: float) -> RouteTable:
        stamped = table.model_copy(update={"stamp": self._stamps.next()})
        self._pages[key] = _Page(stamped, version, now)
        self._contents[stamped.stamp.order()] = routed_names(stamped)
        while len(self._contents) > REMEMBERED * max(1, len(self._pages)):
            self._contents.popitem(last=False)
        return stamped

    def _build(self, namespace: str, region: Region) -> RouteTable | Waiting:
        world, spec = self._world, region.spec
        if not world.synced():
            return Waiting("the store is being filled")
        internal = world.secret(namespace, names.SECRET_INTERNAL)
        engine_keys = world.secret(namespace, names.SECRET_ENGINE_KEY)
        if internal is None or engine_keys is None or not internal.data.get("token") or not engine_keys.data:
            return Waiting("the namespace's keys and certificates are being made")
        keys = None
        if spec.gateway.auth.mode == "ApiKey" and spec.gateway.auth.secret_ref is not None:
            keys = world.secret(namespace, spec.gateway.auth.secret_ref.name)
            if keys is None:
                return Waiting(f"Secret {spec.gateway.auth.secret_ref.name} is being read")
        tiers = [world.store.get(Tier, namespace, entry.tier) for entry in spec.tiers]
        return build_table(
            namespace=namespace,
            region=region.meta.name,
            spec=spec,
            tiers=[TierPart(tier, world.engines(namespace, tier.meta.name)) for tier in tiers if tier is not None],
            aliases=world.roster(namespace).aliases(),
            api_keys=hash_api_keys(keys.data) if keys is not None else (),
            trust=Trust(
                engine_keys=pick_engine_keys(engine_keys.data),
                agent_tokens=pick_tokens(internal.data),
                agent_ca=internal.data.get("ca.crt", ""),
            ),
        )
