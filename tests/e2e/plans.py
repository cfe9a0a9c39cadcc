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
