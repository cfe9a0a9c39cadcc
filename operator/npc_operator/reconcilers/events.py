"""The Events people see, one constructor per visible transition: the words are chosen here and nowhere else.

Nothing is emitted for what merely continues; the recorder deduplicates and limits. No Event carries a secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.api.archetypeadapter import Degradation, HistoryEntry, VariantStatus
from npc_operator.api.meta import ObjectMeta
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.ports import ObjectRef, Recorder


@dataclass(frozen=True, slots=True)
class Event:
    reason: str
    message: str
    warning: bool = False


def emit(recorder: Recorder, ref: ObjectRef, event: Event) -> None:
    """Hand one Event over."""
    if event.warning:
        recorder.warning(ref, event.reason, event.message)
    else:
        recorder.normal(ref, event.reason, event.message)


def object_ref(kind: str, meta: ObjectMeta) -> ObjectRef:
    """One of our own objects, as Events and ports name it."""
    return ObjectRef(names.API_VERSION, kind, meta.namespace, meta.name, meta.uid)


def short(digest: str) -> str:
    """The part of a digest that served names carry."""
    return digest.removeprefix("sha256:")[:12]


# --- adapters ---


def loading(tier: str, digest: str) -> Event:
    return Event("Loading", f"tier {tier}: bringing in {short(digest)}")


def cancelled(tier: str, digest: str) -> Event:
    return Event("RolloutCancelled", f"tier {tier}: {short(digest)} is not wanted any more")


def probing(tier: str, message: str) -> Event:
    return Event("Probing", message or f"tier {tier}: gateways ask the probe's question")


def decided(tier: str, entry: HistoryEntry, after: VariantStatus) -> Event:
    """What was decided about traffic, with the numbers it was decided by and who decided."""
    digest, previous = short(entry.digest), short(entry.previous)
    numbers = f" ({entry.verdict})" if entry.verdict else ""
    by = f", by {entry.by}" if entry.by else ""
    match entry.reason:
        case reasons.FIRST | reasons.MOVED:
            origin = f" from {previous}" if previous else ""
            text = f"traffic moved{origin} to {digest}, proven on {after.wanted_replicas} pods{numbers}"
            return Event("TrafficMoved", f"tier {tier}: {text}")
        case reasons.ADOPTED:
            text = f"the status was lost; {digest}, which the pods serve, is stable again"
            return Event("Adopted", f"tier {tier}: {text}")
        case reasons.STEPPED:
            share = f"{entry.to_percent}% of the NPCs" if entry.to_percent else "the pinned NPCs alone"
            return Event("Stepped", f"tier {tier}: {digest} answers {share}, after {entry.from_percent}%{numbers}{by}")
        case reasons.HELD:
            return Event("Held", f"tier {tier}: {digest} holds at {entry.to_percent}% of the NPCs{numbers}{by}")
        case reasons.ROLLED_BACK:
            text = f"{digest} was taken back from {entry.from_percent}% of the NPCs{numbers}{by}; {previous} serves"
            return Event("RolledBack", f"tier {tier}: {text}", warning=True)
        case reasons.QUARANTINED:
            return Event("Quarantined", f"tier {tier}: {digest} is off the routes{by}", warning=True)
        case reasons.RESTORED:
            return Event("Restored", f"tier {tier}: {digest} serves in place of the quarantined {previous}")
        case _:
            lost = f"lost its {entry.from_percent}% of the NPCs" if entry.from_percent else "is not brought in any more"
            text = f"{digest} {lost} and is not judged{numbers}{by}"
            return Event("RolloutCancelled", f"tier {tier}: {text}")


def degraded(archetype: str, entry: Degradation) -> Event:
    return Event("Degraded", f"{archetype} asked on tier {entry.tier} is {entry.message}", warning=True)


def less_degraded(archetype: str, entry: Degradation) -> Event:
    return Event("LessDegraded", f"{archetype} asked on tier {entry.tier} is {entry.message}")


def not_degraded(archetype: str, tier: str) -> Event:
    return Event("NotDegraded", f"{archetype} asked on tier {tier} is answered by its adapter there again")


# --- tiers ---


def scaled(slice_: str, old: int, new: int) -> Event:
    return Event("Scaled", f"{slice_}: {old} to {new} replicas")


def created(kind: str, name: str) -> Event:
    return Event("Created", f"created {kind} {name}")


def restored(kind: str, name: str, paths: tuple[str, ...]) -> Event:
    shown = ", ".join(paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return Event("Updated", f"{kind} {name}: set {shown}{more}")


def removed(kind: str, name: str) -> Event:
    return Event("Removed", f"removed {kind} {name}")


def adopted_group(name: str) -> Event:
    return Event("GroupAdopted", f"AutoScaling group {name} carries this tier's tags and is kept from now on")


def abandoned(places: tuple[str, ...]) -> Event:
    text = f"waited long enough for {', '.join(places)}; look there for what carries this tier's labels or tags"
    return Event("NodePoolsAbandoned", text, warning=True)


def fell_back(message: str) -> Event:
    return Event("FallbackBegan", message, warning=True)


def storm_began(message: str) -> Event:
    return Event("StormBegan", message, warning=True)


def storm_over(message: str) -> Event:
    return Event("StormOver", message)


def return_began(message: str) -> Event:
    return Event("ReturnBegan", message)


def returned_to_spot() -> Event:
    return Event("ReturnedToSpot", "the on-demand slice is its floor again")


# --- interruptions (those of single pods have their words in domain/interruption) ---


def interruption_over(cost: str) -> Event:
    return Event("InterruptionOver", f"as many pods are ready as are wanted, and none goes any more; {cost}")


def eviction_blocked(why: str) -> Event:
    return Event("EvictionBlocked", f"a budget does not allow it yet, asking again: {why}", warning=True)


# --- secrets ---


def rotated(kind: str, *, first: bool) -> Event:
    return Event("SecretMade" if first else "SecretRotated", f"{'made' if first else 'rotated'} the {kind}")


def key_dropped(key_ids: tuple[str, ...]) -> Event:
    return Event("EngineKeyDropped", f"no pod uses {', '.join(key_ids)} any more")


# --- conditions of every kind ---


def became_ready(finding: Finding) -> Event:
    return Event("Ready", finding.message)


def lost_ready(finding: Finding) -> Event:
    return Event("NotReady", f"{finding.reason}: {finding.message}", warning=True)


def stalled(finding: Finding) -> Event:
    return Event(finding.reason, finding.message, warning=True)


def recovered() -> Event:
    return Event("Recovered", "nothing needs a person any more")
