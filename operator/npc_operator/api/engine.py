"""What a tier says of its vLLM server, and what it may add to the pod: environment, volumes, mounts.

Whatever the operator puts there itself is refused here by name: a pod's template can never hold two of one thing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, Rule
from npc_operator.api.engineargs import ExtraArg, VariableName
from npc_operator.api.locations import Folder
from npc_operator.api.meta import DNS_LABEL, ObjectName, Quantity

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
