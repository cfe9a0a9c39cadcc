"""Rules of GpuTier about who brings its nodes."""

from __future__ import annotations

from typing import Any

from tests.contract.crd.case import Case, Changes

PROVIDER = "spec.nodePools.provider"
GROUP = f"{PROVIDER}.autoScalingGroup"
KARPENTER = f"{PROVIDER}.karpenter"
NODE_CLASS = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}


def _karpenter(**more: Any) -> Changes:
    return {"spec.nodePools": {"provider": {"karpenter": {"nodeClassRef": NODE_CLASS, **more}}}}


def _requires(**requirement: Any) -> Changes:
    return _karpenter(requirements=[{"key": "karpenter.k8s.aws/instance-family", **requirement}])


def _group(**more: Any) -> Changes:
    group = {
        "clusterName": "games",
        "region": "eu-west-1",
        "launchTemplate": {"name": "gpu-nodes"},
        "subnets": ["subnet-0a1b"],
        "instanceTypes": ["g6.2xlarge", "g5.2xlarge"],
        "maxSize": 10,
        **more,
    }
    given = {key: value for key, value in group.items() if value is not None}
    return {"spec.nodePools": {"provider": {"autoScalingGroup": given}}}


REQUIREMENTS = {"vcpus": {"min": 4}, "memoryMebibytes": {"min": 16384}}
BOTH_LISTS = {**REQUIREMENTS, "allowedInstanceTypes": ["g6.*"], "excludedInstanceTypes": ["g5.*"]}

NODE_POOLS = (
    Case(
        name="exactly one brings nodes",
        kind="GpuTier",
        accept=(_karpenter(), _group(), {"spec.nodePools": {"provider": {"existing": {}}, "headroomReplicas": 2}}),
        refuse=(
            {"spec.nodePools": {"provider": {}}},
            {"spec.nodePools": {"provider": {"existing": {}, "karpenter": {"nodeClassRef": NODE_CLASS}}}},
        ),
        field=PROVIDER,
        message="give exactly one of karpenter, autoScalingGroup and existing",
    ),
    Case(
        name="a requirement with a list has one",
        kind="GpuTier",
        accept=(_requires(operator="In", values=["g6", "g5"]), _requires(operator="NotIn", values=["p4d"])),
        refuse=(_requires(operator="In"), _requires(operator="NotIn", values=[])),
        field=f"{KARPENTER}.requirements[0].values",
        message="operators In and NotIn need values",
    ),
    Case(
        name="a requirement of existence has no values",
        kind="GpuTier",
        accept=(_requires(operator="Exists"), _requires(operator="DoesNotExist")),
        refuse=(_requires(operator="Exists", values=["a"]),),
        field=f"{KARPENTER}.requirements[0].values",
        message="operators Exists and DoesNotExist take no values",
    ),
    Case(
        name="a requirement that compares has one number",
        kind="GpuTier",
        accept=(_requires(operator="Gt", values=["3"]),),
        refuse=(_requires(operator="Gt", values=["three"]), _requires(operator="Lt", values=["1", "2"])),
        field=f"{KARPENTER}.requirements[0].values",
        message="operators Gt and Lt need exactly one whole number",
    ),
    Case(
        name="at least so many of the values that there are",
        kind="GpuTier",
        accept=(_requires(operator="In", values=["g6", "g5"], minValues=2),),
        refuse=(_requires(operator="In", values=["g6"], minValues=2), _requires(operator="Exists", minValues=1)),
        field=f"{KARPENTER}.requirements[0].minValues",
        message="needs operator In with at least as many values",
    ),
    Case(
        name="the operator sets a node's capacity type",
        kind="GpuTier",
        accept=(_karpenter(requirements=[{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]),),
        refuse=(
            _karpenter(requirements=[{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}]),
            _karpenter(requirements=[{"key": "karpenter.sh/nodepool", "operator": "Exists"}]),
        ),
        field=f"{KARPENTER}.requirements[0].key",
        message="the operator sets the capacity type of each slice",
    ),
    Case(
        name="labels of nodes do not say another capacity type",
        kind="GpuTier",
        accept=(
            _karpenter(labels={"team": "voices"}),
            {**_karpenter(labels={"eks.amazonaws.com/capacityType": "x"}), "spec.capacityTypeLabel": {"preset": "GKE"}},
        ),
        refuse=(
            _karpenter(labels={"karpenter.sh/capacity-type": "spot"}),
            {**_karpenter(labels={"karpenter.sh/capacity-type": "spot"}), "spec.capacityTypeLabel": {"preset": "GKE"}},
            {**_karpenter(labels={"life": "cheap"}), "spec.capacityTypeLabel": {"key": "life", "spotValue": "cheap"}},
        ),
        field=f"{KARPENTER}.labels",
        message="the operator sets the capacity type of each slice",
    ),
    Case(
        name="requirements of nodes do not say another capacity type",
        kind="GpuTier",
        accept=({**_requires(operator="Exists"), "spec.capacityTypeLabel": {"key": "life", "spotValue": "cheap"}},),
        refuse=(
            {
                **_karpenter(requirements=[{"key": "life", "operator": "In", "values": ["cheap"]}]),
                "spec.capacityTypeLabel": {"key": "life", "spotValue": "cheap"},
            },
        ),
        field=f"{KARPENTER}.requirements",
        message="the operator sets the capacity type of each slice",
    ),
    Case(
        name="a budget's times go together",
        kind="GpuTier",
        accept=(_karpenter(disruption={"budgets": [{"nodes": "0", "schedule": "0 9 * * *", "duration": "8h"}]}),),
        refuse=(
            _karpenter(disruption={"budgets": [{"schedule": "@daily"}]}),
            _karpenter(disruption={"budgets": [{"duration": "1h"}]}),
        ),
        field=f"{KARPENTER}.disruption.budgets[0].schedule",
        message="schedule and duration go together",
    ),
    Case(
        name="a launch template is one template",
        kind="GpuTier",
        accept=(_group(launchTemplate={"id": "lt-0abc", "version": "7"}),),
        refuse=(_group(launchTemplate={}), _group(launchTemplate={"id": "lt-0abc", "name": "gpu"})),
        field=f"{GROUP}.launchTemplate",
        message="give exactly one of id and name",
    ),
    Case(
        name="instances are named or described",
        kind="GpuTier",
        accept=(_group(instanceTypes=None, instanceRequirements=REQUIREMENTS),),
        refuse=(_group(instanceTypes=None), _group(instanceRequirements=REQUIREMENTS)),
        field=f"{GROUP}.instanceTypes",
        message="give exactly one of instanceTypes and instanceRequirements",
    ),
    Case(
        name="an order of on-demand types needs types",
        kind="GpuTier",
        accept=(_group(onDemandAllocationStrategy="Prioritized"),),
        refuse=(
            _group(instanceTypes=None, instanceRequirements=REQUIREMENTS, onDemandAllocationStrategy="Prioritized"),
        ),
        field=f"{GROUP}.onDemandAllocationStrategy",
        message="Prioritized needs instanceTypes",
    ),
    Case(
        name="an order of spot types needs types",
        kind="GpuTier",
        accept=(
            _group(spotAllocationStrategy="CapacityOptimizedPrioritized"),
            _group(spotAllocationStrategy="PriceCapacityOptimized"),
        ),
        refuse=(
            _group(
                instanceTypes=None,
                instanceRequirements=REQUIREMENTS,
                spotAllocationStrategy="CapacityOptimizedPrioritized",
            ),
        ),
        field=f"{GROUP}.spotAllocationStrategy",
        message="CapacityOptimizedPrioritized needs instanceTypes",
    ),
    Case(
        name="no strategy is invented",
        kind="GpuTier",
        accept=(_group(spotAllocationStrategy="CapacityOptimized"),),
        refuse=(_group(spotAllocationStrategy="capacity-optimized"), _group(spotAllocationStrategy="Cheapest")),
        field=f"{GROUP}.spotAllocationStrategy",
        message="Unsupported value",
    ),
    Case(
        name="a region is one of AWS",
        kind="GpuTier",
        accept=tuple(_group(region=region) for region in ("us-gov-west-1", "eusc-de-east-1")),
        refuse=(_group(region="eu-west-1a"), _group(region="Frankfurt")),
        field=f"{GROUP}.region",
        message="should match",
    ),
    Case(
        name="fewest instances are not above most",
        kind="GpuTier",
        accept=(_group(minSize=10),),
        refuse=(_group(minSize=11),),
        field=f"{GROUP}.minSize",
        message="must not be above maxSize",
    ),
    Case(
        name="tags of AWS and of the operator are theirs",
        kind="GpuTier",
        accept=(_group(tags={"team": "voices", "k8s.io/cluster-autoscaler/node-template/label/pool": "gpu"}),),
        refuse=(_group(tags={"aws:x": "y"}), _group(tags={"npcfleet.dev/tier": "y"}), _group(tags={"k" * 129: "v"})),
        field=f"{GROUP}.tags",
        message="keys have 1 to 128 characters",
    ),
    Case(
        name="a range goes up",
        kind="GpuTier",
        accept=(_group(instanceTypes=None, instanceRequirements={**REQUIREMENTS, "vcpus": {"min": 4, "max": 4}}),),
        refuse=(_group(instanceTypes=None, instanceRequirements={**REQUIREMENTS, "vcpus": {"min": 4, "max": 3}}),),
        field=f"{GROUP}.instanceRequirements.vcpus.max",
        message="must not be below min",
    ),
    Case(
        name="instance types are allowed or excluded",
        kind="GpuTier",
        accept=(_group(instanceTypes=None, instanceRequirements={**REQUIREMENTS, "allowedInstanceTypes": ["g6.*"]}),),
        refuse=(_group(instanceTypes=None, instanceRequirements=BOTH_LISTS),),
        field=f"{GROUP}.instanceRequirements.excludedInstanceTypes",
        message="give allowedInstanceTypes or excludedInstanceTypes, not both",
    ),
)
