"""The Secret with a region's last route table, from which gateways start while the operator or the API server is away.

Written on change, at most every 5 seconds, and without residency: what is resident changes often, and whoever starts
from the Secret asks the agents anyway.
"""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.domain.drift import find_drift
from npc_operator.domain.facts import Region, UnkeptRoutes
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.domain.routes import ROUTES_SECRET_MAX_BYTES, pack_routes, same_routes, without_residency
from npc_operator.manifests.secrets import build_routes_secret
from npc_operator.ports import NotFound, ObjectRef, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.children import check_ownership
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.route_tables import Waiting, read_routes
from npc_runtime.wire import RouteTable

PACE_SECONDS = 5.0


class RoutesReconciler:
    """Remembers when each region's Secret was written and what it holds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[tuple[str, str], tuple[float, RouteTable]] = {}
        self._unkept: dict[tuple[str, str], tuple[float, RouteTable]] = {}
        """The last routes that did not fit, and when that was found."""

    async def reconcile(self, key: Key) -> Outcome:
        context = self._context
        if not context.world.synced():
            return Wait("the store is being filled", 1.0)
        region = context.world.store.get(Region, key.namespace, key.name)
        active = context.world.active_region(key.namespace)
        if region is None or active is None or active.meta.uid != region.meta.uid:
            self._held.pop((key.namespace, key.name), None)
            self._unkept.pop((key.namespace, key.name), None)
            context.world.store.drop(UnkeptRoutes, key.namespace, key.name)
            context.routes.forget_region(key.namespace, key.name)
            return Done()
        if region.meta.deletion_timestamp is not None:
            return Done()
        if region.spec.suspend and not context.routes.keeps_banned(key.namespace, region):
            return Done()
        now = context.clock.monotonic()
        present = context.routes.present(key.namespace, region, now)
        if isinstance(present, Waiting):
            return Wait(present.reason, 1.0)
        table = without_residency(present)
        held = self._held.get((key.namespace, key.name))
        child = context.world.child(key.namespace, "Secret", names.routes_secret(key.name))
        if held is not None and same_routes(held[1], table) and child is not None:
            return Done()
        unkept = self._unkept.get((key.namespace, key.name))
        if unkept is not None and same_routes(unkept[1], table):
            return Done()  # nothing can be written, and the region says so
        last_try = max((one[0] for one in (held, unkept) if one is not None), default=None)
        if last_try is not None and (wait := last_try + PACE_SECONDS - now) > 0:
            return Done(requeue_after=wait)
        try:
            return await self._keep(key, region, table, now)
        except PortError as error:
            return Retry(f"Secret {names.routes_secret(key.name)}: {error}")

    async def _keep(self, key: Key, region: Region, table: RouteTable, now: float) -> Outcome:
        context = self._context
        owner = events.object_ref(names.KIND_REGION, region.meta)
        live = await context.kube.get(ObjectRef("v1", "Secret", key.namespace, names.routes_secret(key.name)))
        if live is not None and (hindrance := check_ownership(live, owner)) is not None:
            return Retry(hindrance.error or (hindrance.fault.message if hindrance.fault else ""))
        kept = read_routes(live)
        if kept is not None and same_routes(kept, table):
            table = table.model_copy(update={"stamp": kept.stamp})  # an older order with the same content is as good
        packed = pack_routes(table)
        place = (key.namespace, key.name)
        if len(packed) > ROUTES_SECRET_MAX_BYTES:
            context.world.store.put(UnkeptRoutes, *place, UnkeptRoutes(len(packed), len(table.aliases)))
            context.routes.keep(*place, kept)
            self._unkept[place] = (now, table)
            return Done()
        context.world.store.drop(UnkeptRoutes, *place)
        self._unkept.pop(place, None)
        manifest = build_routes_secret(region.meta, packed)
        if live is None or find_drift(manifest, live, manager=names.MANAGER_CHILDREN):
            # Until it is answered the Secret may hold either.
            context.routes.keep(*place, kept, table)
            self._held.pop(place, None)
            try:
                await context.kube.apply(manifest, manager=names.MANAGER_CHILDREN)
            except NotFound:
                return Done()
        self._held[key.namespace, key.name] = (now, table)
        context.routes.keep(*place, table)
        return Done()
