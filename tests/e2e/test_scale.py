"""Replicas follow the manifest, kubectl scale and an autoscaler, and a new template replaces pods without failing a
line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hack.stack.load import Ask, Load
from tests.e2e.world import PROMPT, World


async def test_a_tier_scales_up_and_down_under_load(world: World) -> None:
    ask = Ask(archetype="zombie", prompt=PROMPT, tier="bronze")
    # Of many conversations, so that both pods have lines: those of one go where its beginning is cached.
    crowd = [replace(ask, npc="zombie", player=f"player-{number:02}") for number in range(24)]
    async with Load(world.url, world.key, crowd, rate=3) as load:
        await world.scale("bronze", 2)
        await world.until_tier("bronze", lambda seen: seen["status"].get("readyReplicas") == 2, timeout=600)
        await world.until_served_by_pods(ask, 2)
        await world.scale("bronze", 1)
        await world.until_tier("bronze", lambda seen: seen["status"].get("replicas") == 1, timeout=300)
        await load.until(6)
    world.assert_clean(load.tally)
    await world.until_all_ready()


async def test_an_autoscaler_takes_over_once_replicas_is_set(world: World) -> None:
    await world.scale("bronze", 1)
    hpa: dict[str, Any] = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "bronze", "namespace": world.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "npcfleet.dev/v1alpha1", "kind": "GpuTier", "name": "bronze"},
            "minReplicas": 2,
            "maxReplicas": 2,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }
            ],
        },
    }
    await world.kubectl.apply(hpa)
    try:
        seen = await world.until_tier("bronze", lambda tier: tier["spec"].get("replicas") == 2)
        assert seen["spec"]["replicas"] == 2
        await world.until_tier("bronze", lambda tier: tier["status"].get("wantedReplicas") == 2)
    finally:
        await world.kubectl.delete("hpa", "bronze", world.namespace)
        await world.scale("bronze", 1)
    await world.until_tier("bronze", lambda tier: tier["status"].get("replicas") == 1, timeout=300)
    await world.until_all_ready()


async def test_an_engine_argument_changed_under_load_fails_no_line(world: World) -> None:
    before = {pod["metadata"]["uid"] for pod in await world.pods("silver")}
    ask = Ask(archetype="vampire", prompt=PROMPT, tier="silver")
    tier = await world.kubectl.get("gputier", "silver", world.namespace)
    arguments = [*tier["spec"]["engine"].get("extraArgs", []), "--max-num-seqs=24"]
    async with Load(world.url, world.key, [ask], rate=3) as load:
        await world.kubectl.patch("gputier", "silver", world.namespace, {"spec": {"engine": {"extraArgs": arguments}}})
        await world.until_rolled("silver", before, timeout=600)
        await load.until(6)
    world.assert_clean(load.tally)


async def test_an_operator_upgrade_restarts_no_engine(world: World) -> None:
    before = await world.engine_identities()
    await world.upgrade_operator()
    await world.until_all_ready()
    assert await world.engine_identities() == before
