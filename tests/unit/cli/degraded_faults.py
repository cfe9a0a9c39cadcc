"""Named faults in which players hear less than a voice's adapter, in the words of the operator's status."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from npc_operator.domain import reasons
from tests.unit.cli import objects as o
from tests.unit.cli.faults import POD, Fault, healthy

BOTH = {"gold": o.OLD, "silver": o.OLD}


def less(level: str, message: str, tier: str = "gold") -> o.Json:
    """An entry of `status.degraded`."""
    return {"tier": tier, "level": level, "since": o.RECENTLY, "message": message}


def voice(*degraded: o.Json, archetype: str = "vampire", digests: Mapping[str, str] = BOTH) -> o.Json:
    """A voice whose digests are proven wherever there is a pod, and which players hear less of."""
    made = o.adapter(archetype, digests=dict(digests), variants=[o.variant(tier) for tier in digests])
    made["status"]["degraded"] = list(degraded)
    return made


def scaled_to_zero(name: str) -> o.Json:
    status = o.conditions(True, (reasons.SCALED_TO_ZERO, "no replicas are wanted"))
    return o.tier(name, ready=0, wanted=0, status=status, spec={"fallbackTier": "silver"})


def without_nodes(name: str, pod: str) -> tuple[o.Json, o.Json]:
    """A tier whose only pod finds no node, and that pod."""
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    status = o.conditions(False, (reasons.UNSCHEDULABLE, f"pod {pod}: {said}"))
    return o.tier(name, ready=0, status=status), o.pod(pod, tier_name=name, ready=False, scheduled=said)


def heard_from_another_tier() -> Fault:
    message = "answered by its adapter on tier silver: tier gold is scaled to 0"
    tiers = [scaled_to_zero("gold"), o.tier("silver")]
    return Fault("vampire", healthy(adapters=[voice(less("Tier", message))], tiers=tiers, pods=[o.gateway()]))


def heard_from_a_script() -> Fault:
    message = (
        "answered by scripted lines: tier gold is scaled to 0; no pod of tier silver has a ready engine; "
        "persona.systemPrompt is empty, so the base model is not asked"
    )
    silver, pod = without_nodes("silver", "silver-spot-77f4c-9mmzt")
    tiers = [scaled_to_zero("gold"), silver]
    return Fault("vampire", healthy(adapters=[voice(less("Scripted", message))], tiers=tiers, pods=[pod, o.gateway()]))


def heard_from_the_base_model_of_a_slow_tier() -> Fault:
    late = "pods of tier gold failed, were full, or would have answered later than objectives.firstTokenMilliseconds"
    message = f"answered by the base model with its persona's prompt: {late}"
    return Fault("vampire", healthy(adapters=[voice(less("BaseModel", message))]))


def asked_where_it_has_no_variant() -> Fault:
    message = "answered by its adapter on tier silver: it has no variant for tier gold"
    told = voice(less("Tier", message), digests={"silver": o.OLD})
    return Fault("vampire", healthy(adapters=[told], tiers=[o.tier(), o.tier("silver")]))


def not_resident_where_it_is_asked() -> Fault:
    message = "answered by its adapter on tier silver: no ready pod of tier gold has it resident"
    told = voice(less("Tier", message))
    told["status"]["variants"][0]["residentReplicas"] = 0
    return Fault("vampire", healthy(adapters=[told]))


def asked_on_a_tier_that_is_gone() -> Fault:
    message = "answered by scripted lines: there is no tier platinum"
    return Fault("vampire", healthy(adapters=[voice(less("Scripted", message, "platinum"))]))


def tier_whose_players_hear_less() -> Fault:
    """It is ready by its own word, and too slow for its objectives."""
    late = less("Tier", "answered by its adapter on tier silver: pods of tier gold failed, were full, or ...")
    voices = [voice(late, archetype=f"crowd-{number}") for number in range(6)]
    return Fault("tier/gold", healthy(adapters=[*voices, voice(less("Scripted", "answered by scripted lines"))]))


def degraded_below_a_region() -> Fault:
    """A tier without nodes is told once, however many voices hang on it."""
    gold, pod = without_nodes("gold", POD)
    message = "answered by the base model with its persona's prompt: no pod of tier gold has a ready engine"
    voices = [voice(less("BaseModel", message), archetype=name) for name in ("vampire", "zombie")]
    return Fault("", healthy(adapters=voices, tiers=[gold], pods=[pod, o.gateway()]))


DEGRADED: Mapping[str, Callable[[], Fault]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        heard_from_another_tier,
        heard_from_a_script,
        heard_from_the_base_model_of_a_slow_tier,
        asked_where_it_has_no_variant,
        not_resident_where_it_is_asked,
        asked_on_a_tier_that_is_gone,
        tier_whose_players_hear_less,
        degraded_below_a_region,
    )
}
