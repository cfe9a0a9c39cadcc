"""The region of the live benchmark: valid specs, fresh bytes, and what its statuses say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.bench import live_region
from hack.bench.live_region import PODS, Sources
from hack.models.adapters import ADAPTERS, make_adapter
from hack.models.catalog import Catalog
from hack.models.digest import digest_of
from hack.stack.engines import vllm_plan
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.domain.replicas import decide_replicas


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    adapter = next(one for one in ADAPTERS if one.name == "vampire-v1")
    digest = digest_of(make_adapter(tmp_path / "catalog" / adapter.name, adapter))
    (tmp_path / "shared").mkdir()
    return Sources(tmp_path / "shared", Catalog(tmp_path / "catalog", {adapter.name: digest}))


def test_every_copy_of_an_adapter_has_bytes_of_its_own_and_its_originals_voice(sources: Sources) -> None:
    first, second = sources.fresh("vampire-v1"), sources.fresh("vampire-v1")
    assert first["digest"] != second["digest"]
    assert set(sources.originals) == {first["digest"], second["digest"]}
    assert set(sources.originals.values()) == {"vampire-v1"}
    folder = sources.folder / first["uri"].rpartition("/")[2]
    assert f"sha256:{digest_of(folder)}" == first["digest"]
    assert folder.stat().st_mode & 0o005 == 0o005
    assert all(file.stat().st_mode & 0o004 for file in folder.iterdir())


def test_the_region_is_valid_and_wants_two_pods(sources: Sources) -> None:
    voices = {"vampire": sources.fresh("vampire-v1")}
    plan = live_region.build_plan(vllm_plan("engine:1"), model_uri="s3://models/base", voices=voices)
    tier = GpuTierSpec.model_validate(plan.tiers[live_region.TIER])
    region = NPCRegionSpec.model_validate(plan.spec)
    ArchetypeAdapterSpec.model_validate(plan.adapters["vampire"])
    assert decide_replicas(tier, region.tiers[0].npcs.max) == PODS
    assert tier.agent.file_roots == (live_region.MOUNT,)
    assert plan.uses_vllm


def test_a_status_that_says_nothing_has_no_residents_and_no_digest() -> None:
    assert live_region.residents({}) == (0, 0)
    assert live_region.stable_digest({"status": {"variants": [{"tier": "gold"}]}}) == ""
    seen = {"status": {"variants": [{"residentReplicas": 1, "wantedReplicas": 2, "stable": {"digest": "sha256:a"}}]}}
    assert live_region.residents(seen) == (1, 2)
    assert live_region.stable_digest(seen) == "sha256:a"
