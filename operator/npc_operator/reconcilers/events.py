"""The Events people see, one constructor per visible transition: the words are chosen here and nowhere else.

Nothing is emitted for what merely continues; the recorder deduplicates and limits. No Event carries a secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
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


def traffic_moved(tier: str, digest: str, previous: str, pods: int) -> Event:
    origin = f" from {short(previous)}" if previous else ""
    return Event("TrafficMoved", f"tier {tier}: traffic moved{origin} to {short(digest)}, proven on {pods} pods")


def adopted(tier: str, digest: str) -> Event:
    return Event("Adopted", f"tier {tier}: the status was lost; {short(digest)}, which the pods serve, is stable again")


# --- tiers ---


def scaled(slice_: str, old: int, new: int) -> Event:
    return Event("Scaled", f"{slice_}: {old} to {new} replicas")


def created(kind: str, name: str) -> Event:
    return Event("Created", f"created {kind} {name}")


def restored(kind: str, name: str, paths: tuple[str, ...]) -> Event:
    shown = ", ".join(paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return Event("Updated", f"{kind} {name}: set {shown}{more}")


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
