"""Objects as users write them, with options instead of fixtures: a test names what matters to it and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from npc_operator.api import names
from npc_operator.domain.facts import Adapter, AgentFact, Pod, Region, Tier
from npc_operator.domain.holdings import Held, hold
from npc_operator.edge.parse import parse
from npc_runtime.wire import AdapterPhase, EngineReport, EngineState, Stamp, served_name

NAMESPACE = "eu-west"
CREATED = "2026-11-01T00:00:00Z"


def digest(word: str) -> str:
    """The digest of some bytes nobody needs to know."""
    return f"sha256:{hashlib.sha256(word.encode()).hexdigest()}"


def meta(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """Metadata as the API server completes it."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{kind.lower()}-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
        **more,
    }


def region(
    name: str = "eu-west",
    *,
    tiers: Mapping[str, int] | None = None,
    auth: str | None = None,
    gateways: int = 2,
    spec: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """An NPCRegion. `tiers`: population by tier; `auth`: name of the Secret with API keys (None: no authentication)."""
    population = {"gold": 100} if tiers is None else tiers
    gateway: dict[str, Any] = {"replicas": gateways, "auth": {"mode": "None"}}
    if auth is not None:
        gateway["auth"] = {"mode": "ApiKey", "secretRef": {"name": auth}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_REGION,
        "metadata": meta(names.KIND_REGION, name, **metadata),
        "spec": {
            "tiers": [{"tier": tier, "npcs": {"min": count, "max": count}} for tier, count in population.items()],
            "defaultTier": next(iter(population)),
            "gateway": gateway,
            **(spec or {}),
        },
    }


def tier(
    name: str = "gold",
    *,
    engine: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A GpuTier on CPU with a model on S3."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_TIER,
        "metadata": meta(names.KIND_TIER, name, **metadata),
        "spec": {
            "quality": {"gold": "Gold", "silver": "Silver"}.get(name, "Bronze"),
            "model": {"uri": "s3://models/base", "parametersMillions": 8000, **(model or {})},
            "engine": {"image": "vllm:test", **(engine or {})},
            "accelerator": {"perReplica": 0},
            "npcsPerReplica": 50,
            **(spec or {}),
        },
    }


def adapter(
    archetype: str = "vampire",
    *,
    digests: Mapping[str, str] | None = None,
    name: str | None = None,
    secret: str | None = None,
    rank: int = 8,
    spec: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """An ArchetypeAdapter. `digests`: by tier."""
    variants = []
    for tier_name, value in (digests or {"gold": digest(f"{archetype}-1")}).items():
        source: dict[str, Any] = {"uri": f"s3://adapters/{archetype}/{value[7:15]}", "digest": value}
        if secret is not None:
            source["secretRef"] = {"name": secret}
        variants.append({"tier": tier_name, "source": source, "rank": rank})
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND_ADAPTER,
        "metadata": meta(names.KIND_ADAPTER, name or archetype, **metadata),
        "spec": {"archetype": archetype, "variants": variants, **(spec or {})},
    }


def at_once(*args: Any, spec: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """An ArchetypeAdapter whose traffic moves all at once, for tests of everything but steps."""
    wanted = dict(spec or {})
    return adapter(*args, spec={**wanted, "rollout": {"strategy": "Immediate", **wanted.get("rollout", {})}}, **options)


def secret(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    """A Secret as a user makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


# --- the same, as facts ---


def region_fact(*args: Any, **options: Any) -> Region:
    fact = parse(names.API_VERSION, names.KIND_REGION, region(*args, **options)).fact
    assert isinstance(fact, Region), fact
    return fact


def tier_fact(*args: Any, status: Mapping[str, Any] | None = None, **options: Any) -> Tier:
    fact = parse(names.API_VERSION, names.KIND_TIER, {**tier(*args, **options), "status": dict(status or {})}).fact
    assert isinstance(fact, Tier), fact
    return fact


def adapter_fact(*args: Any, status: Mapping[str, Any] | None = None, **options: Any) -> Adapter:
    manifest = {**adapter(*args, **options), "status": dict(status or {})}
    fact = parse(names.API_VERSION, names.KIND_ADAPTER, manifest).fact
    assert isinstance(fact, Adapter), fact
    return fact


def pod_fact(name: str = "gold-spot-1", **options: Any) -> Pod:
    """An engine pod that runs and is ready."""
    fields: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-{name}",
        "component": names.COMPONENT_ENGINE,
        "tier": "gold",
        "slice": names.SLICE_SPOT,
        "node": "node-1",
        "ip": "10.0.0.1",
        "phase": "Running",
        "ready": True,
        "engine_key_id": "key-1",
    }
    return Pod(**{**fields, **options})


def report(archetype: str, value: str, phase: AdapterPhase = AdapterPhase.RESIDENT, **options: Any) -> Held:
    """What is known of one adapter on a pod."""
    return Held(served_name=served_name(archetype, value), archetype=archetype, digest=value, phase=phase, **options)


def agent_fact(
    pod: Pod,
    reports: Sequence[Held] = (),
    *,
    state: EngineState = EngineState.READY,
    since: float = 0.0,
    **options: Any,
) -> AgentFact:
    """An agent that was heard."""
    fields: dict[str, Any] = {
        "pod_uid": pod.uid,
        "boot_id": f"boot-{pod.name}",
        "stamp": Stamp(epoch=1, generation=1),
        "draining": False,
        "engine": EngineReport(state=state, instance="1", since_ms=int(since * 1000)),
        "adapters": hold(reports),
    }
    return AgentFact(**{**fields, **options})
