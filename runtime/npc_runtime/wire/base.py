"""What all messages share: their base, the order of orders, refusals, and the constants both ends must know."""

from __future__ import annotations

from collections.abc import Mapping
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

NPC_BUCKETS = 10_000
"""Into how many buckets NPCs fall by their hash: 100 of them are a percent of the NPCs (`AliasRollout`)."""

Importance = Literal["Critical", "Normal", "Ambient"]
IMPORTANCE_ORDER: Mapping[str, int] = {"Critical": 0, "Normal": 1, "Ambient": 2}
"""The lower, the earlier: to get a slot, to be loaded, to be answered."""

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


NO_STAMP = Stamp(epoch=0, generation=0)
"""Before any order was accepted: every order is newer."""


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


class Accepted(Wire):
    """Answer to an accepted push (desired set or route table)."""

    protocol: int = PROTOCOL
    boot_id: str
    stamp: Stamp
    revision: int
