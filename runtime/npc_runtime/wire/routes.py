"""What the operator orders of gateways: the route table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from npc_runtime.wire.agent import Probe
from npc_runtime.wire.base import NPC_BUCKETS, PROTOCOL, Importance, Secret, Stamp, Wire


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
    """One tier with its pods, and what to do where it cannot answer."""

    name: str
    quality: Literal["Gold", "Silver", "Bronze"]
    endpoints: tuple[Endpoint, ...] = ()
    fallback_tier: str = ""
    """Asked when this tier cannot answer; empty for none."""
    base_model: str = ""
    """The engines' own name for the base model without an adapter."""
    slots: int = Field(default=0, ge=0)
    """Lines that one pod works on at once; 0 means unknown: nothing is held back."""
    queue: int = Field(default=0, ge=0)
    """Lines that may wait for a slot of the whole tier; more are shed."""
    first_token_milliseconds: int = Field(default=0, ge=0)
    """A line that would begin later goes to the next level; 0 for no limit."""
    stall_seconds: int = Field(default=0, ge=0)
    """A pause between tokens that ends the line with an error; 0 for no limit."""
    prioritised: bool = False
    """The engines order waiting lines by the request's `priority` (lower is earlier)."""


class Target(Wire):
    served_name: str
    digest: str
    percent: int = Field(ge=0, le=100)


class Override(Wire):
    """NPCs that are pinned, whatever their hash says."""

    npc: str
    """An id, or the beginning of ids."""
    prefix: bool = False
    candidate: bool = False
    """The candidate speaks for them; else the stable digest."""


class Guard(Wire):
    """What a gateway alone takes a candidate off for, with nobody to ask.

    The test is one that may be looked at after every answer, and knows itself how many it needs. With
    q = max_error_percent / 100, off the candidate goes once more than q of its answers are bad, and

        lnB(bad + 1, good + 1) - bad * ln(q) - good * ln(1 - q) >= ln(1 / 0.0006)

    where lnB(x, y) = lgamma(x) + lgamma(y) - lgamma(x + y). q = 0 allows no bad answer, q = 1 all of them. Cases are in
    tests/support/vectors/guard.json.
    """

    max_error_percent: int = Field(ge=0, le=100)


class AliasRollout(Wire):
    """How an alias is shared between its two targets while one takes over from the other.

    An NPC's bucket is sha256(archetype, 0x00, NPC id), its first 8 bytes big-endian modulo 10,000.
    """

    attempt: int = Field(default=0, ge=0)
    """Which try of bringing a digest in this is, for this archetype on this tier: a gateway that took a candidate off
    gives it another chance with another number, and counts from nothing."""
    candidate_below: int = Field(ge=0, le=NPC_BUCKETS)
    """NPCs in lower buckets get the candidate."""
    control_below: int = Field(ge=0, le=NPC_BUCKETS)
    """NPCs from candidate_below up to here are those the candidate's times are compared with."""
    overrides: tuple[Override, ...] = ()
    guard: Guard | None = None
    slower_percent: int = Field(default=115, ge=100)
    """A first token counts as slower when it took more than so many percent of the control's."""
    first_token_milliseconds: int = Field(default=0, ge=0)
    """A first token of the candidate that comes later is over the limit; 0 for no limit."""
    warmup: int = Field(default=20, ge=0)
    """The candidate's first answers on each pod, whose times do not count: its prefix cache is cold."""
    probe: Probe | None = None
    """Too few players speak: ask this of both digests, until told otherwise."""


class Alias(Wire):
    """Where one archetype goes on one tier, for the tier as a whole. Percents sum to 100; the first target is the
    stable one, a second one its candidate. Without a target the archetype has no adapter there that may be used.
    """

    archetype: str
    tier: str
    targets: tuple[Target, ...]
    rollout: AliasRollout | None = None
    """Only with a candidate."""


class Voice(Wire):
    """What is known of an archetype beside its adapters: how important it is, and how it speaks without one."""

    archetype: str
    importance: Importance = "Normal"
    system_prompt: str = ""
    """What makes the bare base model speak for it; empty: the base model is not asked."""
    scripted_lines: tuple[str, ...] = ()
    """The last resort."""
    must_not_match: tuple[str, ...] = ()
    """Patterns (RE2) that no answer may contain."""


class Assignment(Wire):
    npc_prefix: str
    tier: str


class Rate(Wire):
    """A token bucket for the region as a whole: every gateway takes its share."""

    requests_per_second: int = Field(ge=1)
    burst: int = Field(ge=1)


class ApiKey(Wire):
    """A game server's key: the name is for logs and metrics, the key itself never travels."""

    name: str
    sha256: str
    archetypes: tuple[str, ...] = ()
    """What it may ask for; empty means everything."""
    tiers: tuple[str, ...] = ()
    """Where; empty means everywhere."""
    expires_ms: int | None = None
    """Unix milliseconds after which it is refused."""
    cache_salt: Secret | None = None
    """Keeps its prompts' cache apart from those of other keys on the same engines."""
    rate: Rate | None = None


class Identity(Wire):
    """Callers inside the cluster that prove who they are with a projected service account token."""

    issuer: str
    audience: str
    keys: str
    """The issuer's JSON Web Key Set."""
    subjects: tuple[str, ...] = ()
    """Service accounts that may ask, as `namespace:name`."""


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
    voices: tuple[Voice, ...] = ()
    """Every archetype that may be asked for, also one without an alias."""
    authentication: Literal["ApiKey", "None"] = "ApiKey"
    api_keys: tuple[ApiKey, ...] = ()
    identity: Identity | None = None
    rate: Rate | None = None
    """For all callers together."""
    ready_gateways: int = Field(default=1, ge=1)
    """Among how many gateways rates are shared out."""
    engine_keys: tuple[EngineKey, ...] = ()
    agent_tokens: tuple[Secret, ...] = ()
    """Bearer tokens for the agents, current first; on 401 the next is tried."""
    agent_ca: str = ""
    """PEM bundle that verifies the agents' certificates."""
    limits: GatewayLimits = GatewayLimits()
