"""approve: a person lets a candidate go above the ceiling, by writing its digest into spec.rollout.approvedDigest."""

from __future__ import annotations

from .. import vocabulary as v
from ..facts import Adapter
from ..plain import Json
from ..rollouts import short
from .digests import digests_of, match_digest
from .plan import Change, NotDone, Plan, with_kind
from .suspending import NOTHING_KNOWN, Around, find_pauses, tell_pauses

PATH = ("spec", "rollout", "approvedDigest")


def plan_approval(raw: Json, adapter: Adapter, *, digest: str, around: Around = NOTHING_KNOWN) -> Plan:
    """Approve `digest` (whole or its beginning), or the one candidate that there is. Raises NotDone."""
    chosen = match_digest(digest, digests_of(adapter)) if digest else _candidate(adapter)
    if chosen in adapter.quarantined:
        raise NotDone(
            f"{chosen} is quarantined, so nothing may use it",
            step=f"kubectl npc quarantine {chosen} {adapter.meta.name} --remove -n {adapter.meta.namespace}",
        )
    if chosen in around.banned and around.region is not None:
        region = around.region.meta
        raise NotDone(
            f"{chosen} is quarantined by region {region.name}, so nothing may use it",
            step=f"kubectl npc quarantine {chosen} --region --remove -n {region.namespace}",
        )
    target = with_kind(raw, v.KIND_ADAPTER)
    if adapter.approved == chosen:
        return Plan(target=target, notes=(f"spec.rollout.approvedDigest is {chosen} already",))
    notes = [_tells(adapter, chosen)]
    tiers = [one.tier for one in adapter.states if one.candidate == chosen]
    notes += tell_pauses(tiers, find_pauses(adapter, around), adapter.meta.namespace)
    rejected = [one.tier for one in adapter.states if one.rejected is not None and one.rejected.digest == chosen]
    if rejected:
        notes.append(
            f"on {', '.join(rejected)} it was taken back: an approval does not bring it back, only another digest does"
        )
    return Plan(
        target=target,
        spec={"rollout": {"approvedDigest": chosen}},
        changes=(Change(path=PATH, before=adapter.approved, after=chosen),),
        notes=tuple(notes),
    )


def _tells(adapter: Adapter, chosen: str) -> str:
    tiers = [one.tier for one in adapter.states if one.candidate == chosen]
    stable = [one.tier for one in adapter.states if one.stable == chosen]
    if not tiers and stable:
        return f"{short(chosen)} is stable on {', '.join(stable)} and no candidate, so there is nothing to let through"
    if tiers:
        return f"{short(chosen)} may go above the ceiling on {', '.join(tiers)}; each step is still judged"
    return f"{short(chosen)} is no tier's candidate now; the approval counts when it becomes one"


def _candidate(adapter: Adapter) -> str:
    """The candidate of all tiers that have one."""
    by_digest: dict[str, list[str]] = {}
    for state in adapter.states:
        if state.candidate:
            by_digest.setdefault(state.candidate, []).append(state.tier)
    name, namespace = adapter.meta.name, adapter.meta.namespace
    if len(by_digest) == 1:
        return next(iter(by_digest))
    if not by_digest:
        why = "".join(
            f"; on {state.tier} {short(state.rejected.digest)} was taken back ({state.rejected.reason})"
            for state in adapter.states
            if state.rejected is not None
        )
        raise NotDone(f"{name} has no candidate to approve{why}", step=f"kubectl npc why adapter/{name} -n {namespace}")
    told = "; ".join(f"{digest} on {', '.join(tiers)}" for digest, tiers in by_digest.items())
    raise NotDone(
        f"{name} has {len(by_digest)} candidates, and one approval names one digest: {told}",
        step=f"say which with --digest: kubectl npc approve {name} --digest {short(next(iter(by_digest)))} "
        f"-n {namespace}",
    )
