"""GpuTier: a pool of identical engine pods."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, ListSet, Rule
from npc_operator.api.capacity import Capacity, CapacityStatus, Prices
from npc_operator.api.capacitytype import KEY_OF_CAPACITY_TYPE, CapacityTypeLabel
from npc_operator.api.engine import Engine, Resources, Volume, VolumeMount
from npc_operator.api.interruption import Interruption, InterruptionStatus
from npc_operator.api.locations import NO_FILE_CREDENTIALS, Folder, ModelUri
from npc_operator.api.meta import (
    LABEL_KEY,
    Annotations,
    Conditions,
    Labels,
    ObjectName,
    OptionalObjectName,
    Quantity,
    SecretRef,
    TierName,
)
from npc_operator.api.nodepools import NodePools
from npc_operator.api.scheduling import Scheduling, Toleration

__all__ = [
    "Accelerator",
    "Agent",
    "Capacity",
    "CapacityStatus",
    "CapacityTypeLabel",
    "Engine",
    "GpuTierSpec",
    "GpuTierStatus",
    "Model",
    "Prices",
    "Quality",
    "Resources",
    "Scheduling",
    "SliceStatus",
    "Slices",
    "Toleration",
    "UpdateStrategy",
    "Volume",
    "VolumeMount",
]

Quality = Literal["Gold", "Silver", "Bronze"]

GOLD_MINIMUM_PARAMETERS_MILLIONS = 7000
"""A Gold voice is player-facing; below about 7B parameters persona adherence drops audibly, so smaller models need
sizePolicy Ignore."""
SPOT_NOTICE_SECONDS = 120
"""The longest notice a cloud gives before it takes a spot node (AWS; the others give less)."""


_KARPENTER = "self.nodePools.provider.karpenter"


class Model(ApiModel):
    """The base model all adapters of the tier sit on."""

    rules: ClassVar[tuple[Rule, ...]] = (
        NO_FILE_CREDENTIALS,
        Rule(
            "!has(self.revision) || self.revision == '' || self.uri.startsWith('hf://')",
            "only an hf:// model has a revision",
            field_path=".revision",
        ),
    )

    uri: ModelUri
    """hf://org/name (the engine downloads it), s3://bucket/prefix, or file:///folder below a mount of
    engine.volumeMounts (both copied by the init container)."""
    revision: str = Field(default="", max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?$")
    """Git revision of an hf:// model; pin it. Empty means the default branch."""
    secret_ref: SecretRef | None = None
    """Credentials: AWS_* keys for s3://, HF_TOKEN for hf://."""
    parameters_millions: int = Field(ge=1, le=10_000_000)
    """Size of the model in millions of parameters, e.g. 8000 for 8B."""
    size_policy: Literal["Enforce", "Ignore"] = "Enforce"
    """Enforce refuses a Gold tier below 7000 million parameters; Ignore allows it (tests, demos)."""


class Agent(ApiModel):
    """The sidecar that owns the engine's adapters."""

    resources: Resources = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    """CPU and memory of the agent."""
    cache_size: str = Field(default="10Gi", max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    """Disk the adapters may take on each pod."""
    file_roots: Annotated[tuple[Folder, ...], ListSet()] = Field(default=(), max_length=8)
    """Folders that file:// adapters may come from; mounted read-only through `volumes` and `volumeMounts`."""


class ModelVolume(ApiModel):
    """Where the base model lies in the pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.claimName) || !has(self.sizeLimit)",
            "a claim has its own size: give claimName or sizeLimit, not both",
            field_path=".sizeLimit",
        ),
    )

    claim_name: ObjectName | None = None
    """A PersistentVolumeClaim, so that a new pod need not fetch the model again; ReadWriteMany where the tier has pods
    on several nodes. Unset means scratch space of each pod."""
    size_limit: Quantity | None = None
    """Upper bound of the scratch space."""


class Accelerator(ApiModel):
    """GPUs per engine pod."""

    resource_name: str = Field(default="nvidia.com/gpu", min_length=1, max_length=253, pattern=LABEL_KEY)
    """Extended resource to ask for."""
    per_replica: int = Field(default=1, ge=0, le=64)
    """How many; 0 runs the engine on CPU."""


class UpdateStrategy(ApiModel):
    """How pods are replaced when the template changes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxSurge) || self.maxSurge > 0 || self.maxUnavailable > 0",
            "maxSurge and maxUnavailable cannot both be 0: no pod could ever be replaced",
        ),
    )

    max_surge: int = Field(default=1, ge=0, le=1000)
    """Pods above the wanted number while rolling; 1 makes before it breaks."""
    max_unavailable: int = Field(default=0, ge=0, le=1000)
    """Pods that may be missing while rolling; for pools without spare GPUs set maxSurge 0 and this to 1."""


class Objectives(ApiModel):
    """How late a line may be before something else speaks."""

    first_token_milliseconds: int = Field(default=0, ge=0, le=600_000)
    """A line that has not begun after so long goes to the fallback tier, and on from there; 0 for no limit."""
    stall_seconds: int = Field(default=30, ge=0, le=3600)
    """A pause between tokens after which a line is ended with an error; 0 for no limit."""
    queue_lines: int = Field(default=64, ge=0, le=100_000)
    """Lines that may wait per pod while all its slots are taken; Ambient ones are refused first."""


class GpuTierSpec(ApiModel):
    """What the user wants of a tier."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.quality != 'Gold' || self.model.sizePolicy == 'Ignore' "
            f"|| self.model.parametersMillions >= {GOLD_MINIMUM_PARAMETERS_MILLIONS}",
            f"a Gold tier needs a base model of at least {GOLD_MINIMUM_PARAMETERS_MILLIONS} million parameters "
            "(sizePolicy Ignore allows less, for tests and demos)",
            field_path=".model.parametersMillions",
        ),
        Rule("self.minReplicas <= self.maxReplicas", "must not be above maxReplicas", field_path=".minReplicas"),
        Rule(
            "!has(self.replicas) || (self.replicas >= self.minReplicas && self.replicas <= self.maxReplicas)",
            "must lie between minReplicas and maxReplicas",
            field_path=".replicas",
        ),
        Rule(
            "self.accelerator.perReplica == 0 || self.engine.tensorParallelSize <= self.accelerator.perReplica",
            "must not be above accelerator.perReplica: an engine cannot span more GPUs than its pod has",
            field_path=".engine.tensorParallelSize",
        ),
        Rule(
            "(!has(self.engine.resources.requests) "
            "|| !(self.accelerator.resourceName in self.engine.resources.requests)) "
            "&& (!has(self.engine.resources.limits) "
            "|| !(self.accelerator.resourceName in self.engine.resources.limits))",
            "the accelerator's resource comes from accelerator.perReplica",
            field_path=".engine.resources",
        ),
        Rule(
            "self.capacity.onDemandPercentageAboveBase == 100 || self.capacity.onDemandBase >= self.maxReplicas "
            f"|| self.engine.drainSeconds + self.engine.shutdownSeconds + 10 <= {SPOT_NOTICE_SECONDS}",
            f"drainSeconds + shutdownSeconds + 10 must not exceed {SPOT_NOTICE_SECONDS} on a tier with spot pods: "
            "their nodes go away after that notice",
            field_path=".engine.drainSeconds",
        ),
        Rule(
            f"!has(self.scheduling.nodeSelector) || !({KEY_OF_CAPACITY_TYPE} in self.scheduling.nodeSelector)",
            "must not name the label of capacityTypeLabel: the operator places on-demand and spot pods by it",
            field_path=".scheduling.nodeSelector",
        ),
        Rule(
            f"!has(self.nodePools) || !has({_KARPENTER}) || !has({_KARPENTER}.labels) "
            f"|| !({KEY_OF_CAPACITY_TYPE} in {_KARPENTER}.labels)",
            "the operator sets the capacity type of each slice: must not name the label of capacityTypeLabel",
            field_path=".nodePools.provider.karpenter.labels",
        ),
        Rule(
            f"!has(self.nodePools) || !has({_KARPENTER}) || !has({_KARPENTER}.requirements) "
            f"|| {_KARPENTER}.requirements.all(one, one.key != {KEY_OF_CAPACITY_TYPE})",
            "the operator sets the capacity type of each slice: must not name the label of capacityTypeLabel",
            field_path=".nodePools.provider.karpenter.requirements",
        ),
        Rule(
            "!has(self.agent.fileRoots) || self.agent.fileRoots.all(root, has(self.engine.volumeMounts) "
            "&& self.engine.volumeMounts.exists(mount, "
            "root == mount.mountPath || root.startsWith(mount.mountPath + '/')))",
            "every root must lie in a folder of engine.volumeMounts",
            field_path=".agent.fileRoots",
        ),
        Rule(
            "!self.model.uri.startsWith('file://') || (has(self.engine.volumeMounts) "
            "&& self.engine.volumeMounts.exists(mount, self.model.uri.startsWith('file://' + mount.mountPath + '/')))",
            "a file:// model must lie below a folder of engine.volumeMounts",
            field_path=".model.uri",
        ),
    )

    quality: Annotated[Quality, Rule("self == oldSelf", "cannot be changed: make a new tier and move the region to it")]
    """Gold (voiced, player-facing), Silver or Bronze (ambient). Immutable."""
    model: Model
    """The base model."""
    model_volume: ModelVolume = ModelVolume()
    """Where the base model lies in the pods."""
    engine: Engine = Engine()
    """The vLLM server."""
    agent: Agent = Agent()
    """The sidecar that loads adapters."""
    accelerator: Accelerator = Accelerator()
    """GPUs per pod."""
    npcs_per_replica: int = Field(default=50, ge=1, le=100_000)
    """NPCs that one engine pod serves well; with the region's population it gives the wanted replicas."""
    replicas: int | None = Field(default=None, ge=0, le=10_000)
    """Wanted replicas; unset means derived from the population. Set by you, kubectl scale, an HPA or KEDA, which then
    take over."""
    min_replicas: int = Field(default=1, ge=0, le=10_000)
    """Never fewer than this."""
    max_replicas: int = Field(default=10, ge=0, le=10_000)
    """Never more than this, running plus starting."""
    capacity: Capacity = Capacity()
    """On-demand floor and spot share."""
    prices: Prices | None = None
    """What a replica costs; unset means that costs are not told."""
    capacity_type_label: CapacityTypeLabel = CapacityTypeLabel()
    """How spot nodes are recognised."""
    scheduling: Scheduling = Scheduling()
    """Where pods may go."""
    node_pools: NodePools | None = None
    """Who brings nodes; unset means nodes that are there."""
    interruption: Interruption = Interruption()
    """How the tier hears that a node goes away."""
    service_account_name: OptionalObjectName = ""
    """ServiceAccount of the engine pods, e.g. one bound to a cloud role for s3://. Its token is not mounted."""
    image_pull_secrets: Annotated[tuple[SecretRef, ...], ListMap("name")] = Field(default=(), max_length=8)
    """Secrets for private registries."""
    pod_labels: Labels = Field(default={}, max_length=32)
    """More labels on the pods; ours win."""
    pod_annotations: Annotations = Field(default={}, max_length=32)
    """More annotations on the pods; ours win."""
    update_strategy: UpdateStrategy = UpdateStrategy()
    """How pods are replaced."""
    fallback_tier: TierName | None = None
    """The tier that speaks where this one cannot; chains end, and may not lead back."""
    objectives: Objectives = Objectives()
    """How late a line may be."""
    suspend: bool = False
    """True stops every change to this tier's pods and adapters; what runs goes on serving. Only what is quarantined
    leaves, and a candidate with traffic is still judged and taken back if it is bad."""


class SliceStatus(ApiModel):
    """One half of the tier."""

    desired: int = 0
    """Replicas wanted of this slice."""
    ready: int = 0
    """Pods that are ready."""


class Slices(ApiModel):
    """Both halves."""

    on_demand: SliceStatus = SliceStatus()
    """The on-demand half."""
    spot: SliceStatus = SliceStatus()
    """The spot half."""


class GpuTierStatus(ApiModel):
    """What the operator saw."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 means not looked at yet."""
    replicas: int = 0
    """Pods that exist, without those beyond the wanted number: overprovisioned ones, stand-ins for spot and
    replacements (the scale subresource's number)."""
    ready_replicas: int = 0
    """Pods that are ready."""
    wanted_replicas: int = 0
    """Replicas wanted, after bounds."""
    selector: str = Field(default="", max_length=512)
    """Label selector of the pods, for the scale subresource."""
    slices: Slices = Slices()
    """Wanted and ready by slice."""
    capacity: CapacityStatus = CapacityStatus()
    """Whether one slice stands in for the other, and why."""
    interruptions: InterruptionStatus = InterruptionStatus()
    """Pods that go away with their nodes, and what the last time cost."""
    adapters: int = 0
    """Adapters wanted on the tier."""
    resident_adapters: int = 0
    """Adapters resident on every ready pod."""
    model: str = Field(default="", max_length=256)
    """Progress of fetching the base model while a pod is doing it."""
    conditions: Conditions = Field(default=(), max_length=16)
    """Ready, Reconciling, Stalled and others."""
