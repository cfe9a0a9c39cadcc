"""Which routes each gateway goes by: the present table of a region, built when asked and only when something in it
changed, and what is acknowledged.

An adapter may only be unloaded when no gateway can still send a line to it. What a gateway applied is known by the
stamp it reports; a stamp this leader did not give says nothing, so what is resident stays until that gateway has taken
a table of ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus
from npc_operator.domain.conditions import parse_rfc3339
from npc_operator.domain.desired import pick_quarantined
from npc_operator.domain.doors import gone_at, may_serve
from npc_operator.domain.facts import Adapter, GatewayFact, Pod, Region
from npc_operator.domain.routes import routed_names, same_routes
from npc_operator.ports import Clock, Stamps
from npc_operator.reconcilers.route_tables import RouteTables, Waiting
from npc_operator.reconcilers.underway import UnderWay
from npc_operator.reconcilers.world import Door, World
from npc_runtime.wire import RouteTable, Stamp, served_name

REMEMBERED = 64
"""Tables of a region whose content is remembered by stamp; a gateway further behind counts as unknown until it has
caught up. For each region alone: a busy one must not make others forget what their gateways go by."""


@dataclass(slots=True)
class _Page:
    table: RouteTable
    version: int
    """Of the world the table was built from."""
    since: float
    contents: OrderedDict[tuple[int, int], frozenset[tuple[str, str]]]
    """What this table and those before it may ask for, by stamp; the present one is the last."""
    pods: dict[tuple[int, int], frozenset[str]]
    """Uids of the pods in them."""


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
        self._tables = RouteTables(world)
        self._under_way = UnderWay()
        self._kept: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}

    def present(self, namespace: str, region: Region, now: float) -> RouteTable | Waiting:
        """The table the region's gateways should have. Its stamp changes with its content, or to beat another leader's
        (`restamp`). `now`, here and below, is monotonic.
        """
        key = (namespace, region.meta.name)
        version = self._world.version(namespace)
        page = self._pages.get(key)
        if page is not None and page.version == version:
            return page.table
        built = self._tables.build(namespace, region)
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
        self._under_way.send(door, self.applied(door), table.stamp)

    def acknowledge(self, pod: Pod, boot_id: str, stamp: Stamp) -> None:
        """A gateway answered a push: every worker of it goes by this table now."""
        self._acknowledged[pod.namespace, pod.name] = (pod.uid, boot_id, stamp)

    def keep(self, namespace: str, region: str, *tables: RouteTable | None) -> None:
        """This is what the region's Secret holds now, if anything, or one of these while it is being written: a gateway
        that starts goes by it before anybody hears of it."""
        self._kept[namespace, region] = frozenset().union(*(routed_names(table) for table in tables if table))

    def expect(self, adapter: Adapter, status: ArchetypeAdapterStatus) -> None:
        """This status is about to be written; routes will follow it."""
        self._under_way.expect(adapter, status)

    def settle(self, namespace: str, adapter: str) -> None:
        """What was expected of an adapter is in the store, or will not come."""
        self._under_way.settle(namespace, adapter)

    def forget_gateway(self, namespace: str, name: str) -> None:
        """The pod is gone."""
        self._acknowledged.pop((namespace, name), None)
        self._under_way.forget_gateway(namespace, name)
        self._silent.pop((namespace, name), None)

    def forget_region(self, namespace: str, name: str) -> None:
        """The region is gone, or does not hold its namespace any more."""
        self._pages.pop((namespace, name), None)
        self._kept.pop((namespace, name), None)
        self._tables.forget(namespace, name)

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
        if self._under_way.is_coming(namespace, wanted):
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
        later = self._under_way.pushed_after(door, applied.order())
        return any(order not in contents or wanted in contents[order] for order in later)

    def leaves_out(self, door: Door, region: str, uid: str) -> bool:
        """Whether no table names a pod that a gateway went by when it counted its lines, goes by now, or may come to go
        by: of what was pushed since and not answered nobody knows when it arrives."""
        page, applied = self._pages.get((door.pod.namespace, region)), self.applied(door)
        if page is None or door.fact is None or applied is None:
            return False
        later = self._under_way.pushed_after(door, applied.order())
        tables = (page.pods.get(order) for order in (door.fact.counted.order(), applied.order(), *later))
        return all(pods is not None and uid not in pods for pods in tables)

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
        pods = {} if before is None else before.pods
        present = frozenset(endpoint.uid for tier in stamped.tiers for endpoint in tier.endpoints)
        last = None if before is None else pods.get(before.table.stamp.order())
        pods[stamped.stamp.order()] = last if last is not None and last == present else present
        self._pages[key] = _Page(stamped, version, now, contents, pods)
        while len(contents) > REMEMBERED:
            pods.pop(contents.popitem(last=False)[0], None)
        return stamped
