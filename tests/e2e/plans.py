"""The regions of the suite. One has real engines and lives through all of it; the others answer from fake engines and
cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

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
RESYNC_SECONDS = 45
"""Short, so that the window in which nothing may be written holds at least two resyncs."""
PROMPT = "Who are you?"
MAX_TOKENS = 8


def tier_specs(stack: Stack, engines: EnginePlan, names: tuple[str, ...] = TIERS) -> dict[str, region.Spec]:
    """Gold and silver on demand, bronze on spot without a floor."""
    quality = {"gold": ("Gold", 8000), "silver": ("Silver", 8000), "bronze": ("Bronze", 3000)}
    return {
        name: region.tier(
            quality[name][0],
            engines,
            model_uri=stack.model_uri,
            parameters_millions=quality[name][1],
            on_demand_base=0 if name == "bronze" else 1,
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
