"""A region: its gateway's Deployment, Service, disruption budget and NetworkPolicy, and what its status says."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.conditions import Finding, newborn_seconds, rfc3339
from npc_operator.domain.doors import SILENT_SECONDS, gone_at, is_silent, may_serve
from npc_operator.domain.facts import Adapter, CertificateFact, Child, Region, Tier, UnkeptRoutes
from npc_operator.domain.gateway_tls import find_certificate_fault, pick_tls
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.domain.region import RegionFacts, build_region_status, describe_unkept, find_quarantined
from npc_operator.manifests.disruption import build_gateway_budget
from npc_operator.manifests.gateway_deployment import build_gateway_deployment, read_tls
from npc_operator.manifests.gateway_service import build_gateway_service, gateway_endpoint
from npc_operator.manifests.network import build_gateway_policy
from npc_operator.ports import PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.children import Ensured
from npc_operator.reconcilers.context import Context, split_results
from npc_operator.reconcilers.route_tables import Waiting

GRACE_SECONDS = 5.0
"""A gateway that has not taken a table younger than this still counts as present: routes change more often than a
status should.
"""

PRUNED = frozenset({"Service", "NetworkPolicy"})
"""Kinds of which a former one may have to be removed: the name of a Service can change with the spec, and earlier
versions made a policy for the engines of each tier."""


async def reconcile_region(context: Context, key: Key) -> Outcome:
    """Children first, then one status."""
    world = context.world
    if not world.synced():
        return Wait("the store is being filled", 1.0)
    region = world.store.get(Region, key.namespace, key.name)
    if region is None:
        context.publisher.forget(names.KIND_REGION, key.namespace, key.name)
        return Done()
    active = world.active_region(key.namespace)
    holds = active is not None and active.meta.uid == region.meta.uid
    results: list[Ensured] = []
    spec = region.spec
    try:
        spec = await pick_spec(context, region)
        if holds and not region.spec.suspend and region.meta.deletion_timestamp is None:
            results = await _keep_children(context, region, spec)
    except PortError as error:
        results = [Ensured(error=f"Deployment {names.gateway(region.meta.name)}: {error}")]
    faults, errors = split_results(results)
    unkept = world.store.get(UnkeptRoutes, key.namespace, key.name)
    if unkept is not None and holds:
        faults = (*faults, describe_unkept(region.meta.name, unkept))
    now = context.clock.monotonic()
    ready, waiting = count_gateways(context, region, now) if holds else (0, "")
    silent, look_again = find_silent(context, region) if holds else ((), None)
    reference = region.spec.gateway.auth.secret_ref
    aliases = world.roster(key.namespace).aliases() if holds else ()
    facts = RegionFacts(
        region=region,
        holder=active.meta.name if active is not None else region.meta.name,
        tiers={entry.tier: world.store.get(Tier, key.namespace, entry.tier) for entry in region.spec.tiers},
        archetypes=len({alias.archetype for alias in aliases}),
        gateways_ready=ready,
        waiting=waiting,
        silent=silent,
        auth_secret=None if reference is None else world.secret(key.namespace, reference.name),
        faults=faults,
        errors=errors,
        certificate=_find_certificate_fault(context, region) if holds else None,
        endpoint=gateway_endpoint(region.meta, spec) if holds else "",
        issuer=world.issuer(),
        quarantined=find_quarantined(region.spec, world.store.list(Adapter, key.namespace).values()) if holds else (),
        newborn=newborn_seconds(region.meta.creation_timestamp, context.clock.now()) > 0,
    )
    later = await context.publisher.publish(region, build_region_status(facts, context.clock.now()))
    if errors:
        return Retry("; ".join(errors))
    if later is None and ready < region.spec.gateway.replicas and holds:
        later = GRACE_SECONDS
    return Done(requeue_after=min((after for after in (later, look_again) if after is not None), default=None))


async def pick_spec(context: Context, region: Region) -> NPCRegionSpec:
    """The spec as it can be carried out now: without a change of certificate that gateways could not follow. Raises
    PortError."""
    wanted = region.spec.gateway.tls
    if wanted is None:
        return region.spec
    namespace = region.meta.namespace
    live = await context.children.present(namespace, "apps/v1", "Deployment", names.gateway(region.meta.name))
    tls = pick_tls(
        wanted,
        None if live is None else read_tls(live),
        begun=live is not None,
        known=context.world.store.get(CertificateFact, namespace, wanted.secret_name),
    )
    gateway = region.spec.gateway.model_copy(update={"tls": tls})
    return region.spec.model_copy(update={"gateway": gateway})


def _find_certificate_fault(context: Context, region: Region) -> Finding | None:
    tls, namespace = region.spec.gateway.tls, region.meta.namespace
    known = None if tls is None else context.world.store.get(CertificateFact, namespace, tls.secret_name)
    return find_certificate_fault(tls, known, namespace=namespace, now=context.clock.now())


async def _keep_children(context: Context, region: Region, spec: NPCRegionSpec) -> list[Ensured]:
    owner = events.object_ref(names.KIND_REGION, region.meta)
    namespace = region.meta.namespace
    manifests: list[dict[str, Any]] = [
        build_gateway_service(region.meta, spec),
        build_gateway_budget(region.meta),
        build_gateway_policy(region.meta, context.operator),
        build_gateway_deployment(region.meta, spec, image=context.images.fleet, pull_policy=context.images.pull_policy),
    ]
    results = [await context.children.ensure(manifest, owner) for manifest in manifests]
    wanted = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    former = [
        child
        for child in context.world.store.list(Child, namespace).values()
        if child.kind in PRUNED and (child.kind, child.name) not in wanted and _belongs(child, region.meta.uid)
    ]
    if context.world.child(namespace, "NetworkPolicy", names.ENGINE_POLICY) is None:
        # Until the policy that all tiers share is there, nothing else guards their engines; its coming wakes this key.
        former = [child for child in former if child.kind != "NetworkPolicy"]
    return results + [await context.children.remove(child, owner) for child in former]


def _belongs(child: Child, uid: str) -> bool:
    metadata = child.manifest.get("metadata", {})
    if (metadata.get("labels") or {}).get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
        return False
    references = metadata.get("ownerReferences") or ()
    return any(reference.get("controller") and reference.get("uid") == uid for reference in references)


def find_silent(context: Context, region: Region) -> tuple[tuple[str, ...], float | None]:
    """(gateway pods that may still serve although they are not heard, seconds until that has to be asked again)."""
    routes, now = context.routes, context.clock.now()
    found: list[str] = []
    again: list[float] = []
    for door in context.world.doors(region.meta.namespace, region.meta.name):
        since = routes.silent_since(door)
        if since is None or routes.is_gone(door) or not may_serve(door.pod, heard=door.fact is not None):
            continue
        if is_silent(since, now):
            found.append(
                f"gateway pod {door.pod.name} on node {door.pod.node or '?'} has not answered since {rfc3339(since)}"
            )
        else:
            again.append(since + SILENT_SECONDS - now)
        due = gone_at(door.pod, since)
        if due is not None:
            again.append(due - now)
    return tuple(found), min(again, default=None)


def count_gateways(context: Context, region: Region, now: float) -> tuple[int, str]:
    """(gateway pods that are ready with the present routes, why there are no routes yet)."""
    namespace = region.meta.namespace
    if region.spec.suspend:
        # Nothing is pushed: what the gateways have is what they should have.
        return sum(door.pod.ready for door in context.world.doors(namespace, region.meta.name)), ""
    table = context.routes.present(namespace, region, now)
    if isinstance(table, Waiting):
        return 0, table.reason
    recent = context.routes.age(namespace, region.meta.name, now) < GRACE_SECONDS
    ready = 0
    for door in context.world.doors(namespace, region.meta.name):
        if door.pod.deleting or not door.pod.ready:
            continue
        applied = context.routes.applied(door)
        if applied is not None and (applied == table.stamp or (recent and applied.epoch == table.stamp.epoch)):
            ready += 1
    return ready, ""
