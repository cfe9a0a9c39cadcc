"""One gateway pod: hand it the region's present route table, whenever it goes by another."""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.domain.facts import Pod
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.ports import PortError, StaleLeader
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.route_tables import Waiting

UNHEARD_LOOK_SECONDS = 30.0
TAKEN_BACK_SECONDS = 1.0
"""How soon to try again at a gateway that still asks for what it must not: a rollback is to be everywhere in two
seconds."""


async def reconcile_gateway(context: Context, key: Key) -> Outcome:
    """Push if needed. Keys are serial, so there is never more than one push to a gateway on its way."""
    world = context.world
    pod = world.store.get(Pod, key.namespace, key.name)
    if pod is None or pod.component != names.COMPONENT_GATEWAY:
        context.routes.forget_gateway(key.namespace, key.name)
        return Done()
    region = world.active_region(key.namespace)
    if region is None or region.meta.name != pod.region:
        return Done()
    for attempt in range(2):
        door = next((door for door in world.doors(key.namespace, pod.region) if door.pod.name == pod.name), None)
        if door is None or door.fact is None or not door.pod.ip:
            return Done()  # its first word wakes this key
        if not door.fact.reachable:
            # A push would only wait for its time limit, and so keep others from running; being heard wakes this key.
            return Wait(f"gateway {pod.name} is not heard", UNHEARD_LOOK_SECONDS)
        if region.spec.suspend and not context.routes.offers_banned(
            key.namespace, region, context.routes.applied(door)
        ):
            return Done()
        table = context.routes.present(key.namespace, region, context.clock.monotonic())
        if isinstance(table, Waiting):
            return Wait(table.reason, 1.0)
        if context.routes.up_to_date(door, table):
            return Done()
        context.routes.send(door, table)
        try:
            accepted = await context.gateways.push(key.namespace, door.pod.ip, table, pod_uid=door.pod.uid)
        except StaleLeader as stale:
            if attempt or not await context.stamps.outrank(stale.current):
                return Retry(f"gateway {pod.name} follows another leader")
            context.routes.restamp(key.namespace, region, stale.current, context.clock.monotonic())
            continue
        except PortError as error:
            if context.routes.goes_by_too_much(door, table):
                # What was taken back is heard there until it takes the routes: no growing pauses between tries.
                return Wait(f"gateway {pod.name} goes by routes that were taken back: {error}", TAKEN_BACK_SECONDS)
            return Retry(f"gateway {pod.name}: {error}")
        context.routes.acknowledge(door.pod, accepted.boot_id, accepted.stamp)
        return Done()
    return Retry(f"gateway {pod.name} refused twice")
