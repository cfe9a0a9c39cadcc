"""Between the operator and an agent, and what an agent tells gateways."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from npc_runtime.wire.base import DIGEST_PATTERN, PROTOCOL, Importance, Secret, Stamp, Wire


class Probe(Wire):
    """The inference that proves an adapter. Patterns are RE2-compatible regular expressions searched in the answer."""

    prompt: str = "Who are you?"
    max_tokens: int = 8
    must_match: tuple[str, ...] = ()
    must_not_match: tuple[str, ...] = ()
    timeout_seconds: int = 30


class DesiredAdapter(Wire):
    """One adapter that must be resident. What is resident but absent from the set is drained and unloaded."""

    served_name: str
    archetype: str
    digest: str = Field(pattern=DIGEST_PATTERN)
    uri: str
    rank: int = Field(ge=1)
    """Highest rank the variant declares; the tier's own maximum is known to the agent from its pod."""
    importance: Importance = "Normal"
    """Order of loading, Critical first."""
    serving: bool = False
    """Traffic goes to it: a pod that comes up waits for its proof (or its refusal for good) before it turns ready."""
    probe: Probe = Probe()
    identity_check: int = 0
    """When it grows, the identity of what is served is proven again: the folder is hashed, the engine's `root` for the
    name must be that folder, and the probe's first-token log-probabilities must be those of the first proof and differ
    from the base model's. The report repeats the number."""
    credentials: Mapping[str, Secret] = Field(default_factory=dict)
    """The data of the Secret named by `secretRef`: AWS_* keys for s3, `token` or `username`/`password` for https.
    Memory only.
    """


class DesiredSet(Wire):
    """PUT /v1/desired: everything this engine must have resident, replacing whatever was wanted before."""

    protocol: int = PROTOCOL
    stamp: Stamp
    adapters: tuple[DesiredAdapter, ...] = ()


class AdapterPhase(StrEnum):
    QUEUED = "Queued"
    FETCHING = "Fetching"
    INSPECTING = "Inspecting"
    LOADING = "Loading"
    PROBING = "Probing"
    RESIDENT = "Resident"
    DRAINING = "Draining"
    RETRYING = "Retrying"  # failed for now, will be tried again
    REFUSED = "Refused"  # failed for good: only another digest, uri, credential or probe can help


class EngineState(StrEnum):
    FETCHING_MODEL = "FetchingModel"
    STARTING = "Starting"
    READY = "Ready"
    DOWN = "Down"


class AdapterReport(Wire):
    """What one adapter is doing on one pod."""

    served_name: str
    archetype: str
    digest: str
    phase: AdapterPhase
    reason: str = ""
    """CamelCase word for Retrying, Refused and a Draining that the engine refuses, e.g. DigestMismatch, RankTooHigh."""
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    attempts: int = 0
    resident_since_ms: int | None = None
    """Unix milliseconds of the proof by the present engine process; set only while Resident or Draining."""
    identity_checked: int = 0
    """The last `identity_check` that held in the present engine process."""


class EngineReport(Wire):
    state: EngineState
    instance: str = ""
    """Changes with every engine process, empty until one was seen: residency proven for another instance is void."""
    since_ms: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    """Progress of the base model's download while FetchingModel; total 0 = unknown."""
    message: str = ""


class InterruptionReport(Wire):
    """What the machine's metadata service says of its end, while it says so."""

    kind: str
    """Interruption, Rebalance, Scheduled or Termination; a newer agent may know more."""
    deadline_ms: int | None = None
    """Unix milliseconds by the machine's clock; None where the cloud names no time."""
    source: str = ""
    """AWS, GCP or Azure."""


class AgentReport(Wire):
    """GET /v1/status?after=<revision>&boot=<bootId>&wait=<seconds>: answers at once when revision > after or the boot
    id differs.

    With `full` the adapters are all there are; otherwise only those that changed since `after`, and `removed` names
    those gone.
    """

    protocol: int = PROTOCOL
    boot_id: str
    revision: int
    stamp: Stamp
    """The last accepted order; (0, 0) when none was."""
    full: bool
    ready: bool
    """What /readyz says: the pod may take traffic."""
    draining: bool
    engine: EngineReport
    adapters: tuple[AdapterReport, ...] = ()
    removed: tuple[str, ...] = ()
    slots_used: int = 0
    slots_total: int = 0
    cache_bytes: int = 0
    cache_limit_bytes: int = 0
    interruption: InterruptionReport | None = None
    """Set only where the agent is told to ask its machine's metadata service."""


class Routable(Wire):
    """GET /v1/routable?after=<revision>&boot=<bootId>&wait=<seconds>, for gateways: may only withdraw what the route
    table offers.
    """

    protocol: int = PROTOCOL
    boot_id: str
    revision: int
    accepting: bool
    """False while draining or the engine is not ready: no new line may go there."""
    resident: tuple[str, ...] = ()
