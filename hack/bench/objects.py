"""The objects of a benchmark's world, as a user would write them: one region, one tier, many voices. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

NAMESPACE = "bench"
REGION = "bench"
TIER = "gold"
ENGINE_DEPLOYMENT = f"{TIER}-on-demand"
GATEWAY_DEPLOYMENT = f"{REGION}-gateway"
API_VERSION = "npcfleet.dev/v1alpha1"
EVERY_VOICE = 1000
"""Voices that may move at the same time: the schema's bound, because what is measured is not how they wait."""
Spec = dict[str, Any]


def build_namespace(name: str) -> Spec:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def build_tier(*, replicas: int, slots: int) -> Spec:
    """A tier of so many pods with room for so many adapters on each."""
    return _object(
        "GpuTier",
        TIER,
        {
            "quality": "Gold",
            "model": {"uri": "s3://bench/base", "parametersMillions": 8000},
            "engine": {"image": "bench/engine:1", "maxLoras": 8, "maxCpuLoras": slots, "maxLoraRank": 16},
            "accelerator": {"perReplica": 0},
            "npcsPerReplica": 100,
            "replicas": replicas,
            "minReplicas": 1,
            "maxReplicas": max(replicas, 1),
            "capacity": {"onDemandBase": replicas},
        },
    )


def build_region(*, gateways: int) -> Spec:
    return _object(
        "NPCRegion",
        REGION,
        {
            "tiers": [{"tier": TIER, "npcs": {"min": 80, "max": 1000}}],
            "defaultTier": TIER,
            "gateway": {"replicas": gateways, "auth": {"mode": "None"}},
            "rolloutLimits": {"maxConcurrent": EVERY_VOICE},
        },
    )


def adapter_name(number: int) -> str:
    """Name and archetype of the n-th voice."""
    return f"voice-{number:05d}"


def made_up_digest(name: str, version: int) -> str:
    """The digest of bytes that nobody fetches."""
    return f"sha256:{hashlib.sha256(f'{name}/{version}'.encode()).hexdigest()}"


def build_adapter(name: str, *, uri: str, digest: str) -> Spec:
    """A voice whose traffic moves at once: nobody speaks here, so no step would ever be judged."""
    variants = build_variants(uri=uri, digest=digest)
    return _object(
        "ArchetypeAdapter", name, {"archetype": name, "variants": variants, "rollout": {"strategy": "Immediate"}}
    )


def build_variants(*, uri: str, digest: str) -> list[Spec]:
    """`spec.variants` for one tier."""
    return [{"tier": TIER, "source": {"uri": uri, "digest": digest}, "rank": 8}]


def is_ready(seen: Spec) -> bool:
    """Whether an object's Ready condition is True for its present spec."""
    status = seen.get("status", {})
    return status.get("observedGeneration") == seen["metadata"].get("generation") and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", ())
    )


def _object(kind: str, name: str, spec: Spec) -> Spec:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
