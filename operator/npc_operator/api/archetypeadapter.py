"""ArchetypeAdapter: the voice of one archetype, as one LoRA adapter per tier."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, Rule
from npc_operator.api.locations import NO_FILE_CREDENTIALS, AdapterUri
from npc_operator.api.meta import DIGEST, DNS_LABEL, Conditions, SecretRef, TierName

Pattern = Annotated[
    str,
    Field(min_length=1, max_length=256),
    # A pattern that does not compile makes the rule itself fail, and the API server's error then says what is wrong
    # with it.
    Rule("''.matches(self) || !''.matches(self)", "must be an RE2 regular expression"),
]


class Source(ApiModel):
    """Where the adapter's bytes are, and which bytes they must be."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_FILE_CREDENTIALS,)

    uri: AdapterUri
    """s3://bucket/prefix, https://host/folder or file:///folder (under one of the tier's agent.fileRoots)."""
    digest: str = Field(pattern=DIGEST, max_length=71)
    """sha256 over the sorted sha256sum listing of the folder; changing it starts a rollout, changing bytes without it
    is refused."""
    secret_ref: SecretRef | None = None
    """Credentials; they are pushed to the agents and stay in memory."""


class Variant(ApiModel):
    """The adapter for one tier's base model."""

    tier: TierName
    """Name of a GpuTier in this namespace."""
    source: Source
    """The bytes."""
    rank: int = Field(default=16, ge=1, le=512)
    """Highest LoRA rank the adapter may have; at most the tier's engine.maxLoraRank."""


class Probe(ApiModel):
    """The question that proves an adapter on each pod before it gets traffic."""

    prompt: str = Field(default="Who are you?", min_length=1, max_length=4096)
    """What is asked."""
    max_tokens: int = Field(default=8, ge=1, le=512)
    """Length of the answer."""
    must_match: tuple[Pattern, ...] = Field(default=(), max_length=8)
    """Patterns (RE2) that the answer must contain."""
    must_not_match: tuple[Pattern, ...] = Field(default=(), max_length=8)
    """Patterns (RE2) that the answer must not contain."""
    timeout_seconds: int = Field(default=30, ge=1, le=300)
    """How long the answer may take."""


class Rollout(ApiModel):
    """How traffic moves to a new digest."""

    strategy: Literal["Immediate"] = "Immediate"
    """Immediate: once every pod with a ready engine has proven the new digest, all traffic moves at once."""
    load_timeout_seconds: int = Field(default=300, ge=5, le=86_400)
    """After so long a pod that cannot get the new digest is named in a Stalled condition; the old digest keeps serving.
    """


class ArchetypeAdapterSpec(ApiModel):
    """What the user wants of a voice."""

    archetype: Annotated[
        str,
        Field(min_length=1, max_length=40, pattern=DNS_LABEL),
        Rule("self == oldSelf", "cannot be changed: make a new ArchetypeAdapter"),
        Rule(
            "!self.contains('--')", "must not contain '--', which parts archetype and digest in the engine's own names"
        ),
    ]
    """The public name that game servers ask for. Immutable."""
    importance: Literal["Critical", "Normal", "Ambient"] = "Normal"
    """Critical voices (main quest) are loaded first."""
    variants: Annotated[tuple[Variant, ...], ListMap("tier")] = Field(min_length=1, max_length=8)
    """One adapter per tier."""
    probe: Probe = Probe()
    """The question that proves an adapter."""
    rollout: Rollout = Rollout()
    """How traffic moves to a new digest."""
    suspend: bool = False
    """True stops every change to this voice; what is resident goes on serving."""


class Revision(ApiModel):
    """Bytes and where they come from: enough to load them again."""

    digest: str = Field(max_length=71)
    """Digest of the adapter."""
    uri: str = Field(max_length=1024)
    """Where it came from."""
    secret_ref: SecretRef | None = None
    """Its credentials."""
    rank: int = 0
    """Its declared rank."""


class HistoryEntry(ApiModel):
    """One change of what a tier serves."""

    time: str = Field(max_length=64)
    """When (RFC 3339)."""
    digest: str = Field(max_length=71)
    """What became stable."""
    uri: str = Field(max_length=1024)
    """Where it came from."""
    previous: str = Field(default="", max_length=71)
    """The digest before it; empty for the first."""
    reason: str = Field(default="", max_length=64)
    """Why, as one CamelCase word."""


class VariantStatus(ApiModel):
    """One tier's view of the voice."""

    tier: str = Field(max_length=63)
    """The tier."""
    stable: Revision | None = None
    """What traffic gets."""
    candidate: Revision | None = None
    """What is being brought in."""
    candidate_since: str = Field(default="", max_length=64)
    """When the candidate was first seen (RFC 3339); empty while it waits for a slot."""
    percent: int = 0
    """Share of traffic on the newest digest."""
    resident_replicas: int = 0
    """Ready pods that have proven the newest digest."""
    wanted_replicas: int = 0
    """Ready pods that should have it."""
    reason: str = Field(default="", max_length=64)
    """What it waits for or failed of, as one CamelCase word."""
    message: str = Field(default="", max_length=1024)
    """The same for people, with the pod's name."""
    history: tuple[HistoryEntry, ...] = Field(default=(), max_length=10)
    """The last ten changes, newest first."""


class ArchetypeAdapterStatus(ApiModel):
    """What the operator saw."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 means not looked at yet."""
    digest: str = Field(default="", max_length=71)
    """First 12 hex digits of what is served, or `mixed` where tiers differ (for the printer column)."""
    variants: Annotated[tuple[VariantStatus, ...], ListMap("tier")] = Field(default=(), max_length=8)
    """By tier."""
    ready_variants: str = Field(default="", max_length=16)
    """`ready/wanted` variants, for the printer column."""
    conditions: Conditions = Field(default=(), max_length=16)
    """Ready, Reconciling, Stalled and others."""
