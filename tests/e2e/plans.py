"""The regions of the suite. One has real engines and lives through all of it; the others answer from fake engines and
cost nothing. All voices move at once unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hack.stack import region
from hack.stack.engines import fake_plan, vllm_plan
from hack.stack.install import Stack
from hack.stack.region import EnginePlan, RegionPlan

TIERS = ("gold", "silver", "bronze")
ARCHETYPES = ("vampire", "zombie", "merchant")
VERSIONS = {
    "vampire": ("vampire-v1", "vampire-v2", "vampire-v3"),
    "zombie": ("zombie-v1", "zombie-v2"),
    "merchant": ("merchant-v1", "merchant-v2"),
}
RESERVE = "reserve"
"""A tier of one fake engine on demand. Not called silver: the chart's own silver falls back to bronze."""
CROWD = "crowd"
"""A tier of several fake engines: a floor on demand, the rest on spot."""
CROWD_REPLICAS = 3
SPOT_LABEL = "e2e.npcfleet.dev/spot"
"""On the only node that is spot for the region of interruptions, and its taint that keeps all others away."""
CROWD_TOKEN_SECONDS = 0.15
"""So long that some lines of that tier are under way at any moment."""
TRIED = ("bard", "duke", "ghost", "herald", "hermit", "jester", "knight", "monk", "oracle", "pirate")
"""Archetypes of the region in which candidates are tried, one for each story that is told there."""
PERSONA: region.Spec = {
    "systemPrompt": "You keep the gate of a fallen town.",
    "scriptedLines": ["Not now.", "Come back at dawn."],
}
"""What speaks for those where no adapter can."""
PROBE = "Who goes there?"
"""What their probes ask: no player does, so that a candidate can be bad to players alone."""
RUBBISH = "(?i)lorem ipsum"
"""What none of them may ever say."""
STEPS = (10, 25, 50, 100)
RESYNC_SECONDS = 45
"""Short, so that the window in which nothing may be written holds at least two resyncs."""
MAX_CPU_LORAS = 32
"""Room for every archetype of any region here twice, while an older digest still drains."""
PROMPT = "Who are you?"
MAX_TOKENS = 8


def tier_specs(stack: Stack, engines: EnginePlan, names: tuple[str, ...] = TIERS) -> dict[str, region.Spec]:
    """Gold and silver on demand, bronze on spot without a floor. Where gold cannot speak the next of them does."""
    quality = {"gold": ("Gold", 8000), "silver": ("Silver", 8000), "bronze": ("Bronze", 3000)}
    more: dict[str, dict[str, Any]] = {"gold": {"fallbackTier": names[1]}} if names[0] == "gold" else {}
    return {
        name: region.tier(
            quality[name][0],
            engines,
            model_uri=stack.model_uri,
            parameters_millions=quality[name][1],
            on_demand_base=0 if name == "bronze" else 1,
            max_cpu_loras=MAX_CPU_LORAS,
            minReplicas=0,
            **more.get(name, {}),
        )
        for name in names
    }


def adapter_specs(stack: Stack, tiers: tuple[str, ...] = TIERS) -> dict[str, region.Spec]:
    """The first version of every archetype on every tier; a main-quest vampire."""
    sources: Mapping[str, tuple[str, str]] = {name: stack.adapter(VERSIONS[name][0]) for name in ARCHETYPES}
    return {
        name: region.adapter(
            name, dict.fromkeys(tiers, sources[name]), importance="Critical" if name == "vampire" else "Normal"
        )
        for name in ARCHETYPES
    }


def real_region(stack: Stack, name: str = "eu-west") -> RegionPlan:
    """Three tiers of one real vLLM each."""
    spec = region.region([("gold", 80, 200), ("silver", 200, 400), ("bronze", 300, 600)], default_tier="bronze")
    spec["assignments"] = [{"npcPrefix": "boss-", "tier": "gold"}]
    return RegionPlan(
        name=name,
        tiers=tier_specs(stack, vllm_plan(stack.images.engine_base)),
        adapters=adapter_specs(stack),
        spec=spec,
    )


def quiet_region(stack: Stack, name: str) -> RegionPlan:
    """One tier of fake engines and one gateway."""
    spec = region.region([("bronze", 300, 600)], default_tier="bronze", gateways=1)
    tiers = tier_specs(stack, fake_plan(stack.images.fleet), ("bronze",))
    return RegionPlan(name=name, tiers=tiers, adapters=adapter_specs(stack, ("bronze",)), spec=spec)


def trial_region(stack: Stack, name: str) -> RegionPlan:
    """Two tiers of fake engines and two gateways: what is true of one gateway has to be true of both."""
    spec = region.region([("gold", 80, 200), ("bronze", 300, 600)], default_tier="bronze")
    spec["rolloutLimits"] = {"maxConcurrent": len(TRIED)}
    tiers = tier_specs(stack, fake_plan(stack.images.fleet), ("gold", "bronze"))
    source = stack.adapter("vampire-v1")
    voices = {
        voice: region.adapter(
            voice,
            dict.fromkeys(tiers, source),
            probe=PROBE,
            persona=PERSONA,
            answers={"mustNotMatch": [RUBBISH]},
        )
        for voice in TRIED
    }
    return RegionPlan(name=name, tiers=tiers, adapters=voices, spec=spec)


def spot_region(stack: Stack, name: str) -> RegionPlan:
    """Bronze is a real vLLM on spot without a floor; where it cannot speak, the reserve does. A crowd of fakes has a
    floor of one, and one interrupted node is a storm to it. Fake voices have digests of their own, so that each line
    says who spoke.
    """
    fakes, real = (RESERVE, CROWD), "bronze"
    names = (real, *fakes)
    spec = region.region([(tier, 100, 200) for tier in names], default_tier=real)
    where: dict[str, Any] = {
        "capacityTypeLabel": {"key": SPOT_LABEL, "spotValue": "yes"},
        "scheduling": {"tolerations": [{"key": SPOT_LABEL, "operator": "Exists"}]},
        "objectives": {"stallSeconds": 5},
    }
    more: dict[str, Any] = {"model_uri": stack.model_uri, "parameters_millions": 100, "max_cpu_loras": MAX_CPU_LORAS}
    slow = fake_plan(stack.images.fleet, f"--fake-token-seconds={CROWD_TOKEN_SECONDS}")
    bronze = region.tier("Bronze", vllm_plan(stack.images.engine_base), on_demand_base=0, **more, **where)
    bronze |= {"fallbackTier": RESERVE, "capacity": {"onDemandBase": 0, "storm": {"interruptions": 0}}}
    crowd = region.tier("Bronze", slow, max_replicas=4, **more, **where)
    storm = {"interruptions": 1, "windowSeconds": 60, "holdSeconds": 60}
    crowd |= {"replicas": CROWD_REPLICAS, "capacity": {"onDemandBase": 1, "storm": storm}}
    tiers = {real: bronze, RESERVE: region.tier("Silver", fake_plan(stack.images.fleet), **more), CROWD: crowd}
    versions = {archetype: [stack.adapter(version) for version in VERSIONS[archetype][:2]] for archetype in ARCHETYPES}
    adapters = {
        archetype: region.adapter(archetype, {real: first, **dict.fromkeys(fakes, second)})
        for archetype, (first, second) in versions.items()
    }
    return RegionPlan(name=name, tiers=tiers, adapters=adapters, spec=spec)
