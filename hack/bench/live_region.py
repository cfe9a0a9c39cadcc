"""A region for the live benchmark: one tier of two real vLLM pods, one on demand and one spot, adapters from a folder.

The same shape as the one the peers were measured with (two pods, local sources), so the figures can stand side by side.
Pure but for the copies of adapters it makes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.models.catalog import Catalog
from hack.models.digest import digest_of
from hack.stack.region import IMMEDIATE, EnginePlan, RegionPlan, region, tier

NAMESPACE = "bench-live"
TIER = "gold"
PODS = 2
CLAIM = "adapters"
MOUNT = "/mnt/adapters"
NPCS_PER_REPLICA = 100
Spec = dict[str, Any]


@dataclass(slots=True)
class Sources:
    """Adapters in one folder that every engine pod mounts. Each copy has bytes of its own, so no cache knows it."""

    folder: Path
    catalog: Catalog
    originals: dict[str, str] = field(default_factory=dict)
    """digest -> adapter of the catalog whose weights (and so whose voice) it has."""

    def fresh(self, original: str) -> Spec:
        """`source` of a variant: a copy of a catalog adapter that nobody has seen. Raises KeyError, OSError."""
        name = f"{original}-{len(self.originals)}"
        target = self.folder / name
        shutil.copytree(self.catalog.adapter(original), target)
        (target / "README.md").write_text(f"Copy {len(self.originals)}.\n")
        # Agents run as another user, and what fetches bytes must be able to read them.
        target.chmod(0o755)
        for file in target.iterdir():
            file.chmod(0o644)
        digest = f"sha256:{digest_of(target)}"
        self.originals[digest] = original
        return {"uri": f"file://{MOUNT}/{name}", "digest": digest}


def build_variants(source: Mapping[str, str]) -> list[Spec]:
    """`spec.variants` with one source."""
    return [{"tier": TIER, "source": dict(source), "rank": 8}]


def build_voice(archetype: str, source: Mapping[str, str]) -> Spec:
    """spec of an ArchetypeAdapter."""
    return {
        "archetype": archetype,
        "variants": build_variants(source),
        "probe": {"prompt": "Who are you?", "maxTokens": 4, "timeoutSeconds": 60},
        "rollout": IMMEDIATE,
    }


def build_plan(engine: EnginePlan, *, model_uri: str, voices: Mapping[str, Mapping[str, str]]) -> RegionPlan:
    """The region with these voices (archetype -> source)."""
    spec = tier(
        "Gold",
        engine,
        model_uri=model_uri,
        parameters_millions=1,
        max_replicas=PODS,
        npcs_per_replica=NPCS_PER_REPLICA,
        agent={"fileRoots": [MOUNT]},
    )
    spec["engine"]["volumes"].append(
        {"name": "adapters", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}
    )
    spec["engine"]["volumeMounts"].append({"name": "adapters", "mountPath": MOUNT, "readOnly": True})
    npcs = PODS * NPCS_PER_REPLICA
    return RegionPlan(
        name=NAMESPACE,
        tiers={TIER: spec},
        adapters={archetype: build_voice(archetype, source) for archetype, source in voices.items()},
        spec=region([(TIER, npcs, npcs)], default_tier=TIER),
    )


def residents(seen: Mapping[str, Any]) -> tuple[int, int]:
    """(resident, wanted) replicas of an ArchetypeAdapter's only variant; (0, 0) while the status says nothing."""
    variants = seen.get("status", {}).get("variants") or [{}]
    return int(variants[0].get("residentReplicas") or 0), int(variants[0].get("wantedReplicas") or 0)


def stable_digest(seen: Mapping[str, Any]) -> str:
    """The digest that has all traffic, as the status of an ArchetypeAdapter says."""
    variants = seen.get("status", {}).get("variants") or [{}]
    return str((variants[0].get("stable") or {}).get("digest") or "")
