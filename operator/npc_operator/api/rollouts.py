"""How traffic moves from one adapter to the next: the rollout of an ArchetypeAdapter, and what judges it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, Rule
from npc_operator.api.gputier import Resources
from npc_operator.api.meta import DIGEST, OptionalObjectName

Percent = Annotated[int, Field(ge=0, le=100)]


class Override(ApiModel):
    """NPCs that are pinned to one digest while a rollout runs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.npc) != has(self.npcPrefix)", "name either npc or npcPrefix", reason="FieldValueRequired"),
    )

    npc: str | None = Field(default=None, min_length=1, max_length=256)
    """One NPC's id."""
    npc_prefix: str | None = Field(default=None, min_length=1, max_length=128)
    """Beginning of NPC ids; an exact id and the longest prefix win."""
    to: Literal["Stable", "Candidate"]
    """Which digest speaks for them."""


class GateVariable(ApiModel):
    """An environment variable of the gate's container."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Its name; names that begin with NPC_ are ours."""
    value: str = Field(default="", max_length=1024)
    """Its value."""


class Gate(ApiModel):
    """A Job of yours that looks at the candidate before any player hears it, and says whether it may go on."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.env) || self.env.all(one, !one.name.startsWith('NPC_'))",
            "names that begin with NPC_ are the operator's",
            field_path=".env",
        ),
    )

    image: str = Field(min_length=1, max_length=512)
    """Its image. It asks the engine at NPC_GATE_URL for the model NPC_GATE_MODEL and writes its verdict, JSON, to
    /dev/termination-log: {"pass": true, "message": "..."}."""
    command: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(default=(), max_length=32)
    """Its command; empty means the image's own."""
    args: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(default=(), max_length=32)
    """Its arguments."""
    env: tuple[GateVariable, ...] = Field(default=(), max_length=32)
    """More environment."""
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"})
    """CPU and memory."""
    service_account_name: OptionalObjectName = ""
    """ServiceAccount of the Job's pod. Its token is not mounted."""
    timeout_seconds: int = Field(default=600, ge=10, le=86_400)
    """A gate that takes longer has not passed."""


class Analysis(ApiModel):
    """What a candidate is held against."""

    min_requests: int = Field(default=50, ge=1, le=100_000)
    """Answers of the candidate that a step needs before it may move on."""
    max_error_percent: Percent = 5
    """Bad answers (failed, truncated, empty or matching answers.mustNotMatch) that are too many whatever the stable
    digest does. A gateway takes a candidate off by itself above this."""
    max_slower_percent: int = Field(default=115, ge=100, le=1000)
    """A first token that takes more than so many percent of the stable digest's, on the same pod at the same time, is
    slower; a candidate that is slower more often than not is taken back. Where few NPCs speak it must be slower more
    often, because NPCs differ, too."""
    max_first_token_milliseconds: int = Field(default=0, ge=0, le=600_000)
    """First tokens that come later are too late whatever the stable digest does: a candidate is taken back for more
    than one in ten of them. 0 for no such limit."""
    gate: Gate | None = None
    """A test of yours, before the first step."""


class Rollout(ApiModel):
    """How traffic moves to a new digest."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.steps) || self.steps[size(self.steps) - 1] == 100",
            "the last step must be 100",
            field_path=".steps",
        ),
        Rule(
            "!has(self.steps) || (self.steps.isSorted() "
            "&& self.steps.all(one, self.steps.exists_one(other, other == one)))",
            "steps must rise",
            field_path=".steps",
        ),
    )

    strategy: Literal["Canary", "Immediate"] = "Canary"
    """Canary: NPC by NPC in steps, each judged. Immediate: all traffic at once, without a gate and without judging.
    Either way every pod with a ready engine has proven the new digest first, and the ceilings and the region's
    rolloutLimits hold."""
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        default=(10, 25, 50, 100), min_length=1, max_length=10
    )
    """Percent of the NPCs, rising to 100."""
    step_seconds: int = Field(default=60, ge=1, le=604_800)
    """A step lasts at least so long."""
    ceiling_percent: Percent = 100
    """The rollout holds here until approvedDigest is the candidate."""
    approved_digest: str = Field(default="", max_length=71, pattern=f"^$|{DIGEST}")
    """A person has approved this digest: it may go above ceilingPercent."""
    load_timeout_seconds: int = Field(default=300, ge=5, le=86_400)
    """After so long a pod that cannot get the new digest is named in a Stalled condition; the old digest keeps serving.
    """
    overrides: tuple[Override, ...] = Field(default=(), max_length=256)
    """NPCs pinned to one of the two digests."""
    on_too_little_traffic: Literal["Probe", "Hold", "Proceed"] = "Probe"
    """After three times stepSeconds with fewer than analysis.minRequests answers: ask both digests the probe's question
    until there are enough, wait for players, or go on without."""
    analysis: Analysis = Analysis()
    """What the candidate is held against."""
