"""ArchetypeAdapter: the voice of one archetype, as one LoRA adapter per tier."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, Rule
from npc_operator.api.locations import NO_FILE_CREDENTIALS, AdapterUri
from npc_operator.api.meta import DIGEST, DNS_LABEL, Conditions, SecretRef, TierName
from npc_operator.api.rollouts import Rollout

Digest = Annotated[str, Field(max_length=71, pattern=DIGEST)]
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


class Persona(ApiModel):
    """How the archetype speaks when none of its adapters can."""

    system_prompt: str = Field(default="", max_length=4096)
    """Makes the bare base model speak for it; empty: the base model is never asked."""
    scripted_lines: tuple[Annotated[str, Field(min_length=1, max_length=512)], ...] = Field(default=(), max_length=32)
    """The last resort, picked by hash; without any a line that nothing can answer fails."""


class Answers(ApiModel):
    """What is asked of every answer."""

    must_not_match: tuple[Pattern, ...] = Field(default=(), max_length=8)
    """Patterns (RE2) that no answer may contain. A candidate's answers that do count as bad."""


class ArchetypeAdapterSpec(ApiModel):
    """What the user wants of a voice."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.quarantinedDigests) || self.variants.all(variant, "
            "!(variant.source.digest in self.quarantinedDigests) || oldSelf.hasValue() && "
            "oldSelf.value().variants.exists(old, old.tier == variant.tier "
            "&& old.source.digest == variant.source.digest))",
            "a quarantined digest cannot be brought in: take it off quarantinedDigests or name another one",
            field_path=".variants",
            reason="FieldValueForbidden",
            optional_old_self=True,
        ),
    )

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
    persona: Persona = Persona()
    """How it speaks without an adapter."""
    probe: Probe = Probe()
    """The question that proves an adapter."""
    answers: Answers = Answers()
    """What is asked of every answer."""
    rollout: Rollout = Rollout()
    """How traffic moves to a new digest."""
    quarantined_digests: tuple[Digest, ...] = Field(default=(), max_length=64)
    """Digests that must not be used: off every route within two seconds, off every pod after. A variant cannot be given
    one of them; the one it has may be named."""
    suspend: bool = False
    """True stops every change to this voice; what is resident goes on serving. Only what is quarantined leaves, and a
    candidate with traffic is still judged and taken back if it is bad."""


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
    """One decision about what a tier serves."""

    time: str = Field(max_length=64)
    """When (RFC 3339)."""
    digest: str = Field(max_length=71)
    """The digest it is about: the candidate, or what became stable."""
    uri: str = Field(max_length=1024)
    """Where it came from."""
    previous: str = Field(default="", max_length=71)
    """The stable digest before it; empty for the first."""
    reason: str = Field(default="", max_length=64)
    """What was decided and why, as one CamelCase word."""
    from_percent: int = 0
    """Its share of the traffic before."""
    to_percent: int = 0
    """Its share after."""
    verdict: str = Field(default="", max_length=256)
    """The numbers it was decided by."""
    by: str = Field(default="", max_length=128)
    """Who: the field manager that changed the spec, or the policy that decided."""


class Rejection(ApiModel):
    """A candidate that was taken back: it is not tried again until the variant names another digest."""

    digest: str = Field(max_length=71)
    """Its digest."""
    time: str = Field(max_length=64)
    """When (RFC 3339)."""
    reason: str = Field(max_length=64)
    """Why, as one CamelCase word."""
    message: str = Field(default="", max_length=512)
    """Why, for people, with numbers."""


class RolloutStatus(ApiModel):
    """Where a candidate is between its first load and all traffic."""

    phase: Literal["Loading", "Waiting", "Gating", "Checking", "Watching", "Probing", "Holding"]
    """Loading: pods bring it in. Waiting: for its turn among the region's rollouts. Gating: your test runs. Checking:
    its identity is proven again before a step. Watching: its answers are judged. Probing: the same, with questions of
    our own. Holding: for a person, or for players."""
    step: int = 0
    """How many of rollout.steps were taken."""
    percent: int = 0
    """Share of the NPCs that get it."""
    below: int = Field(default=0, ge=0, le=10_000)
    """NPCs whose hash bucket (0 to 9,999) is lower get it; raised above percent where nobody heard lately is lower."""
    since: str = Field(default="", max_length=64)
    """When this step began (RFC 3339); empty before the first."""
    check: int = 0
    """Which proof of identity every pod must have given."""
    check_since: str = Field(default="", max_length=64)
    """When that proof was asked for (RFC 3339); empty before the first."""
    requests: int = 0
    """Its answers that were judged, as of the last change of this status."""
    crashes: int = 0
    """Engine processes that ended while they had it, since it has traffic."""


class VariantStatus(ApiModel):
    """One tier's view of the voice."""

    tier: str = Field(max_length=63)
    """The tier."""
    serving: Literal["", "Stable", "LastGood", "BaseModel", "Scripted", "Nothing"] = ""
    """What answers: the stable digest, or what stands in for a quarantined one."""
    stable: Revision | None = None
    """What traffic gets."""
    candidate: Revision | None = None
    """What is being brought in."""
    candidate_since: str = Field(default="", max_length=64)
    """When the candidate was first seen (RFC 3339); empty while it waits for a slot."""
    attempt: int = 0
    """How often a digest was begun to be brought in here. What was taken back and is named again after another one is
    a new attempt: nothing that gateways saw of the last one counts in it."""
    rollout: RolloutStatus | None = None
    """Where the candidate is; none without one."""
    rejected: Rejection | None = None
    """The newest digest, if it was taken back."""
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
    """The last ten decisions, newest first."""


class Degradation(ApiModel):
    """A tier on which less than the voice's own adapter answers."""

    tier: str = Field(max_length=63)
    """The tier that is asked."""
    level: Literal["Tier", "BaseModel", "Scripted"]
    """Tier: the voice's adapter on a fallback tier answers. BaseModel: the bare base model with the persona's prompt.
    Scripted: a line that was written before."""
    since: str = Field(default="", max_length=64)
    """When it came to this level (RFC 3339)."""
    message: str = Field(default="", max_length=512)
    """What answers and why, for people."""


class ArchetypeAdapterStatus(ApiModel):
    """What the operator saw."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 means not looked at yet."""
    digest: str = Field(default="", max_length=71)
    """First 12 hex digits of what is served, or `mixed` where tiers differ (for the printer column)."""
    variants: Annotated[tuple[VariantStatus, ...], ListMap("tier")] = Field(default=(), max_length=8)
    """By tier."""
    degraded: Annotated[tuple[Degradation, ...], ListMap("tier")] = Field(default=(), max_length=8)
    """Tiers on which players hear less than the voice's adapter there, as the gateways tell it."""
    ready_variants: str = Field(default="", max_length=16)
    """`ready/wanted` variants, for the printer column."""
    conditions: Conditions = Field(default=(), max_length=16)
    """Ready, Reconciling, Stalled and others."""
