"""Messages between the operator, the agents and the gateways.

This is the only module the operator and the runtime share, so it is the only place where their versions can disagree.
Every message carries `protocol`; a receiver accepts OLDEST_PROTOCOL..PROTOCOL (N and N-1), ignores fields it does not
know, and a sender never removes a field within one protocol number. Orders flow one way: the operator pushes whole
states (never single commands), stamped with an (epoch, generation) that receivers compare lexicographically and refuse
when older; reports flow back through long polls that answer at once when something changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr
from pydantic.alias_generators import to_camel

PROTOCOL = 1
OLDEST_PROTOCOL = 1

# Ports inside the pods. The engine's port is the user's (`spec.engine.port`); these are ours.
AGENT_PORT = 9443  # TLS + token: desired, status, routable
AGENT_HEALTH_PORT = 9081  # plain HTTP: /healthz /readyz /metrics for kubelet and Prometheus
GATEWAY_PORT = 8080  # the game servers' side
GATEWAY_ADMIN_PORT = 9443  # TLS + token: routes, status
GATEWAY_HEALTH_PORT = 9081  # plain HTTP: /healthz /readyz /metrics /openapi.json

# A long poll waits at most this long before it answers "nothing new"; below the idle limits of common load balancers
# (60 s).
LONG_POLL_SECONDS = 50

POD_HEADER = "X-NPC-Pod"
"""The uid of the pod that a push or poll is meant for. Pod IPs are used again: a receiver that knows its own uid
refuses what is meant for another one (421, reason OtherPod), so that no order reaches, and no report comes from, a
stranger."""

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
SERVED_NAME_DIGEST_HEX = 12

Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), return_type=str, when_used="json")
]
"""A string that never shows in repr or logs, but travels in JSON (the transport is TLS)."""

PRE_STOP_SCRIPT = """\
import socket, sys, time
end = time.monotonic() + float(sys.argv[2]) + 5
patience = time.monotonic() + 3
while time.monotonic() < end:
    hook = socket.socket(socket.AF_UNIX)
    hook.settimeout(max(0.1, end - time.monotonic()))
    try:
        hook.connect(sys.argv[1])
        patience = time.monotonic() + 10
        hook.sendall(b"drain\\n")
        if hook.recv(64):
            break
    except OSError:
        pass
    if time.monotonic() > patience:
        break
    time.sleep(0.2)
"""
"""The engine's preStop: `python3 -c <this> <socket of the agent> <drain seconds>`. Ends when the agent says that no
line runs. Where no agent is it gives routes 3 s to go; one that goes away while it drains is waited for 10 s, because
kubelet starts it again."""


def served_name(archetype: str, digest: str) -> str:
    """The engine's name for one archetype's bytes: `<archetype>--<first 12 hex digits of the digest>`."""
    return f"{archetype}--{digest.removeprefix('sha256:')[:SERVED_NAME_DIGEST_HEX]}"


def server_name(namespace: str) -> str:
    """The DNS name in the internal certificate of a namespace; clients dial pod IPs and verify this name instead."""
    return f"{namespace}.npcfleet.internal"


class Wire(BaseModel):
    """Base of all messages: immutable, camelCase on the wire, unknown (newer) fields ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )

    def to_bytes(self) -> bytes:
        """JSON as it goes over the wire, secrets included: for the transport only, never for a log."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Stamp(Wire):
    """Who orders (epoch: grows with each leader) and which order (generation: grows within an epoch). Compared as a
    pair.
    """

    epoch: int = Field(ge=0)
    generation: int = Field(ge=0)

    def order(self) -> tuple[int, int]:
        return (self.epoch, self.generation)


class Refusal(Wire):
    """Body of every non-2xx answer of agent and gateway admin API."""

    reason: Literal[
        "StaleOrder",
        "Unauthorized",
        "BadMessage",
        "UnsupportedProtocol",
        "TooLarge",
        "NotFound",
        "OtherPod",
        "Internal",
    ]
    message: str
    current: Stamp | None = None
    """What the receiver already has, so that a leader refused with a higher epoch can go on with that epoch + 1."""


# --- operator -> agent
# -------------------------------------------------------------------------------------------------


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
    importance: Literal["Critical", "Normal", "Ambient"] = "Normal"
    """Order of loading, Critical first."""
    serving: bool = False
    """Traffic goes to it: a pod that comes up waits for its proof (or its refusal for good) before it turns ready."""
    probe: Probe = Probe()
    credentials: Mapping[str, Secret] = Field(default_factory=dict)
    """The data of the Secret named by `secretRef`: AWS_* keys for s3, `token` or `username`/`password` for https.
    Memory only.
    """


class DesiredSet(Wire):
    """PUT /v1/desired: everything this engine must have resident, replacing whatever was wanted before."""

    protocol: int = PROTOCOL
    stamp: Stamp
    adapters: tuple[DesiredAdapter, ...] = ()


class Accepted(Wire):
    """Answer to an accepted push (desired set or route table)."""

    protocol: int = PROTOCOL
    boot_id: str
    stamp: Stamp
    revision: int


# --- agent -> operator, agent -> gateway
# -------------------------------------------------------------------------------


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


class EngineReport(Wire):
    state: EngineState
    instance: str = ""
    """Changes with every engine process, empty until one was seen: residency proven for another instance is void."""
    since_ms: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    """Progress of the base model's download while FetchingModel; total 0 = unknown."""
    message: str = ""


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


# --- operator -> gateway
# -----------------------------------------------------------------------------------------------


class Endpoint(Wire):
    """One engine pod that may serve."""

    pod: str
    uid: str
    address: str
    port: int
    engine_key_id: str = ""
    """Which of the table's engine keys this pod was started with."""
    resident: tuple[str, ...] | None = None
    """Served names proven there; None in a table from the Secret, which is written without residency: ask the agents.
    """


class TierRoutes(Wire):
    name: str
    quality: Literal["Gold", "Silver", "Bronze"]
    endpoints: tuple[Endpoint, ...] = ()


class Target(Wire):
    served_name: str
    digest: str
    percent: int = Field(ge=0, le=100)


class Alias(Wire):
    """Where one archetype goes on one tier, for the tier as a whole. Percents sum to 100; the first target is the
    stable one.
    """

    archetype: str
    tier: str
    targets: tuple[Target, ...]


class Assignment(Wire):
    npc_prefix: str
    tier: str


class ApiKey(Wire):
    """A game server's key: the name is for logs and metrics, the key itself never travels."""

    name: str
    sha256: str


class EngineKey(Wire):
    id: str
    key: Secret


class GatewayLimits(Wire):
    """Bounds of the data port; sizes in bytes, times in seconds."""

    max_body_bytes: int = 1 << 20
    max_header_bytes: int = 16 << 10
    request_timeout_seconds: int = 300
    max_connections: int = 20_000


class RouteTable(Wire):
    """PUT /v1/routes: everything a gateway needs to answer, replacing what it had."""

    protocol: int = PROTOCOL
    stamp: Stamp
    namespace: str
    region: str
    default_tier: str
    assignments: tuple[Assignment, ...] = ()
    tiers: tuple[TierRoutes, ...] = ()
    aliases: tuple[Alias, ...] = ()
    authentication: Literal["ApiKey", "None"] = "ApiKey"
    api_keys: tuple[ApiKey, ...] = ()
    engine_keys: tuple[EngineKey, ...] = ()
    agent_tokens: tuple[Secret, ...] = ()
    """Bearer tokens for the agents, current first; on 401 the next is tried."""
    agent_ca: str = ""
    """PEM bundle that verifies the agents' certificates."""
    limits: GatewayLimits = GatewayLimits()


class GatewayReport(Wire):
    """GET /v1/status?after=<revision>&boot=<bootId>&wait=<seconds> of a gateway: which table every worker has."""

    protocol: int = PROTOCOL
    boot_id: str
    revision: int
    stamp: Stamp
