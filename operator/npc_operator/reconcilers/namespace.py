"""The two Secrets that all engines and gateways of a namespace share, and their rotation.

Both are read live before anything is decided: what is made here is random, so an old view of the store must never lead
to making it again. Looking is not enough for the first time: a leader that was replaced while its write was on the way
would write over what the next one made. So a Secret is created empty, which only one can do, and keys go into it only
over the version that was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_operator.api import names
from npc_operator.domain.callers import SALT
from npc_operator.domain.drift import find_drift
from npc_operator.domain.facts import Child, Pod, Region
from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Done, Outcome, Wait
from npc_operator.domain.rotation import (
    CERTIFICATE_KIND,
    CURRENT,
    ENGINE_KEY_KIND,
    TOKEN_KIND,
    Verdict,
    age_of_key,
    current_engine_key,
    decide_rotation,
    drop_unused_keys,
    join_authorities,
    parse_handled,
    rotate_engine_key,
    rotate_token,
    write_handled,
)
from npc_operator.manifests.labels import owner_reference
from npc_operator.manifests.secrets import build_empty_secret, build_namespace_secret, decode
from npc_operator.ports import Conflict, Manifest, NotFound, ObjectRef
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.material import certificate_end, make_certificate, make_token
from npc_operator.reconcilers.owners import find_owners
from npc_operator.reconcilers.route_tables import read_routes


async def reconcile_namespace(context: Context, key: Key) -> Outcome:
    """Make, renew, rotate and clean up, as far as needed; nothing is written when nothing is."""
    if not context.world.synced():
        return Wait("the store is being filled", 1.0)
    namespace = key.namespace
    owners = find_owners(context.world.store, namespace)
    if not owners:
        return Done()  # the garbage collector removes what had owners
    references = [owner_reference(kind, meta) for kind, meta in owners]
    region = context.world.active_region(namespace)
    about = events.object_ref(*owners[0]) if region is None else events.object_ref(names.KIND_REGION, region.meta)
    again: list[float] = []
    for keeper in (_keep_internal, _keep_engine_key):
        try:
            look = await keeper(context, namespace, region, references, about)
        except Conflict:
            return Wait("a Secret changed meanwhile", 0.1)
        except NotFound:
            return Done()
        if look is not None:
            again.append(look)
    return Done(requeue_after=min(again, default=None))


async def _keep_internal(
    context: Context, namespace: str, region: Region | None, owners: list[dict[str, Any]], about: ObjectRef
) -> float | None:
    live = await context.kube.get(ObjectRef("v1", "Secret", namespace, names.SECRET_INTERNAL))
    if _going(live):
        return 1.0
    data = decode((live or {}).get("data"))
    end = certificate_end(namespace, data.get("tls.crt", ""), data.get("tls.key", ""), data.get("ca.crt", ""))
    now = context.clock.now()
    verdict = decide_rotation(
        kinds=(TOKEN_KIND, CERTIFICATE_KIND),
        usable={TOKEN_KIND: bool(data.get("token", "").strip()), CERTIFICATE_KIND: end is not None and end > now},
        expires={} if end is None else {CERTIFICATE_KIND: end},
        region=region,
        handled=_handled(live),
        now=now,
    )
    for need in verdict.needs:
        if need.kind == TOKEN_KIND:
            data = rotate_token(data, make_token())
        else:
            made = make_certificate(namespace, now)
            authorities = join_authorities(made.authority, data.get("ca.crt", ""))
            data = {**data, "tls.crt": made.certificate, "tls.key": made.private_key, "ca.crt": authorities}
    data.setdefault("token-previous", "")
    if not data.get(SALT):
        data[SALT] = make_token()
    await _write(context, names.SECRET_INTERNAL, namespace, live, data, verdict, owners, about)
    return verdict.look_again


async def _keep_engine_key(
    context: Context, namespace: str, region: Region | None, owners: list[dict[str, Any]], about: ObjectRef
) -> float | None:
    live = await context.kube.get(ObjectRef("v1", "Secret", namespace, names.SECRET_ENGINE_KEY))
    if _going(live):
        return 1.0
    data = decode((live or {}).get("data"))
    if not current_engine_key(data):
        # Also of one that is there: whoever made it empty may have ended before the keys were in it.
        data = await _recover_keys(context, namespace, region) or data
    verdict = decide_rotation(
        kinds=(ENGINE_KEY_KIND,),
        usable={ENGINE_KEY_KIND: bool(current_engine_key(data))},
        expires={},
        region=region,
        handled=_handled(live),
        now=context.clock.now(),
    )
    if verdict.needs:
        data = rotate_engine_key(data, make_token(), find_named_keys(context, namespace))
    dropped: tuple[str, ...] = ()
    used = find_used_keys(context, namespace)
    if used is not None:
        kept = drop_unused_keys(data, used)
        dropped, data = tuple(sorted(set(data) - set(kept))), kept
    if await _write(context, names.SECRET_ENGINE_KEY, namespace, live, data, verdict, owners, about) and dropped:
        events.emit(context.recorder, about, events.key_dropped(dropped))
    return verdict.look_again


async def _recover_keys(context: Context, namespace: str, region: Region | None) -> dict[str, str]:
    """The keys of a Secret that somebody deleted, from the region's last routes: with new ones every engine would
    answer 401 until its pod was replaced. Empty where they are not known, or not those that pods were started with.
    """
    if region is None:
        return {}
    routes = names.routes_secret(region.meta.name)
    table = read_routes(await context.kube.get(ObjectRef("v1", "Secret", namespace, routes)))
    known = {key.id: key.key.get_secret_value() for key in table.engine_keys} if table is not None else {}
    named = find_named_keys(context, namespace) - {""}
    if not named or not named <= set(known):
        return {}
    return {**known, CURRENT: max(named, key=age_of_key)}


def find_named_keys(context: Context, namespace: str) -> set[str]:
    """Ids of engine keys that pods and templates name. When the Secret was deleted they tell which ids stood for other
    keys: reusing one would send pods a key that they were not started with, and never roll them.
    """
    store = context.world.store
    named = {pod.engine_key_id for pod in store.list(Pod, namespace).values()}
    return named | {
        _template_key(child) for child in store.list(Child, namespace).values() if child.kind == "Deployment"
    }


def _template_key(child: Child) -> str:
    template = child.manifest.get("spec", {}).get("template", {}).get("metadata", {})
    key_id: str = (template.get("annotations") or {}).get(names.ANNOTATION_ENGINE_KEY, "")
    return key_id


def find_used_keys(context: Context, namespace: str) -> set[str] | None:
    """Ids of engine keys that pods have or could still get; None while that cannot be said (something is unknown or
    rolling).
    """
    store = context.world.store
    if not (store.synced(Child) and store.synced(Pod)):
        return None
    used = {pod.engine_key_id for pod in store.list(Pod, namespace).values() if pod.component == names.COMPONENT_ENGINE}
    for child in store.list(Child, namespace).values():
        labels = child.manifest.get("metadata", {}).get("labels", {})
        if child.kind != "Deployment" or labels.get(names.LABEL_COMPONENT) != names.COMPONENT_ENGINE:
            continue
        status = child.status
        used.add(_template_key(child))
        current = child.manifest["metadata"].get("generation", 0) <= status.get("observedGeneration", 0)
        if not current or status.get("replicas", 0) != status.get("updatedReplicas", 0):
            return None  # an old ReplicaSet may yet start a pod with the old key
    return used - {""}


async def _write(
    context: Context,
    name: str,
    namespace: str,
    live: Manifest | None,
    data: Mapping[str, str],
    verdict: Verdict,
    owners: list[dict[str, Any]],
    about: ObjectRef,
) -> bool:
    """Apply one Secret if it differs from the live one; True if it was written. Raises Conflict when somebody else made
    or changed it since it was looked at.
    """
    manifest = build_namespace_secret(name, namespace, data=data, handled=write_handled(verdict.handled), owners=owners)
    if live is None:
        live = await context.kube.create(
            build_empty_secret(name, namespace, owners=owners), manager=names.MANAGER_CHILDREN
        )
    elif not find_drift(manifest, live, manager=names.MANAGER_CHILDREN):
        return False
    manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
    await context.kube.apply(manifest, manager=names.MANAGER_CHILDREN)
    for need in verdict.needs:
        events.emit(context.recorder, about, events.rotated(need.kind, first=need.first))
    return True


def _handled(live: Manifest | None) -> dict[str, Any]:
    annotations = ((live or {}).get("metadata") or {}).get("annotations") or {}
    return dict(parse_handled(annotations.get(names.ANNOTATION_HANDLED, "")))


def _going(live: Manifest | None) -> bool:
    return live is not None and bool(live["metadata"].get("deletionTimestamp"))
