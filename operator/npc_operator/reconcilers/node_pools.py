"""What brings a tier's nodes, and room kept free on them: noted on the tier first, then made, kept and undone.

The note (an annotation, with a finalizer beside it while anything of it is outside of the namespace) is written before
anything is made, so that neither a crash nor another spec leaves behind what nobody knows of. Whatever goes wrong here
is said in a condition; the tier goes on without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, join_messages
from npc_operator.domain.facts import Child, Tier, Unreadable
from npc_operator.domain.keys import Key
from npc_operator.domain.nodepools import (
    HEADROOM,
    KARPENTER,
    Hold,
    NodePoolsFact,
    Place,
    decide_hold,
    describe_groups,
    format_places,
    parse_places,
    summarize,
    wanted_places,
)
from npc_operator.domain.nodepools.groups import SLICES
from npc_operator.domain.outcomes import Done, Outcome, Retry, Wait
from npc_operator.manifests.node_pool import build_node_pool
from npc_operator.ports import Conflict, Manifest, NodeGroups, NotFound, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.headroom import keep_headroom
from npc_operator.reconcilers.karpenter import keep_node_pools
from npc_operator.reconcilers.looked import Looked, failed, join
from npc_operator.reconcilers.node_groups import keep_groups, reach_groups

LOOK_SECONDS = 30.0
"""Drift of what is not watched is put back within this time."""
CLOUD_LOOK_SECONDS = 60.0
"""AWS throttles an account's reads together: 100 tiers make 7 requests a second."""
BUSY_LOOK_SECONDS = 5.0
CLOUD_LOOKS_AT_ONCE = 4
"""A cloud that does not answer holds each look for up to two minutes, and must not hold all of the operator's hands."""
TURN_SECONDS = 1.0
ORPHANS = "orphan"
"""The API server's own finalizer, for `kubectl delete --cascade=orphan`."""
HELD = (
    f"nothing is left outside, but somebody else wrote the finalizer {names.FINALIZER_NODE_POOLS}, too (a backup that "
    "was restored?), and only they or you can take it off: see docs/node-pools.md#removing"
)


@dataclass(slots=True)
class _Memory:
    """Of one tier, by this leadership: what a watch that is late does not say yet."""

    uid: str
    noted: frozenset[Place] = frozenset()
    """As it was written last."""
    removing_since: float | None = None
    """When this leadership first looked at the deleted tier, by the monotonic clock."""
    finalizer_stays: bool = False
    """The finalizer was let go, and was still there."""


class NodePoolsReconciler:
    """One per leadership. It needs nothing of what an earlier one knew: that is on the tiers."""

    def __init__(self, context: Context, groups: NodeGroups) -> None:
        self._context = context
        self._groups = groups
        self._memories: dict[tuple[str, str], _Memory] = {}
        self._cloud_looks = 0

    async def reconcile(self, key: Key) -> Outcome:
        """One look at everything a tier may have, and one step closer to what it should have."""
        store = self._context.world.store
        if not (self._context.world.synced() and store.synced(Child)):
            return Wait("the store is being filled", 1.0)
        # One that cannot be read any more is left as it is, but it can still be deleted.
        unreadable = store.get(Unreadable, key.namespace, f"{names.KIND_TIER}/{key.name}")
        tier = store.get(Tier, key.namespace, key.name) if unreadable is None else None
        meta = tier.meta if tier is not None else unreadable.meta if unreadable is not None else None
        if meta is None:
            store.drop(NodePoolsFact, key.namespace, key.name)
            self._memories.pop((key.namespace, key.name), None)
            return Done()
        deleting = meta.deletion_timestamp is not None
        if not deleting and (tier is None or tier.spec.suspend):
            return Done(requeue_after=LOOK_SECONDS if tier is not None and wanted_places(tier.spec) else None)
        memory = self._remember(meta)
        recorded = _said(meta) | memory.noted
        wanted = frozenset() if deleting or tier is None else wanted_places(tier.spec)
        held = names.FINALIZER_NODE_POOLS in meta.finalizers
        if deleting and held and tier is not None and not any(place.outside for place in recorded):
            recorded |= wanted_places(tier.spec)  # somebody took the note away: its spec is the next best word
        if not (recorded or wanted or held):
            store.drop(NodePoolsFact, key.namespace, key.name)
            return Done()
        if not any(place.region for place in recorded | wanted):
            return await self._work(meta, tier, recorded, wanted)
        if self._cloud_looks >= CLOUD_LOOKS_AT_ONCE:
            return Wait("other tiers wait for the cloud", TURN_SECONDS)
        self._cloud_looks += 1
        try:
            return await self._work(meta, tier, recorded, wanted)
        finally:
            self._cloud_looks -= 1

    def _remember(self, meta: ObjectMeta) -> _Memory:
        """What is known of this very tier, and not of one of its name before it."""
        at = (meta.namespace, meta.name)
        if at not in self._memories or self._memories[at].uid != meta.uid:
            self._memories[at] = _Memory(meta.uid)
        return self._memories[at]

    async def _work(
        self, meta: ObjectMeta, tier: Tier | None, recorded: frozenset[Place], wanted: frozenset[Place]
    ) -> Outcome:
        held, noted = names.FINALIZER_NODE_POOLS in meta.finalizers, _said(meta)
        now = self._context.clock.monotonic()
        looks: dict[Place, Looked] = {}
        since, ended = None, Looked()
        if meta.deletion_timestamp is None:
            # A place is noted once it answers: a region that does not exist would stay on the tier for ever.
            for place in sorted(wanted - recorded):
                if place.region and (silent := await reach_groups(self._groups, meta, place)) is not None:
                    looks[place] = silent
            wanted = wanted.difference(looks)
            before = decide_hold(recorded=recorded, wanted=wanted, empty=(), deleting_since=None, now=now)
            if before != Hold(noted, held) and (refused := await self._note(meta, before)) is not None:
                return self._conclude(meta, join([refused, *looks.values()]), wanted.union(looks))
            recorded, noted, held = before.places, before.places, before.finalizer
        else:
            memory = self._remember(meta)
            memory.removing_since = since = now if memory.removing_since is None else memory.removing_since
            if held and any(place.outside for place in recorded):
                ended = await self._end_engines(meta)
        looks |= {place: await self._look(meta, tier, place, True) for place in sorted(wanted)}
        # What another provider made goes once the one that is wanted now is there: until then the tier lives on it.
        new = [look for place, look in looks.items() if place.outside]
        unmade = since is None and any(look.faults or look.errors or look.unproven for look in new)
        kept = frozenset(place for place in recorded - wanted if place.outside and unmade)
        looks |= {place: await self._look(meta, tier, place, False) for place in sorted(recorded - wanted - kept)}
        empty = {place for place, look in looks.items() if look.empty}
        after = decide_hold(recorded=recorded, wanted=wanted, empty=empty, deleting_since=since, now=now)
        if since is not None and not held:
            after = replace(after, finalizer=False)  # none can be added any more
        if after.abandoned:
            told = events.abandoned(tuple(str(place) for place in after.abandoned))
            events.emit(self._context.recorder, events.object_ref(names.KIND_TIER, meta), told)
        whole = join([*looks.values(), ended, Looked(busy=bool(kept) and any(look.unproven for look in new))])
        if after != Hold(noted, held):
            refused = await self._note(meta, after)
            whole = whole if refused is None else join([whole, refused])
        if self._remember(meta).finalizer_stays and names.FINALIZER_NODE_POOLS in meta.finalizers:
            whole = join([whole, Looked(faults=(Finding(reasons.FINALIZER_HELD, HELD),))])
        return self._conclude(meta, whole, (recorded | wanted).union(looks), leaving=after.places - wanted)

    async def _end_engines(self, meta: ObjectMeta) -> Looked:
        """The engines of a deleted tier go now, as without a finalizer they would: their budget lets one of them go,
        and none after it, because no successor finds a node any more. Unless they are to stay without it."""
        if ORPHANS in meta.finalizers:
            return Looked()
        owner, errors = events.object_ref(names.KIND_TIER, meta), list[str]()
        for slice_ in SLICES:
            name = names.slice_deployment(meta.name, slice_)
            child = self._context.world.child(meta.namespace, "Deployment", name)
            if child is not None:
                errors.append((await self._context.children.remove(child, owner)).error)
        found = [error for error in errors if error]
        # In a namespace that goes, the right to do so may be gone already; nothing else is put off for it.
        return Looked(faults=(Finding(reasons.RETRYING, join_messages(found)),), busy=True) if found else Looked()

    async def _look(self, meta: ObjectMeta, tier: Tier | None, place: Place, wanted: bool) -> Looked:
        pools = tier.spec.node_pools if tier is not None and wanted else None
        if place == HEADROOM:
            return await keep_headroom(self._context, meta, tier, 0 if pools is None else pools.headroom_replicas)
        if place == KARPENTER:
            made = None if pools is None else pools.provider.karpenter
            manifests = (
                []
                if tier is None or made is None
                else [build_node_pool(meta, tier.spec, made, slice_) for slice_ in SLICES]
            )
            return await keep_node_pools(self._context, meta, manifests)
        group = None if pools is None else pools.provider.auto_scaling_group
        described = {} if tier is None or group is None else describe_groups(meta, tier.spec, group)
        return await keep_groups(self._context, self._groups, meta, place, described)

    async def _note(self, meta: ObjectMeta, hold: Hold) -> Looked | None:
        """Write the note and the finalizer; says what hindered it. With the uid it cannot land on a successor."""
        finalizers = [names.FINALIZER_NODE_POOLS] if hold.finalizer else []
        memory = self._remember(meta)
        memory.noted |= hold.places  # it may be written although no answer comes
        try:
            live = await self._apply(meta, format_places(hold.places) or None, finalizers)
            if not hold.places and names.ANNOTATION_NODE_POOLS in (live["metadata"].get("annotations") or {}):
                # Whoever brought the tier back from a backup has it, too: what is overwritten is theirs no more.
                await self._apply(meta, "", finalizers)
                live = await self._apply(meta, None, finalizers)
        except (Conflict, NotFound):
            return None if meta.deletion_timestamp else Looked(errors=(f"GpuTier {meta.name} is another one now",))
        except PortError as error:
            return failed(f"the finalizer of GpuTier {meta.name}", error)
        memory.noted = hold.places
        memory.finalizer_stays = not hold.finalizer and names.FINALIZER_NODE_POOLS in (
            live["metadata"].get("finalizers") or ()
        )
        return None

    async def _apply(self, meta: ObjectMeta, places: str | None, finalizers: list[str]) -> Manifest:
        metadata: dict[str, object] = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}
        if places is not None:
            metadata["annotations"] = {names.ANNOTATION_NODE_POOLS: places}
        if finalizers:
            metadata["finalizers"] = finalizers
        manifest = {"apiVersion": names.API_VERSION, "kind": names.KIND_TIER, "metadata": metadata}
        return await self._context.kube.apply(manifest, manager=names.MANAGER_OUTSIDE)

    def _conclude(
        self, meta: ObjectMeta, whole: Looked, places: frozenset[Place], *, leaving: frozenset[Place] = frozenset()
    ) -> Outcome:
        store, owner = self._context.world.store, events.object_ref(names.KIND_TIER, meta)
        faults = list(whole.faults)
        if whole.errors:
            faults.append(Finding(reasons.RETRYING, join_messages(whole.errors)))
        fact = summarize(faults, whole.kept, tuple(str(place) for place in sorted(leaving)))
        before = store.get(NodePoolsFact, meta.namespace, meta.name)
        if whole.faults and (before is None or before.reason != fact.reason):
            events.emit(self._context.recorder, owner, events.stalled(faults[0]))
        store.put(NodePoolsFact, meta.namespace, meta.name, fact)
        if whole.errors:
            return Retry(join_messages(whole.errors))
        if whole.busy:
            return Done(requeue_after=BUSY_LOOK_SECONDS)
        cloud = any(place.region for place in places)
        return Done(requeue_after=CLOUD_LOOK_SECONDS if cloud else LOOK_SECONDS)


def _said(meta: ObjectMeta) -> frozenset[Place]:
    """What is noted on the tier, as the watch brought it."""
    return parse_places(meta.annotations.get(names.ANNOTATION_NODE_POOLS, ""))
