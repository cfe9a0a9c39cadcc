"""NPCRegion: a population of NPCs and the gateway that speaks for them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, Rule
from npc_operator.api.gputier import Resources
from npc_operator.api.meta import DIGEST, DNS_NAME, Annotations, Conditions, Labels, ObjectName, SecretRef, TierName
from npc_operator.api.scheduling import Scheduling


class Npcs(ApiModel):
    """How many NPCs a tier speaks for."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.min <= self.max", "must not be above max", field_path=".min"),)

    min: int = Field(ge=0, le=1_000_000)
    """Fewest."""
    max: int = Field(ge=0, le=1_000_000)
    """Most; also the population while current is unset."""
    current: int | None = Field(default=None, ge=0, le=1_000_000)
    """How many there are now, clamped to min..max; set by the game's own tooling."""


class RegionTier(ApiModel):
    """One tier of the region."""

    tier: TierName
    """Name of a GpuTier in this namespace."""
    npcs: Npcs
    """Its population."""


class Assignment(ApiModel):
    """Which tier speaks for some NPCs."""

    npc_prefix: str = Field(min_length=1, max_length=128)
    """Beginning of NPC ids; the longest match wins."""
    tier: TierName
    """One of the region's tiers."""


class LabelSelector(ApiModel):
    """Equality labels."""

    match_labels: Labels = Field(default={}, max_length=32)
    """Labels an object must have; empty selects everything."""


class Service(ApiModel):
    """The gateway's Service."""

    name: str = Field(default="", max_length=63, pattern=f"^$|{DNS_NAME}")
    """Its name; empty means `<region>-gateway`."""
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How it is exposed."""
    port: int = Field(default=80, ge=1, le=65535)
    """Port that game servers call."""
    annotations: Annotations = Field(default={}, max_length=32)
    """Annotations, e.g. for a cloud load balancer."""


class Rate(ApiModel):
    """A token bucket, shared out among the gateways that are ready."""

    requests_per_second: int = Field(ge=1, le=1_000_000)
    """How many lines may begin in a second, in the long run."""
    burst: int | None = Field(default=None, ge=1, le=10_000_000)
    """How many may begin at once; empty means as many as in two seconds."""


class KeyPolicy(ApiModel):
    """What one API key may do."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the key: an entry of the Secret."""
    archetypes: tuple[Annotated[str, Field(min_length=1, max_length=40)], ...] = Field(default=(), max_length=256)
    """What it may ask for; empty means everything."""
    tiers: tuple[TierName, ...] = Field(default=(), max_length=8)
    """Where; empty means everywhere."""
    expires_at: str | None = Field(default=None, max_length=64, json_schema_extra={"format": "date-time"})
    """When it ends (RFC 3339)."""
    rate: Rate | None = None
    """How much it may ask."""
    separate_cache: bool = False
    """True keeps the engines' prefix caches of its prompts apart from those of other keys."""


class ServiceAccounts(ApiModel):
    """Callers inside the cluster, by projected service account tokens instead of keys."""

    audience: str = Field(min_length=1, max_length=253)
    """The audience that their tokens must be for."""
    allowed: tuple[Annotated[str, Field(min_length=3, max_length=316, pattern=r"^[^:]+:[^:]+$")], ...] = Field(
        min_length=1, max_length=64
    )
    """Who, as `namespace:name`."""


class Tls(ApiModel):
    """The gateway's certificate."""

    secret_name: ObjectName
    """A Secret of type kubernetes.io/tls; a new certificate in it is used without a restart."""


class Auth(ApiModel):
    """Who may ask."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.mode) || self.mode != 'ApiKey' || has(self.secretRef)",
            "mode ApiKey needs a Secret with the keys (mode None lets every caller in)",
            field_path=".secretRef",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.mode) || self.mode != 'None' || !has(self.secretRef)",
            "mode None asks for no keys: leave secretRef out",
            field_path=".secretRef",
            reason="FieldValueForbidden",
        ),
    )

    mode: Literal["ApiKey", "None"] = "ApiKey"
    """ApiKey needs secretRef; None lets every caller in (only behind your own authentication)."""
    secret_ref: SecretRef | None = None
    """Secret whose entries are name -> API key; adding or removing an entry takes effect within 5 seconds."""
    policies: Annotated[tuple[KeyPolicy, ...], ListMap("name")] = Field(default=(), max_length=64)
    """What single keys may do; one that is not named here may do everything."""
    service_accounts: ServiceAccounts | None = None
    """Callers inside the cluster that need no key."""


class Limits(ApiModel):
    """Bounds of one request."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=67_108_864)
    """Largest request body."""
    max_header_bytes: int = Field(default=16_384, ge=1024, le=262_144)
    """Largest request head."""
    request_timeout_seconds: int = Field(default=300, ge=1, le=3600)
    """Longest answer."""
    max_connections: int = Field(default=20_000, ge=1, le=1_000_000)
    """Open connections per gateway pod; more are refused."""
    rate: Rate | None = None
    """How many lines the whole region may begin."""


class Gateway(ApiModel):
    """The region's front door."""

    replicas: int = Field(default=2, ge=1, le=100)
    """Gateway pods."""
    resources: Resources = Resources(requests={"cpu": "250m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    """CPU and memory of each."""
    service: Service = Service()
    """How it is reached."""
    auth: Auth = Auth()
    """Who may ask."""
    tls: Tls | None = None
    """HTTPS for game servers; plain HTTP without."""
    limits: Limits = Limits()
    """Bounds of one request."""
    scheduling: Scheduling = Scheduling()
    """Where the gateway pods may go; away from GPU nodes, for instance."""
    image_pull_secrets: Annotated[tuple[SecretRef, ...], ListMap("name")] = Field(default=(), max_length=8)
    """Secrets for private registries."""


class RolloutLimits(ApiModel):
    """What all rollouts of the region together may do: a mistake in a template must not move every voice at once."""

    max_concurrent: int = Field(default=5, ge=1, le=1000)
    """Archetypes whose candidate may have traffic at the same time; the others wait, more important ones first. One
    that moved all at once (strategy Immediate) counts for its stepSeconds; going back at once to a digest that served
    before waits for nobody."""
    ceiling_percent: int = Field(default=100, ge=0, le=100)
    """No rollout goes above this without approvedDigest."""


class NPCRegionSpec(ApiModel):
    """What the user wants of a region."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.tiers.exists(item, item.tier == self.defaultTier)",
            "must be one of tiers",
            field_path=".defaultTier",
        ),
        Rule(
            "!has(self.assignments) "
            "|| self.assignments.all(assignment, self.tiers.exists(item, item.tier == assignment.tier))",
            "every assignment's tier must be one of tiers",
            field_path=".assignments",
        ),
    )

    tiers: Annotated[tuple[RegionTier, ...], ListMap("tier")] = Field(min_length=1, max_length=8)
    """The tiers and how many NPCs each speaks for."""
    default_tier: TierName
    """Tier that answers when neither header nor assignment names one."""
    assignments: Annotated[tuple[Assignment, ...], ListMap("npcPrefix")] = Field(default=(), max_length=256)
    """Tiers by NPC id prefix; the longest match wins."""
    adapter_selector: LabelSelector = LabelSelector()
    """Which ArchetypeAdapters of the namespace this region speaks with; empty means all."""
    gateway: Gateway = Gateway()
    """The region's front door."""
    rollout_limits: RolloutLimits = RolloutLimits()
    """What all rollouts together may do."""
    quarantined_digests: tuple[Annotated[str, Field(max_length=71, pattern=DIGEST)], ...] = Field(
        default=(), max_length=64
    )
    """Digests that no voice of the region may use."""
    suspend: bool = False
    """True stops every change to the region's gateway and routes; what runs goes on serving. Only what is quarantined
    or is taken back leaves the routes all the same: candidates with traffic go on being judged."""


class NPCRegionStatus(ApiModel):
    """What the operator saw."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 means not looked at yet."""
    population: int = 0
    """NPCs over all tiers."""
    tiers: int = 0
    """Tiers wanted."""
    ready_tiers: int = 0
    """Tiers whose Ready condition is True."""
    archetypes: int = 0
    """Archetypes that can be asked for."""
    gateway_replicas: int = 0
    """Gateway pods wanted."""
    gateway_ready: int = 0
    """Gateway pods that are ready and have the present route table."""
    endpoint: str = Field(default="", max_length=512)
    """Where game servers call, inside the cluster."""
    note: str = Field(default="", max_length=512)
    """A remark that is not a fault, such as an unusual population."""
    conditions: Conditions = Field(default=(), max_length=16)
    """Ready, Reconciling, Stalled and others."""
