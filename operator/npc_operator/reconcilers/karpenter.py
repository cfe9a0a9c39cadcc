"""A tier's NodePools: applied as wanted, put back where somebody changed them, removed where they are not wanted.

They are listed and not watched, because a cluster need not know the kind; so drift is put back at the next look. Ours
is what has the name and not another tier's labels, and what we applied with this tier's labels: a copy that somebody
made of one, labels and all, is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.drift import find_drift, owned_fields
from npc_operator.domain.nodepools.groups import SLICES
from npc_operator.manifests.node_pool import API_VERSION, KIND, pool_selector
from npc_operator.ports import Conflict, Manifest, NotFound, ObjectRef, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.looked import Looked, failed, join

MISSING = Finding(
    reasons.KARPENTER_MISSING,
    f"the cluster does not serve {KIND} in {API_VERSION}: install Karpenter (1.0 or newer), or set "
    "nodePools.provider to existing",
)


async def keep_node_pools(context: Context, meta: ObjectMeta, wanted: Sequence[dict[str, Any]]) -> Looked:
    """Make the tier's NodePools exactly these."""
    selector = pool_selector(meta.namespace, meta.name)
    try:
        live = {
            pool["metadata"]["name"]: pool
            async for pool in context.kube.list(API_VERSION, KIND, namespace=None, selector=selector)
        }
    except NotFound:
        return Looked(faults=(MISSING,) if wanted else (), empty=True)
    except PortError as error:
        return failed(f"{KIND}s", error)
    named = {manifest["metadata"]["name"] for manifest in wanted}
    looks = [await _keep(context, meta, manifest, live.get(manifest["metadata"]["name"])) for manifest in wanted]
    others = sorted((_names(meta) | live.keys()) - named)
    looks += [await _clear(context, meta, name, live.get(name)) for name in others]
    return join(looks)


def _names(meta: ObjectMeta) -> set[str]:
    return {names.node_pool(meta.namespace, meta.name, slice_) for slice_ in SLICES}


async def _keep(context: Context, meta: ObjectMeta, manifest: dict[str, Any], live: Manifest | None) -> Looked:
    name = manifest["metadata"]["name"]
    what = f"{KIND} {name}"
    try:
        if live is None:
            live = await context.kube.get(ObjectRef(API_VERSION, KIND, "", name))
            if live is not None and not _is_ours(live, meta):
                return Looked(faults=(Finding(reasons.NAME_TAKEN, f"{what} exists and is not ours; delete it"),))
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return Looked(errors=(f"{what} is still being deleted",), busy=True)
        changed = () if live is None else find_drift(manifest, live, manager=names.MANAGER_CHILDREN)
        if live is None or changed:
            applied = await context.kube.apply(manifest, manager=names.MANAGER_CHILDREN)
            told = events.created(KIND, name) if live is None else events.restored(KIND, name, changed)
            events.emit(context.recorder, events.object_ref(names.KIND_TIER, meta), told)
            live = applied
    except NotFound:
        return Looked(faults=(MISSING,))
    except PortError as error:
        return failed(what, error)
    ready = _find_ready(live)
    if ready.get("status") == "False":
        why = ready.get("message") or ready.get("reason") or "not ready"
        unready = Finding(reasons.NODE_CLASS_NOT_READY, f"{what}: {why}; check its node class")
        return Looked(faults=(unready,), busy=True)
    return Looked(kept=(what,), unproven=ready.get("status") != "True")


async def _clear(context: Context, meta: ObjectMeta, name: str, live: Manifest | None) -> Looked:
    """See to it that there is none of ours of this name; `live` as found by its labels, which it may have lost."""
    if live is not None and name not in _names(meta) and not _was_applied(live):
        return Looked(empty=True)
    if live is None:
        try:
            live = await context.kube.get(ObjectRef(API_VERSION, KIND, "", name))
        except PortError as error:
            return failed(f"{KIND} {name}", error)
        if live is None or not _is_ours(live, meta):
            return Looked(empty=True)
    return await _remove(context, meta, live)


async def _remove(context: Context, meta: ObjectMeta, pool: Manifest) -> Looked:
    metadata = pool["metadata"]
    if metadata.get("deletionTimestamp"):
        return Looked(busy=True)
    ref = ObjectRef(API_VERSION, KIND, "", metadata["name"], metadata["uid"])
    try:
        await context.kube.delete(ref, resource_version=metadata["resourceVersion"])
    except Conflict:
        return Looked(errors=(f"{KIND} {ref.name} changed while it was to be deleted",))
    except PortError as error:
        return failed(f"{KIND} {ref.name}", error)
    owner = events.object_ref(names.KIND_TIER, meta)
    events.emit(context.recorder, owner, events.removed(KIND, ref.name))
    return Looked(busy=True)


def _is_ours(live: Manifest, meta: ObjectMeta) -> bool:
    """One whose labels somebody took away: our manager applied it, and nothing says that it was for another tier."""
    labels = live["metadata"].get("labels") or {}
    return (
        _was_applied(live)
        and labels.get(names.LABEL_NAMESPACE, meta.namespace) == meta.namespace
        and labels.get(names.LABEL_TIER, meta.name) == meta.name
    )


def _was_applied(live: Manifest) -> bool:
    return owned_fields(live, manager=names.MANAGER_CHILDREN) is not None


def _find_ready(live: Manifest) -> Mapping[str, Any]:
    """What Karpenter says of a NodePool; nothing where it has not looked at it yet, which is no fault."""
    conditions = (live.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == "Ready"), {})
