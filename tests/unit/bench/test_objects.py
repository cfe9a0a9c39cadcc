"""The objects of a benchmark's world: valid, and with rollouts that end by themselves although nobody speaks."""

from __future__ import annotations

from hack.bench import live_region, objects
from hack.bench.plan import Options
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.npcregion import NPCRegionSpec

SOURCE = {"uri": "s3://bench/voice", "digest": f"sha256:{'a' * 64}"}


def test_voices_move_at_once_and_do_not_wait_for_each_other() -> None:
    voice = ArchetypeAdapterSpec.model_validate(objects.build_adapter("voice-1", **SOURCE)["spec"])
    region = NPCRegionSpec.model_validate(objects.build_region(gateways=1)["spec"])
    assert voice.rollout.strategy == "Immediate"
    assert region.rollout_limits.max_concurrent >= Options().adapters


def test_voices_of_the_live_row_move_at_once() -> None:
    voice = ArchetypeAdapterSpec.model_validate(live_region.build_voice("vampire", SOURCE))
    assert voice.rollout.strategy == "Immediate"
