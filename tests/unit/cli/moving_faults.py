"""Named faults of digests on their way: taken back, held, waiting, quarantined; and a rollout that is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from npc_operator.domain import reasons
from tests.unit.cli import objects as o
from tests.unit.cli.faults import POD, Fault, healthy

NUMBERS = "candidate 14 bad of 61, stable 3 of 540"
TIER = "gold"


def decision(digest: str, reason: str, before: int, after: int, **more: Any) -> o.Json:
    """An entry of the history."""
    return {
        "time": o.RECENTLY,
        "digest": digest,
        "uri": f"s3://adapters/vampire/{digest[7:11]}",
        "previous": o.OLD,
        "reason": reason,
        "fromPercent": before,
        "toPercent": after,
        "by": "npc-operator",
        **more,
    }


def on_its_way(phase: str, reason: str, message: str = "", *, percent: int = 10, **more: Any) -> o.Json:
    """A variant whose candidate is loaded everywhere and is somewhere in its rollout."""
    rollout = {
        "phase": phase,
        "step": 1 if percent else 0,
        "percent": percent,
        "below": percent * 100,
        "since": o.RECENTLY if percent else "",
        "requests": 12,
    }
    return o.moving(reason, message, serving="Stable", rollout=rollout, **more) | {
        "percent": percent,
        "residentReplicas": 1,
    }


def taken_back(reason: str, message: str, *history: o.Json) -> o.Json:
    rejected = {"digest": o.NEW, "time": o.RECENTLY, "reason": reason, "message": message}
    said = f"tier gold: vampire--{o.NEW[7:19]} was taken back at {o.RECENTLY}: {message}; the stable digest serves"
    return o.variant(serving="Stable", rejected=rejected, reason=reason, message=said, history=list(history))


def voice(variant: o.Json, *, spec: Mapping[str, Any] | None = None, newest: str = o.NEW, **status: Any) -> o.Json:
    rollout = {"rollout": {"steps": [10, 25, 50, 100], "analysis": {"minRequests": 50}}}
    conditions = o.conditions(True, **status)
    return o.adapter(digests={TIER: newest}, variants=[variant], status=conditions, spec=rollout | dict(spec or {}))


def fault(adapter: o.Json, *, region: Mapping[str, Any] | None = None, asked: str = "vampire") -> Fault:
    return Fault(asked, healthy(adapters=[adapter], regions=[o.region(spec=region)]))


def rolled_back(reason: str, message: str, *history: o.Json) -> Fault:
    stalled = (reason, f"tier gold: vampire--{o.NEW[7:19]} was taken back: {message}")
    return fault(voice(taken_back(reason, message, *history), stalled=stalled))


def candidate_errors() -> Fault:
    message = "23.0% of its answers were bad, 0.6% of stable's: the evidence is 1,200 to 1"
    entry = decision(o.NEW, reasons.ROLLED_BACK, 10, 0, verdict=f"{reasons.CANDIDATE_ERRORS}: {NUMBERS}")
    return rolled_back(reasons.CANDIDATE_ERRORS, message, entry, decision(o.NEW, reasons.STEPPED, 0, 10))


def gateway_withdrew() -> Fault:
    message = "gateway eu-west-gateway-7c6f-b2k9d took it off by itself: 31 of 60 answers were bad"
    return rolled_back(reasons.WITHDRAWN_BY_GATEWAY, message, decision(o.NEW, reasons.ROLLED_BACK, 25, 0))


def gate_failed() -> Fault:
    message = "your gate says: the vampire spoke of its API key"
    return rolled_back(reasons.GATE_FAILED, message, decision(o.NEW, reasons.ROLLED_BACK, 0, 0))


def candidate_quarantined() -> Fault:
    message = "quarantinedDigests of region eu-west names it"
    return rolled_back(reasons.QUARANTINED, message, decision(o.NEW, reasons.ROLLED_BACK, 50, 0, by="alice"))


def holding_for_approval() -> Fault:
    found = on_its_way("Holding", reasons.AWAITING_APPROVAL)
    return fault(voice(found, stalled=(reasons.AWAITING_APPROVAL, "tier gold: holds")), region=_ceiling(10))


def _ceiling(percent: int) -> dict[str, Any]:
    return {"rolloutLimits": {"maxConcurrent": 5, "ceilingPercent": percent}}


def holding_for_players() -> Fault:
    spec = {"rollout": {"steps": [10, 100], "onTooLittleTraffic": "Hold", "analysis": {"minRequests": 50}}}
    return fault(voice(on_its_way("Holding", reasons.TOO_LITTLE_TRAFFIC), spec=spec))


def waiting_for_its_turn() -> Fault:
    message = (
        f"tier gold: vampire--{o.NEW[7:19]} is loaded and waits for its turn among the region's rollouts "
        f"(rolloutLimits.maxConcurrent), behind merchant (since {o.LONG_AGO}); zombie (about to begin)"
    )
    return fault(voice(on_its_way("Waiting", reasons.WAITING_FOR_TURN, message, percent=0)), region=_ceiling(100))


def waiting_behind_nobody_who_is_known() -> Fault:
    return fault(voice(on_its_way("Waiting", reasons.WAITING_FOR_TURN, percent=0)), region=_ceiling(100))


def gate_running() -> Fault:
    return fault(voice(on_its_way("Gating", reasons.GATING, percent=0)))


def canary_goes_on() -> Fault:
    found = on_its_way("Watching", reasons.WATCHING)
    found["rollout"]["below"] = 1150
    return fault(voice(found))


def probing_for_players() -> Fault:
    return fault(voice(on_its_way("Probing", reasons.PROBING)))


def identity_not_proven() -> Fault:
    late = "gold-spot-77f4c-9mmzt"
    message = (
        f"tier gold: vampire--{o.NEW[7:19]}: its identity was not proven again within 300 s on pod {late} for "
        f"vampire--{o.NEW[7:19]} (its agent is not heard); 10% of the NPCs hear it as before, the stable digest serves "
        "all others. Look at the pod's agent or delete the pod: the rollout goes on by itself once every pod has "
        "proven it"
    )
    found = on_its_way("Checking", reasons.IDENTITY_TIMEOUT, message, wantedReplicas=2)
    told = voice(found, stalled=(reasons.IDENTITY_TIMEOUT, message))
    return Fault("vampire", healthy(adapters=[told], pods=[o.pod(POD), o.pod(late), o.gateway()]))


def paused_by_its_tier() -> Fault:
    message = "spec.suspend of GpuTier gold is true: what is resident serves on, nothing changes"
    found = on_its_way("Watching", reasons.SUSPENDED, message)
    told = voice(found, stalled=(reasons.SUSPENDED, f"tier gold: {message}"))
    return Fault("vampire", healthy(adapters=[told], tiers=[o.tier(spec={"suspend": True})]))


def quarantined_last_good() -> Fault:
    stands = o.variant(serving="LastGood", reason=reasons.QUARANTINED, message="", history=[_restored()])
    return fault(voice(stands, spec={"quarantinedDigests": [o.NEW]}))


def _restored() -> o.Json:
    return decision(o.OLD, reasons.RESTORED, 0, 100, previous=o.NEW)


def quarantined_before_it_was_tried() -> Fault:
    waits = o.variant(serving="Stable", reason=reasons.QUARANTINED, message="tier gold: x is quarantined")
    return fault(voice(waits), region={"quarantinedDigests": [o.NEW]})


def quarantined_scripted() -> Fault:
    stands = o.variant(serving="Scripted", stable=None, reason=reasons.QUARANTINED, message="", residentReplicas=0)
    return fault(voice(stands), region={"quarantinedDigests": [o.NEW]})


def taken_back_and_mended() -> Fault:
    """The spec names the old digest again: what was taken back is history."""
    return fault(voice(taken_back(reasons.CANDIDATE_ERRORS, "x") | {"reason": "Serving"}, newest=o.OLD))


MOVING: Mapping[str, Callable[[], Fault]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        candidate_errors,
        gateway_withdrew,
        gate_failed,
        candidate_quarantined,
        holding_for_approval,
        holding_for_players,
        waiting_for_its_turn,
        waiting_behind_nobody_who_is_known,
        gate_running,
        canary_goes_on,
        probing_for_players,
        identity_not_proven,
        paused_by_its_tier,
        quarantined_last_good,
        quarantined_before_it_was_tried,
        quarantined_scripted,
        taken_back_and_mended,
    )
}
