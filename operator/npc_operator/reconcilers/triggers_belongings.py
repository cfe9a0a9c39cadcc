"""Which keys have to look again after a change of what belongs to a region, a tier or an adapter, or is named by one:
children, Secrets, certificates, gates, and what could not be read or kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from npc_operator.api import names
from npc_operator.domain.facts import Adapter, Child, Region, Tier
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers import concerned
from npc_operator.reconcilers.changes import refers_to


def on_child(_: Store, change: Change) -> Iterator[Key]:
    child: Child = change.new or change.old
    labels = child.manifest.get("metadata", {}).get("labels") or {}
    if child.kind == "Job":
        yield Key(KeyKind.GATE, change.namespace, labels.get(names.LABEL_ADAPTER, ""))
        return
    if labels.get(names.LABEL_COMPONENT) == names.COMPONENT_HEADROOM:
        yield Key(KeyKind.NODE_POOLS, change.namespace, labels.get(names.LABEL_TIER, ""))
        return
    if child.kind == "Secret" and child.name in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        yield Key(KeyKind.NAMESPACE, change.namespace, "")
    elif labels.get(names.LABEL_TIER):
        yield Key(KeyKind.TIER, change.namespace, labels[names.LABEL_TIER])
        if child.kind == "Deployment":
            yield Key(KeyKind.NAMESPACE, change.namespace, "")  # a finished roll may free an old engine key
    elif labels.get(names.LABEL_REGION):
        kind = KeyKind.ROUTES if child.kind == "Secret" else KeyKind.REGION
        yield Key(kind, change.namespace, labels[names.LABEL_REGION])
    for reference in child.manifest.get("metadata", {}).get("ownerReferences") or ():
        # Labels may have been taken away by others; owners are harder to lose.
        if reference.get("kind") == names.KIND_TIER:
            yield Key(KeyKind.TIER, change.namespace, reference["name"])
        elif reference.get("kind") == names.KIND_REGION and child.kind != "Secret":
            yield Key(KeyKind.REGION, change.namespace, reference["name"])


def on_secret(store: Store, change: Change) -> Iterator[Key]:
    namespace, name = change.namespace, change.name
    if name in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        yield Key(KeyKind.NAMESPACE, namespace, "")
        yield from concerned.regions(store, namespace)
        yield from concerned.routes(store, namespace)
        yield from (Key(KeyKind.TIER, namespace, tier) for tier in store.list(Tier, namespace))
        return
    for region in store.list(Region, namespace).values():
        reference = region.spec.gateway.auth.secret_ref
        if reference is not None and reference.name == name:
            yield Key(KeyKind.REGION, namespace, region.meta.name)
            yield from concerned.routes(store, namespace)
    for tier in store.list(Tier, namespace).values():
        if tier.spec.model.secret_ref is not None and tier.spec.model.secret_ref.name == name:
            yield Key(KeyKind.TIER, namespace, tier.meta.name)
    used = set()
    for adapter in store.list(Adapter, namespace).values():
        tiers = {
            variant.tier
            for variant in adapter.spec.variants
            if variant.source.secret_ref is not None and variant.source.secret_ref.name == name
        } | {
            status.tier
            for status in adapter.status.variants
            if refers_to(status.stable, name) or refers_to(status.candidate, name)
        }
        if tiers:
            yield Key(KeyKind.ADAPTER, namespace, adapter.meta.name)
            used |= tiers
    for tier_name in sorted(used):
        yield from concerned.agents_of(store, namespace, tier_name)


def on_certificate(store: Store, change: Change) -> Iterator[Key]:
    for region in store.list(Region, change.namespace).values():
        if region.spec.gateway.tls is not None and region.spec.gateway.tls.secret_name == change.name:
            yield Key(KeyKind.REGION, change.namespace, region.meta.name)


def on_unreadable(_: Store, change: Change) -> Iterator[Key]:
    kind, name = change.name.split("/", 1)
    kinds = {names.KIND_REGION: KeyKind.REGION, names.KIND_TIER: KeyKind.TIER, names.KIND_ADAPTER: KeyKind.ADAPTER}
    if kind in kinds:
        yield Key(kinds[kind], change.namespace, name)
    if kind == names.KIND_TIER:
        yield Key(KeyKind.NODE_POOLS, change.namespace, name)


def on_trial(store: Store, change: Change) -> Iterator[Key]:
    """How far the user's own test of a candidate is."""
    yield from concerned.adapters_for(store, change.namespace, {change.name.partition("/")[0]})


def on_issuer(store: Store, _: Change) -> Iterator[Key]:
    for namespace, name, region in store.items(Region):
        if region.spec.gateway.auth.service_accounts is not None:
            yield Key(KeyKind.REGION, namespace, name)
            yield from concerned.routes(store, namespace)


def on_unkept(_: Store, change: Change) -> Iterator[Key]:
    yield Key(KeyKind.REGION, change.namespace, change.name)
