"""GpuTier: a pool of identical engine pods."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, ListSet, Rule
from npc_operator.api.engineargs import ExtraArg, VariableName
from npc_operator.api.locations import NO_FILE_CREDENTIALS, Folder, ModelUri
from npc_operator.api.meta import (
    DNS_LABEL,
    LABEL_KEY,
    LABEL_VALUE,
    Annotations,
    Conditions,
    Labels,
    LabelValue,
    ObjectName,
    OptionalObjectName,
    Quantity,
    SecretRef,
)

Quality = Literal["Gold", "Silver", "Bronze"]

GOLD_MINIMUM_PARAMETERS_MILLIONS = 7000
"""A Gold voice is player-facing; below about 7B parameters persona adherence drops audibly, so smaller models need
sizePolicy Ignore."""


SPOT_NOTICE_SECONDS = 120
"""The longest notice a cloud gives before it takes a spot node (AWS; the others give less)."""
RESERVED_PORTS = (9081, 9443)
"""Ports of the agent, which shares the engine's network namespace (npc_runtime.wire.AGENT_PORT, AGENT_HEALTH_PORT)."""
RESERVED_VOLUME_PREFIX = "npc-"
"""How the names of all volumes begin that the operator puts into engine pods."""
RESERVED_PATHS = (
    "/dev",
    "/etc/npc",
    "/proc",
    "/run/npc",
    "/sys",
    "/tmp",  # noqa: S108 - the name of a mount, not a file of ours
    "/var/cache/npc",
    "/var/lib/npc",
    "/var/run/secrets",
)
"""Folders of every engine container that are the operator's, the kubelet's or the kernel's."""

_RESERVED_PATHS_CEL = "[" + ", ".join(f"'{path}'" for path in RESERVED_PATHS) + "]"


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


class EnvVar(ApiModel):
    """A literal environment variable of the engine."""

    name: VariableName
    """Name of the variable."""
    value: str = Field(default="", max_length=4096)
    """Its value. Secrets do not belong here: use volumes."""


class Resources(ApiModel):
    """Requests and limits, as in a Pod."""

    requests: dict[str, Quantity] = Field(default={}, max_length=16)
    """Guaranteed amounts by resource name."""
    limits: dict[str, Quantity] = Field(default={}, max_length=16)
    """Upper bounds by resource name."""


class ClaimSource(ApiModel):
    """A PersistentVolumeClaim in the same namespace."""

    claim_name: ObjectName
    """Name of the claim."""
    read_only: bool = False
    """Mount it read-only."""


class ConfigMapSource(ApiModel):
    """A ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""


class SecretSource(ApiModel):
    """A Secret in the same namespace."""

    secret_name: ObjectName
    """Name of the Secret."""


class EmptyDirSource(ApiModel):
    """Scratch space that lives as long as the pod."""

    medium: Literal["", "Memory"] = ""
    """Memory makes it a tmpfs."""
    size_limit: Quantity | None = None
    """Upper bound, a quantity."""


class Volume(ApiModel):
    """A volume of the engine pod; exactly one source."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir)]"
            ".exists_one(given, given)",
            "exactly one of persistentVolumeClaim, configMap, secret and emptyDir must be given",
        ),
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=63, pattern=DNS_LABEL),
        Rule(
            f"!self.startsWith('{RESERVED_VOLUME_PREFIX}')",
            f"names that begin with {RESERVED_VOLUME_PREFIX} are the operator's",
        ),
    ]
    """Name that volumeMounts refer to."""
    persistent_volume_claim: ClaimSource | None = None
    """A claim."""
    config_map: ConfigMapSource | None = None
    """A ConfigMap."""
    secret: SecretSource | None = None
    """A Secret."""
    empty_dir: EmptyDirSource | None = None
    """Scratch space."""


class VolumeMount(ApiModel):
    """Where the engine container sees a volume."""

    name: str = Field(min_length=1, max_length=63, pattern=DNS_LABEL)
    """The volume's name."""
    mount_path: Annotated[
        Folder,
        Rule(
            f"!{_RESERVED_PATHS_CEL}"
            ".exists(own, self == own || self.startsWith(own + '/') || own.startsWith(self + '/'))",
            "this folder, or one above or below it, is the operator's, the kubelet's or the kernel's",
        ),
    ]
    """Absolute path in the container."""
    sub_path: Annotated[
        str,
        Rule(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be a relative path without '..'",
        ),
    ] = Field(default="", max_length=512)
    """Path inside the volume."""
    read_only: bool = False
    """Mount it read-only."""


class Engine(ApiModel):
    """The vLLM server."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxLoras) || self.maxCpuLoras >= self.maxLoras",
            "must be at least maxLoras: what a batch mixes is in host memory too",
            field_path=".maxCpuLoras",
        ),
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(mount, "
            "has(self.volumes) && self.volumes.exists(volume, volume.name == mount.name))",
            "every mount needs a volume of its name in volumes",
            field_path=".volumeMounts",
        ),
    )

    image: str = Field(default="", max_length=512, pattern=r"^([A-Za-z0-9][A-Za-z0-9._/:@-]*)?$")
    """vLLM image, >= 0.18; empty takes the operator's default (its --engine-image)."""
    command: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(default=(), max_length=16)
    """Replaces the start of the command line; empty means `python3 -m vllm.entrypoints.openai.api_server`. Our flags
    follow it."""
    port: Annotated[
        int,
        Rule(f"!(self in {list(RESERVED_PORTS)})", "the agent has this port in the same pod"),
    ] = Field(default=8000, ge=1024, le=65535)
    """Port the engine listens on."""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    """Precision of weights and activations."""
    max_model_len: int = Field(default=4096, ge=16, le=10_000_000)
    """Longest context in tokens, prompt and answer together."""
    max_loras: int = Field(default=8, ge=1, le=512)
    """Adapters that one batch can mix (GPU slots)."""
    max_cpu_loras: int = Field(default=32, ge=1, le=4096)
    """Adapters kept in host memory; what the tier may have resident per pod."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Highest adapter rank; engine memory per slot grows with it."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    """GPUs one engine spans."""
    extra_args: tuple[ExtraArg, ...] = Field(default=(), max_length=64)
    """More vLLM arguments; those the operator sets itself are refused."""
    env: Annotated[tuple[EnvVar, ...], ListMap("name")] = Field(default=(), max_length=64)
    """More environment variables."""
    resources: Resources = Resources()
    """CPU and memory of the engine container; GPUs come from accelerator."""
    volumes: Annotated[tuple[Volume, ...], ListMap("name")] = Field(default=(), max_length=16)
    """More volumes of the pod."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], ListMap("mountPath")] = Field(default=(), max_length=16)
    """More mounts of the engine container."""
    startup_seconds: int = Field(default=1800, ge=30, le=14400)
    """How long the engine may take from start to healthy, download of an hf:// model included."""
    shutdown_seconds: int = Field(default=15, ge=1, le=600)
    """What the engine gets to end after SIGTERM."""
    drain_seconds: int = Field(default=60, ge=1, le=3600)
    """How long running lines may go on before the engine is told to stop; keep drain + shutdown + 10 below 120 on spot
    nodes."""


class Agent(ApiModel):
    """The sidecar that owns the engine's adapters."""

    resources: Resources = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    """CPU and memory of the agent."""
    cache_size: str = Field(default="10Gi", max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    """Disk the adapters may take on each pod."""
    file_roots: Annotated[tuple[Folder, ...], ListSet()] = Field(default=(), max_length=8)
    """Folders that file:// adapters may come from; mounted read-only through `volumes` and `volumeMounts`."""


class Accelerator(ApiModel):
    """GPUs per engine pod."""

    resource_name: str = Field(default="nvidia.com/gpu", min_length=1, max_length=253, pattern=LABEL_KEY)
    """Extended resource to ask for."""
    per_replica: int = Field(default=1, ge=0, le=64)
    """How many; 0 runs the engine on CPU."""


class Capacity(ApiModel):
    """How wanted replicas are split into on-demand and spot."""

    on_demand_base: int = Field(default=1, ge=0, le=10_000)
    """The first so many replicas are on-demand: the floor that survives any spot storm."""
    on_demand_percentage_above_base: int = Field(default=0, ge=0, le=100)
    """Of the rest, this percentage (rounded up) is on-demand too."""


class CapacityTypeLabel(ApiModel):
    """How spot nodes are recognised."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.onDemandValue) || self.onDemandValue != self.spotValue",
            "must differ from spotValue",
            field_path=".onDemandValue",
        ),
    )

    key: str = Field(default="karpenter.sh/capacity-type", min_length=1, max_length=317, pattern=LABEL_KEY)
    """Node label."""
    spot_value: str = Field(default="spot", min_length=1, max_length=63, pattern=LABEL_VALUE)
    """Its value on spot nodes; everything else, unlabelled nodes included, counts as on-demand."""
    on_demand_value: str | None = Field(default=None, min_length=1, max_length=63, pattern=LABEL_VALUE)
    """When set, on-demand pods insist on this value instead of avoiding spotValue."""


class Toleration(ApiModel):
    """A Pod toleration."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.operator == 'Exists' || (has(self.key) && self.key != '')",
            "an empty key needs operator Exists",
            field_path=".key",
        ),
        Rule(
            "self.operator == 'Equal' || !has(self.value) || self.value == ''",
            "operator Exists takes no value",
            field_path=".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "only effect NoExecute takes tolerationSeconds",
            field_path=".tolerationSeconds",
        ),
    )

    key: str = Field(default="", max_length=317, pattern=f"^$|{LABEL_KEY}")
    """Taint key; empty with operator Exists tolerates everything."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How value is compared."""
    value: LabelValue = ""
    """Taint value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Taint effect; empty means all."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """How long a NoExecute taint is tolerated."""


class Scheduling(ApiModel):
    """Where pods may go."""

    node_selector: Labels = Field(default={}, max_length=32)
    """Labels a node must have."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    """Taints that are tolerated; the accelerator's own taint is tolerated anyway."""
    priority_class_name: OptionalObjectName = ""
    """PriorityClass of the pods."""
    runtime_class_name: OptionalObjectName = ""
    """RuntimeClass of the pods, e.g. nvidia."""


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
            "!has(self.scheduling.nodeSelector) || !(self.capacityTypeLabel.key in self.scheduling.nodeSelector)",
            "must not name capacityTypeLabel.key: the operator places on-demand and spot pods by it",
            field_path=".scheduling.nodeSelector",
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
    capacity_type_label: CapacityTypeLabel = CapacityTypeLabel()
    """How spot nodes are recognised."""
    scheduling: Scheduling = Scheduling()
    """Where pods may go."""
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
    suspend: bool = False
    """True stops every change to this tier's pods and adapters; what runs goes on serving."""


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
    """Pods that exist (the scale subresource's number)."""
    ready_replicas: int = 0
    """Pods that are ready."""
    wanted_replicas: int = 0
    """Replicas wanted, after bounds."""
    selector: str = Field(default="", max_length=512)
    """Label selector of the pods, for the scale subresource."""
    slices: Slices = Slices()
    """Wanted and ready by slice."""
    adapters: int = 0
    """Adapters wanted on the tier."""
    resident_adapters: int = 0
    """Adapters resident on every ready pod."""
    model: str = Field(default="", max_length=256)
    """Progress of fetching the base model while a pod is doing it."""
    conditions: Conditions = Field(default=(), max_length=16)
    """Ready, Reconciling, Stalled and others."""
