"""Which region holds a namespace, whom it speaks for, and which adapters it speaks with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from npc_operator.api.names import routes_secret
from npc_operator.api.npcregion import NPCRegionSpec, NPCRegionStatus, Npcs
from npc_operator.domain import reasons
from npc_operator.domain.conditions import READY, Finding, Summary, build_conditions, holds, join_messages
from npc_operator.domain.facts import Adapter, IssuerFact, Region, SecretFact, Tier, UnkeptRoutes
from npc_operator.domain.routes import ROUTES_SECRET_MAX_BYTES

USUAL_POPULATION = (500, 1000)
"""What a region of one game usually holds; a sum outside is worth a remark, not a refusal."""


def pick_active_region(regions: Iterable[Region]) -> Region | None:
    """The region that holds a namespace: the oldest, by name where they are equally old; one being deleted only if
    there is no other.
    """
    return min(
        regions,
        key=lambda region: (
            region.meta.deletion_timestamp is not None,
            region.meta.creation_timestamp,
            region.meta.name,
        ),
        default=None,
    )


def population_of(npcs: Npcs) -> int:
    """NPCs to speak for now: current within min and max, max while current is unset."""
    return npcs.max if npcs.current is None else max(npcs.min, min(npcs.current, npcs.max))


def tier_population(spec: NPCRegionSpec, tier: str) -> int | None:
    """The population of one tier, or None if the region does not name it."""
    return next((population_of(entry.npcs) for entry in spec.tiers if entry.tier == tier), None)


def population_note(total: int) -> str:
    """A remark about an unusual population, or nothing."""
    fewest, most = USUAL_POPULATION
    if fewest <= total <= most:
        return ""
    return f"the population of {total} NPCs is outside the usual {fewest}-{most}"


def names_tier(spec: NPCRegionSpec, tier: str) -> bool:
    """Whether the region has this tier."""
    return any(entry.tier == tier for entry in spec.tiers)


def selects(spec: NPCRegionSpec, labels: Mapping[str, str]) -> bool:
    """Whether an adapter with these labels belongs to the region."""
    return all(labels.get(key) == value for key, value in spec.adapter_selector.match_labels.items())


def pick_holder(adapters: Iterable[Adapter]) -> Adapter | None:
    """Of the adapters for one archetype the one that speaks for it: the oldest, by name where equally old."""
    return min(
        adapters,
        key=lambda adapter: (
            adapter.meta.deletion_timestamp is not None,
            adapter.meta.creation_timestamp,
            adapter.meta.name,
        ),
        default=None,
    )


@dataclass(frozen=True, slots=True)
class RegionFacts:
    """Everything a region's status is made of."""

    region: Region
    holder: str
    """Name of the region that holds the namespace."""
    tiers: Mapping[str, Tier | None]
    """The tiers it names; None where there is none of that name."""
    archetypes: int = 0
    gateways_ready: int = 0
    """Gateway pods that are ready and go by the present routes."""
    waiting: str = ""
    """Why there are no routes yet."""
    silent: tuple[str, ...] = ()
    """Gateway pods that may still serve although they are not heard, each as a sentence."""
    auth_secret: SecretFact | None = None
    """Of gateway.auth.secretRef; None if unknown or not referred to."""
    certificate: Finding | None = None
    """What is wrong with the certificate for game servers."""
    faults: tuple[Finding, ...] = ()
    errors: tuple[str, ...] = ()
    endpoint: str = ""
    issuer: IssuerFact | None = None
    """Who signs the cluster's service account tokens; None while nobody looked."""
    quarantined: tuple[tuple[str, str], ...] = ()
    """(archetype, tier) of what spec.quarantinedDigests affects."""
    newborn: bool = False
    """The region was created a moment ago: what it names may be the next to be applied."""


def find_stalled(facts: RegionFacts) -> Finding | None:
    """What needs a person, the most basic first."""
    spec, name = facts.region.spec, facts.region.meta.name
    if facts.holder != name:
        message = f"NPCRegion {facts.holder} is older and holds this namespace; move {name} to a namespace of its own"
        return Finding(reasons.NAMESPACE_TAKEN, message)
    if spec.suspend:
        return Finding(reasons.SUSPENDED, "spec.suspend is true: what runs goes on serving, nothing changes")
    if facts.faults:
        return facts.faults[0]
    unknown = sorted(tier for tier, fact in facts.tiers.items() if fact is None)
    if unknown and not facts.newborn:
        return Finding(
            reasons.UNKNOWN_TIER, f"there is no GpuTier {join_messages(unknown)} in this namespace; create it"
        )
    reference = spec.gateway.auth.secret_ref
    if reference is not None and facts.auth_secret is not None and not facts.auth_secret.resource_version:
        message = (
            f"Secret {reference.name} of gateway.auth.secretRef does not exist, so every caller is refused; create it"
        )
        return Finding(reasons.SECRET_NOT_FOUND, message)
    return facts.certificate


def find_unready(facts: RegionFacts) -> Finding | None:
    """What keeps the region from being ready."""
    spec = facts.region.spec
    if facts.holder != facts.region.meta.name:
        return find_stalled(facts)
    if facts.errors:
        return Finding(reasons.RETRYING, join_messages(facts.errors))
    if facts.waiting:
        return Finding(reasons.PREPARING, facts.waiting)
    if facts.gateways_ready < spec.gateway.replicas:
        message = f"{facts.gateways_ready} of {spec.gateway.replicas} gateway pods are ready with the present routes"
        return Finding(reasons.GATEWAY_STARTING, join_messages((message, *facts.silent)))
    unready = sorted(
        tier for tier, fact in facts.tiers.items() if fact is None or not holds(fact.status.conditions, READY)
    )
    if unready:
        return Finding(reasons.TIERS_NOT_READY, f"not ready: tier {join_messages(unready)}")
    return None


def describe_unkept(region: str, unkept: UnkeptRoutes) -> Finding:
    """The routes outgrew their Secret: what serves is told as ever, but who starts alone knows only older routes."""
    return Finding(
        reasons.ROUTES_TOO_LARGE,
        f"Secret {routes_secret(region)} cannot hold the routes: {unkept.aliases} voices on all tiers take"
        f" {unkept.packed_bytes} bytes of at most {ROUTES_SECRET_MAX_BYTES}, so gateways that start while the operator"
        " is away have the last routes that fitted; spread the voices over several regions",
    )


def find_silence(facts: RegionFacts) -> Finding | None:
    """Gateways that hold up the unloading of old adapters, while everything wanted serves."""
    if not facts.silent:
        return None
    advice = "adapters that it may still use stay loaded; if its node is gone for good, delete the node or the pod"
    return Finding(reasons.GATEWAY_SILENT, f"{join_messages(facts.silent)}; {advice}")


def find_unknown_issuer(facts: RegionFacts) -> Finding | None:
    """Callers of the cluster are not let in, while keys work."""
    if facts.region.spec.gateway.auth.service_accounts is None or (facts.issuer is not None and facts.issuer.keys):
        return None
    why = facts.issuer.error if facts.issuer is not None else "they are being read"
    message = (
        "callers of gateway.auth.serviceAccounts are refused: the keys of the cluster's service account tokens are not"
        f" known ({why}); the operator needs to get /.well-known/openid-configuration and /openid/v1/jwks"
    )
    return Finding(reasons.ISSUER_UNKNOWN, message)


def find_quarantined(spec: NPCRegionSpec, adapters: Iterable[Adapter]) -> tuple[tuple[str, str], ...]:
    """(archetype, tier) of every selected variant of which the region has quarantined a digest that it names, serves or
    brings in."""
    banned = frozenset(spec.quarantined_digests)
    if not banned:
        return ()
    found = set()
    for adapter in adapters:
        if not selects(spec, adapter.meta.labels):
            continue
        used = [(variant.tier, variant.source.digest) for variant in adapter.spec.variants]
        for status in adapter.status.variants:
            revisions = (status.stable, status.candidate)
            used += [(status.tier, revision.digest) for revision in revisions if revision is not None]
        found |= {(adapter.spec.archetype, tier) for tier, digest in used if digest in banned}
    return tuple(sorted(found))


def describe_quarantine(spec: NPCRegionSpec, affected: tuple[tuple[str, str], ...]) -> Finding | None:
    """What the region's quarantine comes to; none without one."""
    count = len(spec.quarantined_digests)
    if not count:
        return None
    named = "1 digest is" if count == 1 else f"{count} digests are"
    if not affected:
        message = f"{named} quarantined; no voice of the region names or serves any"
    else:
        voices = join_messages((f"{archetype} on {tier}" for archetype, tier in affected), limit=20)
        message = f"{named} used nowhere; affected: {voices}"
    return Finding(reasons.QUARANTINED, message)


def build_region_status(facts: RegionFacts, now: float) -> NPCRegionStatus:
    """The whole status, as it is published."""
    region = facts.region
    stalled, unready, silence = find_stalled(facts), find_unready(facts), find_silence(facts)
    population = sum(population_of(entry.npcs) for entry in region.spec.tiers)
    going = unready is not None and facts.holder == region.meta.name and not region.spec.suspend
    summary = Summary(
        ready=unready is None,
        why=unready
        or Finding(reasons.SERVING, f"{len(facts.tiers)} tiers and {facts.gateways_ready} gateway pods serve"),
        reconciling=unready if going else silence or find_unknown_issuer(facts),
        stalled=stalled,
    )
    return NPCRegionStatus(
        observed_generation=region.meta.generation,
        population=population,
        tiers=len(region.spec.tiers),
        ready_tiers=sum(fact is not None and holds(fact.status.conditions, READY) for fact in facts.tiers.values()),
        archetypes=facts.archetypes,
        gateway_replicas=region.spec.gateway.replicas,
        gateway_ready=facts.gateways_ready,
        endpoint=facts.endpoint,
        note=population_note(population),
        conditions=build_conditions(
            summary,
            region.status.conditions,
            generation=region.meta.generation,
            now=now,
            quarantined=describe_quarantine(region.spec, facts.quarantined),
        ),
    )
