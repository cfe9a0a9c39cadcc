"""Who brings the nodes of a tier: Karpenter, an AutoScaling group, or whoever did before.

Karpenter's own words are kept as they are (`expireAfter: 720h`), because people copy them from its documentation. AWS's
strategies are CamelCase like every enum here; which of their words they stand for is in domain/nodepools/groups.py.
There is no field for a credential: the operator acts with its pod's own identity.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListSet, Rule
from npc_operator.api.meta import LABEL_KEY, AwsRegion, Labels, LabelValue, Quantity

Duration = Annotated[str, Field(max_length=32, pattern=r"^([0-9]+(s|m|h))+$")]
DurationOrNever = Annotated[str, Field(max_length=32, pattern=r"^(([0-9]+(s|m|h))+|Never)$")]
"""Karpenter's durations: 30s, 1h30m, Never."""
InstanceType = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")]
InstancePattern = Annotated[str, Field(min_length=1, max_length=30, pattern=r"^[a-zA-Z0-9.*-]+$")]
AcceleratorName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")]
Subnet = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^subnet-[0-9a-f]+$")]
TagValue = Annotated[str, Field(max_length=256)]

SETS_THESE = "the operator sets the capacity type of each slice, and Karpenter the rest"

AcceleratorManufacturer = Literal["Nvidia", "Amd", "AmazonWebServices", "Xilinx"]
OnDemandAllocation = Literal["LowestPrice", "Prioritized"]
SpotAllocation = Literal["CapacityOptimized", "PriceCapacityOptimized", "CapacityOptimizedPrioritized", "LowestPrice"]


class NodeClassRef(ApiModel):
    """A node class of yours: referred to, never written."""

    group: str = Field(min_length=1, max_length=253, pattern=r"^[^/]+$")
    """karpenter.k8s.aws, karpenter.azure.com, ..."""
    kind: str = Field(min_length=1, max_length=63)
    """EC2NodeClass, AKSNodeClass, ..."""
    name: str = Field(min_length=1, max_length=253)
    """Its name."""


class NodeRequirement(ApiModel):
    """What nodes must be, as in a NodePool of Karpenter."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "operators In and NotIn need values",
            field_path=".values",
        ),
        Rule(
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
            "operators Exists and DoesNotExist take no values",
            field_path=".values",
        ),
        Rule(
            "!(self.operator in ['Gt', 'Lt']) "
            "|| (has(self.values) && size(self.values) == 1 && self.values[0].matches('^[0-9]+$'))",
            "operators Gt and Lt need exactly one whole number",
            field_path=".values",
        ),
        Rule(
            "!has(self.minValues) "
            "|| (self.operator == 'In' && has(self.values) && size(self.values) >= self.minValues)",
            "needs operator In with at least as many values",
            field_path=".minValues",
        ),
    )

    key: Annotated[
        str,
        Rule(
            "!(self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool', 'kubernetes.io/hostname'])",
            SETS_THESE,
        ),
    ] = Field(min_length=1, max_length=316, pattern=LABEL_KEY)
    """Node label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How it is compared."""
    values: tuple[LabelValue, ...] = Field(default=(), max_length=64)
    """With what."""
    min_values: int | None = Field(default=None, ge=1, le=50)
    """Of so many values at least one node type must be available, so that spot has a choice."""


class NodeTaint(ApiModel):
    """A taint that keeps other pods away."""

    key: str = Field(min_length=1, max_length=316, pattern=LABEL_KEY)
    """Taint key; the tier's pods must tolerate it (scheduling.tolerations), apart from the accelerator's own, which
    they do."""
    value: LabelValue = ""
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Taint effect."""


class DisruptionBudget(ApiModel):
    """How many nodes Karpenter may take away at a time by its own choice."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.schedule) == has(self.duration)", "schedule and duration go together", field_path=".schedule"),
    )

    nodes: str = Field(default="10%", max_length=16, pattern=r"^((100|[0-9]{1,2})%|[0-9]+)$")
    """Number or percentage."""
    schedule: str | None = Field(default=None, min_length=1, max_length=128)
    """Cron words for when it begins, in UTC; unset means always."""
    duration: str | None = Field(default=None, max_length=32, pattern=r"^((([0-9]+(h|m))|([0-9]+h[0-9]+m))(0s)?)$")
    """How long from then."""
    reasons: Annotated[tuple[Literal["Underutilized", "Empty", "Drifted"], ...], ListSet()] = Field(
        default=(), max_length=3
    )
    """What it bounds; empty means all."""


class NodeDisruption(ApiModel):
    """When Karpenter may take nodes away by its own choice."""

    consolidation_policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"] = "WhenEmpty"
    """WhenEmpty moves no engine to save money. On-demand nodes are never consolidated while pods run there, whatever
    this says."""
    consolidate_after: DurationOrNever = "120s"
    """How long a node must have been so."""
    budgets: tuple[DisruptionBudget, ...] = Field(default=(), max_length=16)
    """Empty means one of 10%, Karpenter's own default."""


class Karpenter(ApiModel):
    """One NodePool per slice, made and kept by the operator."""

    node_class_ref: NodeClassRef
    """Your node class: images, roles, subnets, disks."""
    requirements: tuple[NodeRequirement, ...] = Field(default=(), max_length=32)
    """What nodes must be, beside the capacity type and scheduling.nodeSelector, which are added."""
    taints: tuple[NodeTaint, ...] = Field(default=(), max_length=16)
    """Taints of the nodes."""
    limits: dict[str, Quantity] = Field(default={}, max_length=16)
    """Most that one slice's nodes may have together, e.g. nvidia.com/gpu: 8."""
    weight: int | None = Field(default=None, ge=1, le=100)
    """Which NodePool is preferred where several fit."""
    disruption: NodeDisruption = NodeDisruption()
    """When nodes may be taken away."""
    expire_after: DurationOrNever = "720h"
    """How old a node may become; then it is drained and replaced."""
    termination_grace_period: Duration | None = None
    """Longest time a node may take to drain; unset waits for its pods. Give engine.drainSeconds room."""
    labels: Annotated[
        Labels,
        Rule(
            "!('karpenter.sh/capacity-type' in self) && !('karpenter.sh/nodepool' in self) "
            "&& !('kubernetes.io/hostname' in self)",
            SETS_THESE,
        ),
    ] = Field(default={}, max_length=32)
    """More labels on the nodes."""


class LaunchTemplate(ApiModel):
    """A launch template of yours: referred to, never written."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("has(self.id) != has(self.name)", "give exactly one of id and name"),)

    id: str | None = Field(default=None, max_length=64, pattern=r"^lt-[0-9a-f]+$")
    """Its id."""
    name: str | None = Field(default=None, min_length=3, max_length=128, pattern=r"^[a-zA-Z0-9().\-/_]+$")
    """Or its name."""
    version: str = Field(default="$Default", max_length=20, pattern=r"^(\$Default|\$Latest|[0-9]+)$")
    """Which version."""


class Range(ApiModel):
    """From and to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.max) || self.max >= self.min", "must not be below min", field_path=".max"),
    )

    min: int = Field(ge=0, le=2**31 - 1)
    """At least."""
    max: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """At most; unset for no bound."""


class InstanceRequirements(ApiModel):
    """What instances must have, instead of their types; AWS then picks the types."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.allowedInstanceTypes) || size(self.allowedInstanceTypes) == 0 "
            "|| !has(self.excludedInstanceTypes) || size(self.excludedInstanceTypes) == 0",
            "give allowedInstanceTypes or excludedInstanceTypes, not both",
            field_path=".excludedInstanceTypes",
        ),
    )

    vcpus: Range
    """vCPUs."""
    memory_mebibytes: Range
    """Memory."""
    accelerators: Range = Range(min=1)
    """GPUs of an instance."""
    accelerator_names: Annotated[tuple[AcceleratorName, ...], ListSet()] = Field(default=(), max_length=16)
    """Which, in AWS's words: a10g, l4, l40s, a100, h100; empty means any."""
    accelerator_manufacturers: Annotated[tuple[AcceleratorManufacturer, ...], ListSet()] = Field(
        default=(), max_length=4
    )
    """Whose; empty means any."""
    accelerator_memory_mebibytes: Range | None = None
    """Memory of all GPUs of an instance together."""
    allowed_instance_types: Annotated[tuple[InstancePattern, ...], ListSet()] = Field(default=(), max_length=30)
    """Only these; * stands for anything, e.g. g6.*."""
    excluded_instance_types: Annotated[tuple[InstancePattern, ...], ListSet()] = Field(default=(), max_length=30)
    """None of these."""


class AutoScalingGroup(ApiModel):
    """One EC2 AutoScaling group per slice, 0% and 100% on-demand. Its desired capacity is the cluster autoscaler's."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.instanceTypes) && size(self.instanceTypes) > 0) != has(self.instanceRequirements)",
            "give exactly one of instanceTypes and instanceRequirements",
            field_path=".instanceTypes",
        ),
        Rule(
            "!has(self.instanceRequirements) || self.onDemandAllocationStrategy != 'Prioritized'",
            "Prioritized needs instanceTypes, whose order is the priority",
            field_path=".onDemandAllocationStrategy",
        ),
        Rule(
            "!has(self.instanceRequirements) || self.spotAllocationStrategy != 'CapacityOptimizedPrioritized'",
            "CapacityOptimizedPrioritized needs instanceTypes, whose order is the priority",
            field_path=".spotAllocationStrategy",
        ),
        Rule("self.minSize <= self.maxSize", "must not be above maxSize", field_path=".minSize"),
    )

    cluster_name: str = Field(min_length=1, max_length=100, pattern=r"^[0-9A-Za-z][A-Za-z0-9_-]*$")
    """Name of this cluster, which the groups are tagged with: two clusters of one account never touch each other's."""
    region: AwsRegion
    """AWS region, e.g. eu-west-1."""
    launch_template: LaunchTemplate
    """Images, roles, user data that joins the cluster and labels the node by its life cycle."""
    subnets: Annotated[tuple[Subnet, ...], ListSet()] = Field(min_length=1, max_length=16)
    """Where instances may go; several zones give spot a choice."""
    instance_types: tuple[InstanceType, ...] = Field(default=(), max_length=40)
    """Types, the preferred first; several give spot a choice."""
    instance_requirements: InstanceRequirements | None = None
    """Or what they must have."""
    on_demand_allocation_strategy: OnDemandAllocation = "LowestPrice"
    """Which type an on-demand instance gets."""
    spot_allocation_strategy: SpotAllocation = "CapacityOptimized"
    """Which pool a spot instance comes from: CapacityOptimized is interrupted least, PriceCapacityOptimized weighs the
    price too."""
    capacity_rebalance: bool = True
    """Replace spot instances that are about to be interrupted before they are."""
    min_size: int = Field(default=0, ge=0, le=1000)
    """Fewest instances of each group."""
    max_size: int = Field(ge=0, le=1000)
    """Most instances of each group."""
    tags: Annotated[
        dict[str, TagValue],
        Rule(
            "self.all(key, size(key) > 0 && size(key) <= 128 && !key.startsWith('aws:') "
            "&& !key.startsWith('npcfleet.dev/'))",
            "keys have 1 to 128 characters and begin neither with aws: nor with npcfleet.dev/",
        ),
    ] = Field(default={}, max_length=30)
    """More tags on the groups and their instances. One that is taken out here stays on the groups."""


class Existing(ApiModel):
    """Nothing is made: the tier only selects nodes."""


class NodePoolProvider(ApiModel):
    """Who brings nodes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.karpenter), has(self.autoScalingGroup), has(self.existing)].filter(given, given).size() == 1",
            "give exactly one of karpenter, autoScalingGroup and existing",
        ),
    )

    karpenter: Karpenter | None = None
    """NodePools of Karpenter."""
    auto_scaling_group: AutoScalingGroup | None = None
    """AutoScaling groups of EC2, which a cluster autoscaler resizes."""
    existing: Existing | None = None
    """Nodes that are there, or that somebody else brings."""


class NodePools(ApiModel):
    """The nodes of a tier."""

    provider: NodePoolProvider
    """Who brings them."""
    headroom_replicas: int = Field(default=0, ge=0, le=100)
    """Room for so many more engine pods is kept free on ready nodes: by a CapacityBuffer where the cluster has that
    kind, else by pods of low priority."""


__all__ = [
    "AutoScalingGroup",
    "Existing",
    "InstanceRequirements",
    "Karpenter",
    "LaunchTemplate",
    "NodePoolProvider",
    "NodePools",
    "Range",
]
