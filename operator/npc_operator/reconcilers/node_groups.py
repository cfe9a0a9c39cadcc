"""A tier's AutoScaling groups: looked at, planned slice by slice, and brought one step closer at each look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.nodepools import GroupDescription, Place
from npc_operator.domain.nodepools.groups import (
    SLICES,
    Adopt,
    Await,
    Create,
    Delete,
    GroupPlan,
    Keep,
    Refuse,
    Shrink,
    Update,
    identity_of,
    plan_group,
)
from npc_operator.ports import Conflict, NodeGroups, NotFound, PortError
from npc_operator.reconcilers import events
from npc_operator.reconcilers.context import Context
from npc_operator.reconcilers.looked import Looked, join

KIND = "AutoScaling group"
QUOTA_WORDS = ("limit", "quota", "count exceeded", "countexceeded")
"""In what EC2 says of an instance that it did not start: VcpuLimitExceeded, "Max spot instance count exceeded"."""


async def reach_groups(groups: NodeGroups, meta: ObjectMeta, place: Place) -> Looked | None:
    """Whether AWS answers there at all, before anything is noted or made; says why it does not."""
    try:
        await groups.find(place.region, named=(), tagged=_tags_of(meta, place))
    except PortError as error:
        return _failed(f"{KIND}s in {place.region}", error)
    return None


async def keep_groups(
    context: Context, groups: NodeGroups, meta: ObjectMeta, place: Place, wanted: Mapping[str, GroupDescription]
) -> Looked:
    """Make the tier's groups in one region exactly these, by slice; none for a slice that is left out."""
    tags = _tags_of(meta, place)
    named = [names.auto_scaling_group(place.cluster, meta.namespace, meta.name, slice_) for slice_ in SLICES]
    try:
        live = await groups.find(place.region, named=named, tagged=tags)
    except PortError as error:
        return _failed(f"{KIND}s in {place.region}", error)
    looks = []
    for slice_ in SLICES:
        desired = wanted.get(slice_)
        identity = {**tags, names.LABEL_SLICE: slice_}
        name = names.auto_scaling_group(place.cluster, meta.namespace, meta.name, slice_)
        concerned = [one for one in live if one.description.identity() == identity or one.description.name == name]
        plan = plan_group(concerned, desired, identity=identity)
        looks.append(await _act(context, groups, meta, place.region, plan, desired))
    return join(looks)


def _tags_of(meta: ObjectMeta, place: Place) -> dict[str, str]:
    """What the groups of both slices carry."""
    tags = identity_of(cluster=place.cluster, namespace=meta.namespace, tier=meta.name, slice_="")
    del tags[names.LABEL_SLICE]
    return tags


async def _act(
    context: Context,
    groups: NodeGroups,
    meta: ObjectMeta,
    region: str,
    plan: GroupPlan,
    desired: GroupDescription | None,
) -> Looked:
    try:
        return await _carry_out(context, groups, meta, region, plan, desired)
    except (Conflict, NotFound) as error:
        return Looked(errors=(str(error),), busy=True)  # it came or went meanwhile: the next look says what it is
    except PortError as error:
        name = desired.name if desired is not None else getattr(plan, "name", "")
        return _failed(f"{KIND} {name}", error)


async def _carry_out(
    context: Context,
    groups: NodeGroups,
    meta: ObjectMeta,
    region: str,
    plan: GroupPlan,
    desired: GroupDescription | None,
) -> Looked:
    def tell(event: events.Event) -> None:
        events.emit(context.recorder, events.object_ref(names.KIND_TIER, meta), event)

    match plan:
        case Keep():
            if desired is None:
                return Looked(empty=True)
            return await _judge(groups, region, desired.name)
        case Create():
            wanted = _given(desired)
            await groups.create(region, wanted)
            tell(events.created(KIND, wanted.name))
            return Looked(kept=(f"{KIND} {wanted.name}",))
        case Adopt(name=name):
            await groups.update(region, name, _given(desired))
            tell(events.adopted_group(name))
            return Looked(kept=(f"{KIND} {name}",))
        case Update(name=name, changed=changed):
            await groups.update(region, name, _given(desired))
            tell(events.restored(KIND, name, changed))
            return Looked(kept=(f"{KIND} {name}",))
        case Shrink(name=name):
            await groups.shrink(region, name)
            return Looked(busy=True)
        case Delete(name=name):
            await groups.delete(region, name)
            tell(events.removed(KIND, name))
            return Looked(busy=True)
        case Await(name=name, why=why):
            return Looked(errors=() if desired is None else (f"{KIND} {name}: {why}",), busy=True)
        case Refuse(why=why):
            return Looked(faults=(Finding(reasons.NAME_TAKEN, why),))
        case _:
            assert_never(plan)


def _given(desired: GroupDescription | None) -> GroupDescription:
    """What a plan that makes something makes it of."""
    if desired is None:
        raise ValueError("a group that is not wanted cannot be made")
    return desired


async def _judge(groups: NodeGroups, region: str, name: str) -> Looked:
    """A group that is as wanted may still be unable to bring nodes."""
    why = await groups.last_failure(region, name)
    if not any(word in why.lower() for word in QUOTA_WORDS):
        return Looked(kept=(f"{KIND} {name}",))  # no capacity now is the market's word, not a fault
    message = f"{KIND} {name}: {why}; ask AWS for a higher quota, or lower maxSize"
    return Looked(faults=(Finding(reasons.QUOTA_EXCEEDED, message),))


def _failed(what: str, error: PortError) -> Looked:
    if error.reason == "CloudCredentials":
        message = (
            f"{what}: {error}; give the operator's ServiceAccount a role (EKS Pod Identity or IRSA), "
            "see docs/clouds/aws.md"
        )
        return Looked(faults=(Finding(reasons.CLOUD_CREDENTIALS, message),))
    if error.reason == "Forbidden":
        message = f"{what}: {error}; grant the operator's role the policy of docs/clouds/aws.md"
        return Looked(faults=(Finding(reasons.NODE_POOLS_FORBIDDEN, message),))
    if error.reason == "QuotaExceeded":
        return Looked(faults=(Finding(reasons.QUOTA_EXCEEDED, f"{what}: {error}; ask AWS for a higher quota"),))
    if error.retryable:
        return Looked(errors=(f"{what}: {error}",))
    return Looked(faults=(Finding(reasons.NODE_POOLS_REFUSED, f"{what} was refused: {error}"),))
