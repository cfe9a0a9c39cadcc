"""Room for more engine pods of a tier: a CapacityBuffer where the cluster knows that kind, else pods that give way."""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.facts import Child, Tier
from npc_operator.manifests.headroom import (
    BUFFER_API_VERSION,
    BUFFER_KIND,
    build_capacity_buffer,
    build_placeholder,
    pick_headroom_slice,
)
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.ports import Conflict, Manifest, NotFound, ObjectRef, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.children import Ensured
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.looked import GRANT, Looked, failed, join

NO_KEY = "unused"
"""Placeholders mount no engine key; the pod they are cut from does."""


async def keep_headroom(context: Context, meta: ObjectMeta, tier: Tier | None, replicas: int) -> Looked:
    """`replicas` 0 (or no tier): nothing is wanted."""
    try:
        buffers = await _find_buffers(context, meta)
    except PortError as error:
        return failed(BUFFER_KIND, error)
    placeholder = context.world.child(meta.namespace, "Deployment", names.headroom(meta.name))
    if tier is None or not replicas:
        looks = [await _drop_buffer(context, one) for one in buffers or ()]
        looks.append(await _drop_placeholder(context, meta, placeholder))
        return join(looks)
    if buffers is None:
        return await _keep_placeholder(context, tier, replicas, placeholder)
    kept = await _ensure(context, tier, build_capacity_buffer(meta, tier.spec, replicas))
    gone = await _drop_placeholder(context, meta, placeholder)
    return join([kept, gone])


async def _find_buffers(context: Context, meta: ObjectMeta) -> list[Manifest] | None:
    """Ours; None where the cluster does not know the kind, or this operator may not use it."""
    selector = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_TIER}={meta.name}"
    found = []
    try:
        async for one in context.kube.list(
            BUFFER_API_VERSION, BUFFER_KIND, namespace=meta.namespace, selector=selector
        ):
            owners = one["metadata"].get("ownerReferences") or ()
            if any(owner.get("uid") == meta.uid for owner in owners):
                found.append(one)
    except NotFound:
        return None
    except PortError as error:
        if error.code != 403:
            raise
        return None
    return found


async def _keep_placeholder(context: Context, tier: Tier, replicas: int, known: Child | None) -> Looked:
    inputs = EngineInputs(
        meta=tier.meta,
        spec=tier.spec,
        slice_=pick_headroom_slice(tier.spec),
        engine_key_id=NO_KEY,
        agent_image=context.images.fleet,
        engine_image=context.images.engine,
        pull_policy=context.images.pull_policy,
    )
    kept = await _ensure(context, tier, build_placeholder(inputs, replicas))
    for condition in (known.status if known is not None else {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            message = f"{names.headroom(tier.meta.name)}: {condition.get('message', 'pods are refused')}; {GRANT}"
            return Looked(faults=(*kept.faults, Finding(reasons.HEADROOM_REFUSED, message)), errors=kept.errors)
    return kept


async def _ensure(context: Context, tier: Tier, manifest: dict[str, Any]) -> Looked:
    ensured: Ensured = await context.children.ensure(manifest, events.object_ref(names.KIND_TIER, tier.meta))
    if ensured.fault is not None:
        return Looked(faults=(ensured.fault,))
    if ensured.error:
        return Looked(errors=(ensured.error,))
    return Looked(kept=(f"{manifest['kind']} {manifest['metadata']['name']}",))


async def _drop_buffer(context: Context, live: Manifest) -> Looked:
    metadata = live["metadata"]
    if metadata.get("deletionTimestamp"):
        return Looked(busy=True)
    ref = ObjectRef(BUFFER_API_VERSION, BUFFER_KIND, metadata["namespace"], metadata["name"], metadata["uid"])
    try:
        await context.kube.delete(ref, resource_version=metadata["resourceVersion"])
    except Conflict:
        return Looked(errors=(f"{BUFFER_KIND} {ref.name} changed while it was to be deleted",))
    except PortError as error:
        return failed(f"{BUFFER_KIND} {ref.name}", error)
    return Looked(busy=True)


async def _drop_placeholder(context: Context, meta: ObjectMeta, known: Child | None) -> Looked:
    if known is None:
        return Looked(empty=True)
    removed = await context.children.remove(known, events.object_ref(names.KIND_TIER, meta))
    return Looked(errors=(removed.error,) if removed.error else (), busy=True)
