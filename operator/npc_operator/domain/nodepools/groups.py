"""The AutoScaling groups of a tier: what each should be, and what is to be done about what is there.

Desired capacity does not occur in here: AWS begins at the minimum, and the cluster autoscaler decides from then on.
Nothing is changed or deleted that does not carry all our tags for this cluster, namespace, tier and slice; and nothing
is deleted that we never tagged ourselves, by making or adopting it (the tag with the tier's uid, which we alone write).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.nodepools import AutoScalingGroup, InstanceRequirements, Range

SLICES = (names.SLICE_ON_DEMAND, names.SLICE_SPOT)
ON_DEMAND_STRATEGIES = {"LowestPrice": "lowest-price", "Prioritized": "prioritized"}
SPOT_STRATEGIES = {
    "CapacityOptimized": "capacity-optimized",
    "PriceCapacityOptimized": "price-capacity-optimized",
    "CapacityOptimizedPrioritized": "capacity-optimized-prioritized",
    "LowestPrice": "lowest-price",
}
MANUFACTURERS = {
    "Nvidia": "nvidia",
    "Amd": "amd",
    "AmazonWebServices": "amazon-web-services",
    "Xilinx": "xilinx",
}
"""Our words for AWS's: its API takes any text for the strategies of a group until it starts an instance."""
AUTOSCALER = "k8s.io/cluster-autoscaler"
"""Tags by which a cluster autoscaler finds groups, and knows the labels of nodes that a group of size 0 would have."""
IDENTITY = (names.LABEL_MANAGED_BY, names.LABEL_CLUSTER, names.LABEL_NAMESPACE, names.LABEL_TIER, names.LABEL_SLICE)
"""Tags that together say that a group is ours to change."""


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """A launch template. Wanted by id or by name; AWS answers with both."""

    id: str = ""
    name: str = ""
    version: str = "$Default"

    def names(self, other: TemplateRef) -> bool:
        """Whether `other` is the one that this asks for."""
        return self.version == other.version and self.id in ("", other.id) and self.name in ("", other.name)


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """What a group is made of, in AWS's words."""

    name: str
    template: TemplateRef
    subnets: tuple[str, ...]
    instance_types: tuple[str, ...]
    requirements: Mapping[str, Any] | None
    """`InstanceRequirements`, instead of instance types."""
    on_demand_base: int
    """How many are on-demand before the percentage counts: none, or the spot slice would not be all spot."""
    on_demand_percentage: int
    on_demand_strategy: str
    spot_strategy: str
    capacity_rebalance: bool
    min_size: int
    max_size: int
    tags: Mapping[str, str]

    def identity(self) -> dict[str, str]:
        return {key: self.tags.get(key, "") for key in IDENTITY}


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """A group that is there."""

    description: GroupDescription
    instances: int = 0
    """Of any state."""
    deleting: bool = False


# --- what is to be done about one slice's group ---


@dataclass(frozen=True, slots=True)
class Keep:
    """It is as wanted."""


@dataclass(frozen=True, slots=True)
class Create:
    """There is none."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """It carries our tags for this tier and another uid: the tier was made anew, or somebody tagged a group for us."""

    name: str


@dataclass(frozen=True, slots=True)
class Update:
    """It is ours and differs."""

    name: str
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shrink:
    """It is to go: minimum and maximum become 0, so that AWS ends its instances by their lifecycle hooks, which drain
    them."""

    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    """It is to go and has no instance any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Await:
    """AWS is at it."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A person has to look."""

    why: str


GroupPlan = Keep | Create | Adopt | Update | Shrink | Delete | Await | Refuse


def identity_of(*, cluster: str, namespace: str, tier: str, slice_: str) -> dict[str, str]:
    """The tags that make a group one of ours, for one slice."""
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_CLUSTER: cluster,
        names.LABEL_NAMESPACE: namespace,
        names.LABEL_TIER: tier,
        names.LABEL_SLICE: slice_,
    }


def plan_group(
    live: Sequence[LiveGroup], desired: GroupDescription | None, *, identity: Mapping[str, str]
) -> GroupPlan:
    """`live` are the groups that carry `identity` or have the wanted name; `desired` None: there should be none."""
    ours = [group for group in live if group.description.identity() == identity]
    if len(ours) > 1:
        found = ", ".join(sorted(group.description.name for group in ours))
        return Refuse(f"several AutoScaling groups carry this slice's tags: {found}; untag or delete all but one")
    if not ours:
        if desired is None:
            return Keep()
        if any(group.description.name == desired.name for group in live):
            return Refuse(f"AutoScaling group {desired.name} exists and does not carry our tags; delete it or tag it")
        return Create()
    (group,) = ours
    have = group.description
    if group.deleting:
        return Await(have.name, "it is being deleted")
    if desired is None:
        if not have.tags.get(names.LABEL_TIER_UID):
            return Keep()
        if have.min_size or have.max_size:
            return Shrink(have.name)
        return Await(have.name, f"{group.instances} instances end") if group.instances else Delete(have.name)
    if have.tags.get(names.LABEL_TIER_UID) != desired.tags[names.LABEL_TIER_UID]:
        return Adopt(have.name)
    changed = find_changes(have, desired)
    return Update(have.name, changed) if changed else Keep()


def find_changes(have: GroupDescription, want: GroupDescription) -> tuple[str, ...]:
    """What of a group differs, in words. Its name is its own; tags of others are theirs."""
    fields = {
        "launch template": not want.template.names(have.template),
        "subnets": sorted(have.subnets) != sorted(want.subnets),
        "instance types": have.instance_types != want.instance_types,
        "instance requirements": _spoken(have.requirements) != _spoken(want.requirements),
        "on-demand base": have.on_demand_base != want.on_demand_base,
        "on-demand percentage": have.on_demand_percentage != want.on_demand_percentage,
        "on-demand allocation strategy": have.on_demand_strategy != want.on_demand_strategy,
        "spot allocation strategy": have.spot_strategy != want.spot_strategy,
        "capacity rebalance": have.capacity_rebalance != want.capacity_rebalance,
        "minimum": have.min_size != want.min_size,
        "maximum": have.max_size != want.max_size,
        "tags": any(have.tags.get(key) != value for key, value in want.tags.items()),
    }
    return tuple(name for name, differs in fields.items() if differs)


def _spoken(requirements: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What we ever say of instances: AWS may add words of its own, and keeps lists in no order."""
    if requirements is None:
        return None
    found = {key: requirements[key] for key in SPOKEN if key in requirements}
    return {key: sorted(value) if isinstance(value, list) else dict(value) for key, value in found.items()}


def describe_groups(meta: ObjectMeta, spec: GpuTierSpec, wanted: AutoScalingGroup) -> dict[str, GroupDescription]:
    """By slice, what each group should be."""
    return {slice_: _describe(meta, spec, wanted, slice_) for slice_ in SLICES}


def _describe(meta: ObjectMeta, spec: GpuTierSpec, wanted: AutoScalingGroup, slice_: str) -> GroupDescription:
    template = wanted.launch_template
    spot = slice_ == names.SLICE_SPOT
    return GroupDescription(
        name=names.auto_scaling_group(wanted.cluster_name, meta.namespace, meta.name, slice_),
        template=TemplateRef(template.id or "", template.name or "", template.version),
        subnets=wanted.subnets,
        instance_types=wanted.instance_types,
        requirements=None if wanted.instance_requirements is None else _requirements(wanted.instance_requirements),
        on_demand_base=0,
        on_demand_percentage=0 if spot else 100,
        on_demand_strategy=ON_DEMAND_STRATEGIES[wanted.on_demand_allocation_strategy],
        spot_strategy=SPOT_STRATEGIES[wanted.spot_allocation_strategy],
        # On-demand instances are never rebalanced; AWS keeps the flag all the same.
        capacity_rebalance=spot and wanted.capacity_rebalance,
        min_size=wanted.min_size,
        max_size=wanted.max_size,
        tags=_tags(meta, spec, wanted, slice_),
    )


def _tags(meta: ObjectMeta, spec: GpuTierSpec, wanted: AutoScalingGroup, slice_: str) -> dict[str, str]:
    label = spec.capacity_type_label.label()
    value = label.spot_value if slice_ == names.SLICE_SPOT else label.on_demand_value or "on-demand"
    return {
        f"{AUTOSCALER}/enabled": "true",
        f"{AUTOSCALER}/{wanted.cluster_name}": "owned",
        **wanted.tags,
        f"{AUTOSCALER}/node-template/label/{label.key}": value,
        **identity_of(cluster=wanted.cluster_name, namespace=meta.namespace, tier=meta.name, slice_=slice_),
        names.LABEL_TIER_UID: meta.uid,
    }


SPOKEN = (
    "VCpuCount",
    "MemoryMiB",
    "AcceleratorCount",
    "AcceleratorNames",
    "AcceleratorManufacturers",
    "AcceleratorTotalMemoryMiB",
    "AllowedInstanceTypes",
    "ExcludedInstanceTypes",
)


def _requirements(wanted: InstanceRequirements) -> dict[str, Any]:
    """AWS's InstanceRequirements; what is left open is left out."""
    built: dict[str, Any] = {
        "VCpuCount": _range(wanted.vcpus),
        "MemoryMiB": _range(wanted.memory_mebibytes),
        "AcceleratorCount": _range(wanted.accelerators),
    }
    if wanted.accelerator_names:
        built["AcceleratorNames"] = list(wanted.accelerator_names)
    if wanted.accelerator_manufacturers:
        built["AcceleratorManufacturers"] = [MANUFACTURERS[one] for one in wanted.accelerator_manufacturers]
    if wanted.accelerator_memory_mebibytes is not None:
        built["AcceleratorTotalMemoryMiB"] = _range(wanted.accelerator_memory_mebibytes)
    if wanted.allowed_instance_types:
        built["AllowedInstanceTypes"] = list(wanted.allowed_instance_types)
    if wanted.excluded_instance_types:
        built["ExcludedInstanceTypes"] = list(wanted.excluded_instance_types)
    return built


def _range(wanted: Range) -> dict[str, int]:
    return {"Min": wanted.min} if wanted.max is None else {"Min": wanted.min, "Max": wanted.max}
