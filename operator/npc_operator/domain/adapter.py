"""One voice over all its tiers: which of its variants can be served at all, and what its status says.

Each rule looks at one thing and names it; the first that applies speaks. `Check.absent` means that no pod should have
anything of the variant, `barred` that its newest digest must not be brought in while the stable one goes on, `unread`
that something it needs was not looked at yet: nothing is concluded and nothing is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterStatus, Degradation, Variant
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, Summary, build_conditions, join_messages
from npc_operator.domain.facts import Adapter, Region, SecretFact, Tier
from npc_operator.domain.region import names_tier, selects
from npc_operator.domain.rollout import Decision


@dataclass(frozen=True, slots=True)
class VariantFacts:
    """What decides whether a variant can be served."""

    adapter: Adapter
    variant: Variant
    holder: str
    """Name of the ArchetypeAdapter that speaks for the archetype."""
    region: Region | None
    tier: Tier | None
    secret: SecretFact | None
    """Of the variant's secretRef; None while unknown."""


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict of the rules about one variant."""

    absent: Finding | None = None
    barred: Finding | None = None
    unread: Finding | None = None

    def may_load(self) -> bool:
        """Whether pods may be asked to bring in the newest digest."""
        return self.absent is None and self.barred is None and self.unread is None

    def usable(self) -> bool:
        """Whether pods should have anything of the variant."""
        return self.absent is None


def suspended_by(adapter: Adapter, tier: Tier | None, region: Region | None) -> str | None:
    """Kind and name of what suspends a variant, None if nothing does."""
    facts = ((names.KIND_ADAPTER, adapter), (names.KIND_TIER, tier), (names.KIND_REGION, region))
    return next((f"{kind} {fact.meta.name}" for kind, fact in facts if fact is not None and fact.spec.suspend), None)


def check_archetype(facts: VariantFacts) -> Check | None:
    if facts.holder in ("", facts.adapter.meta.name):
        return None
    message = (
        f"ArchetypeAdapter {facts.holder} is older and speaks for {facts.adapter.spec.archetype}; delete one of them"
    )
    return Check(absent=Finding(reasons.ARCHETYPE_TAKEN, message))


def check_tier(facts: VariantFacts) -> Check | None:
    if facts.tier is not None:
        return None
    message = f"there is no GpuTier {facts.variant.tier} in this namespace; create it or remove the variant"
    return Check(absent=Finding(reasons.UNKNOWN_TIER, message))


def check_region(facts: VariantFacts) -> Check | None:
    region, tier = facts.region, facts.variant.tier
    if region is None:
        return Check(absent=Finding(reasons.NO_REGION, "there is no NPCRegion in this namespace; create one"))
    if not names_tier(region.spec, tier):
        message = f"NPCRegion {region.meta.name} does not name tier {tier}; add it to spec.tiers"
        return Check(absent=Finding(reasons.NO_REGION, message))
    if not selects(region.spec, facts.adapter.meta.labels):
        message = (
            f"NPCRegion {region.meta.name} does not select this adapter; give it the labels of spec.adapterSelector"
        )
        return Check(absent=Finding(reasons.NO_REGION, message))
    return None


def check_rank(facts: VariantFacts) -> Check | None:
    if facts.tier is None or facts.variant.rank <= facts.tier.spec.engine.max_lora_rank:
        return None
    message = (
        f"rank {facts.variant.rank} is above engine.maxLoraRank {facts.tier.spec.engine.max_lora_rank} of tier "
        f"{facts.variant.tier}; lower the one or raise the other"
    )
    return Check(barred=Finding(reasons.RANK_ABOVE_TIER, message))


def check_secret(facts: VariantFacts) -> Check | None:
    reference = facts.variant.source.secret_ref
    if reference is None:
        return None
    if facts.secret is None:
        # Not looked at yet: fetching without credentials would only produce a fault of our own making.
        return Check(unread=Finding(reasons.PREPARING, f"Secret {reference.name} is being read"))
    if not facts.secret.resource_version:
        message = f"Secret {reference.name} does not exist; create it or correct source.secretRef"
        return Check(barred=Finding(reasons.SECRET_NOT_FOUND, message))
    return None


RULES: tuple[Callable[[VariantFacts], Check | None], ...] = (
    check_archetype,
    check_tier,
    check_region,
    check_rank,
    check_secret,
)


def check_variant(facts: VariantFacts) -> Check:
    """The first rule that applies; a variant no rule speaks of is served."""
    for rule in RULES:
        check = rule(facts)
        if check is not None:
            return check
    return Check()


def summarize(decisions: Sequence[Decision], *, deleting: bool) -> Summary:
    """The conditions of the whole voice: not ready while any variant is not, stalled when any needs a person."""
    unready = [decision for decision in decisions if decision.ready is False]
    unknown = [decision for decision in decisions if decision.ready is None]
    moving = [decision.reconciling for decision in decisions if decision.reconciling is not None]
    stuck = [decision.stalled for decision in decisions if decision.stalled is not None]
    worst = unready or unknown
    why = (
        Finding(worst[0].why.reason, join_messages(decision.why.message for decision in worst))
        if worst
        else Finding(reasons.SERVING, f"{len(decisions)} of {len(decisions)} variants serve")
    )
    summary = Summary(
        ready=False if unready else (None if unknown else True),
        why=why,
        reconciling=Finding(moving[0].reason, join_messages(one.message for one in moving)) if moving else None,
        stalled=Finding(stuck[0].reason, join_messages(one.message for one in stuck)) if stuck else None,
    )
    if deleting:
        going = Finding(reasons.TERMINATING, "the object is being deleted")
        return replace(summary, reconciling=going)
    return summary


def served_digest(decisions: Sequence[Decision]) -> str:
    """What the printer column shows: the digest all tiers serve (each tier may have its own), or `mixed` while one is
    moving.
    """
    digests = {decision.status.stable.digest for decision in decisions if decision.status.stable is not None}
    if not digests:
        return ""
    if len(digests) > 1:
        return "mixed"
    return digests.pop().removeprefix("sha256:")[:12]


def build_status(
    adapter: Adapter, decisions: Sequence[Decision], now: float, *, degraded: tuple[Degradation, ...] = ()
) -> ArchetypeAdapterStatus:
    """The whole status, as it is published."""
    deleting = adapter.meta.deletion_timestamp is not None
    ready = sum(decision.ready is True for decision in decisions)
    return ArchetypeAdapterStatus(
        observed_generation=adapter.meta.generation,
        digest=served_digest(decisions),
        variants=tuple(decision.status for decision in decisions),
        degraded=degraded,
        ready_variants=f"{ready}/{len(decisions)}",
        conditions=build_conditions(
            summarize(decisions, deleting=deleting),
            adapter.status.conditions,
            generation=adapter.meta.generation,
            now=now,
        ),
    )
