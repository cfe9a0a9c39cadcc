"""A region for the local cluster: tiers whose engines are real vLLM on the CPU with a tiny model, and the archetypes
that speak there.

Pure: names and numbers in, manifests out. The engine image holds only Python; vLLM itself is a host folder behind a
PersistentVolume, because a third of a gigabyte of image would have to be unpacked on each node for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

CLAIM_VLLM = "vllm"
SECRET_STORAGE = "storage-credentials"
SECRET_API_KEYS = "game-server-keys"
VLLM_MOUNT = "/opt/vllm"
FAKE_CONFIG_MAP = "fake-engine"
FAKE_FILE = "fake_engine.py"
FAKE_MOUNT = "/opt/engine"
IMMEDIATE: Spec = {"strategy": "Immediate"}
"""A rollout that moves all traffic as soon as every pod has proven the candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """How an engine is started on this cluster."""

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    args: tuple[str, ...]
    claim: str = ""
    """Claim with what the command needs, mounted read-only at VLLM_MOUNT; empty for none."""
    memory: str = "3Gi"
    cpu: str = "100m"
    max_model_len: int = 512
    config_map: str = ""
    """ConfigMap mounted at FAKE_MOUNT instead (an engine that is one file)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """All objects of one region, by name: the specs of its tiers and adapters and its own."""

    name: str
    """Of the region, of its namespace and of its Helm release."""
    tiers: Mapping[str, Spec]
    adapters: Mapping[str, Spec]
    spec: Spec

    @property
    def uses_vllm(self) -> bool:
        """Whether some tier mounts the packages of a real vLLM."""
        return any(entry["name"] == "vllm" for spec in self.tiers.values() for entry in spec["engine"]["volumes"])

    def manifests(self) -> list[Spec]:
        """The objects as a user would write them."""
        return [
            *(manifest("GpuTier", self.name, name, spec) for name, spec in self.tiers.items()),
            *(manifest("ArchetypeAdapter", self.name, name, spec) for name, spec in self.adapters.items()),
            manifest("NPCRegion", self.name, self.name, self.spec),
        ]

    def values(self) -> Spec:
        """Values of charts/npc-region."""
        return {"region": self.spec, "tiers": dict(self.tiers), "adapters": dict(self.adapters)}


def volume(namespace: str, *, host_path: str, claim: str = CLAIM_VLLM) -> list[Spec]:
    """A PersistentVolume over a host folder, bound to a claim in the namespace: what Pod Security "restricted" accepts
    where hostPath is refused.
    """
    name = volume_name(namespace, claim)
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadOnlyMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": host_path, "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": {"storage": "10Gi"}},
            },
        },
    ]


def volume_name(namespace: str, claim: str = CLAIM_VLLM) -> str:
    """The PersistentVolume behind a claim of `volume`."""
    return f"{namespace}-{claim}"


def tier(
    quality: str,
    plan: EnginePlan,
    *,
    model_uri: str,
    parameters_millions: int,
    on_demand_base: int = 1,
    max_replicas: int = 2,
    npcs_per_replica: int = 1000,
    max_cpu_loras: int = 8,
    **more: Any,
) -> Spec:
    """spec of a GpuTier. The model is tiny, hence sizePolicy Ignore."""
    volumes: list[Spec] = []
    mounts: list[Spec] = []
    if plan.claim:
        volumes.append({"name": "vllm", "persistentVolumeClaim": {"claimName": plan.claim, "readOnly": True}})
        mounts.append({"name": "vllm", "mountPath": VLLM_MOUNT, "readOnly": True})
    if plan.config_map:
        volumes.append({"name": "engine-code", "configMap": {"name": plan.config_map}})
        mounts.append({"name": "engine-code", "mountPath": FAKE_MOUNT, "readOnly": True})
    return {
        "quality": quality,
        "model": {
            "uri": model_uri,
            "secretRef": {"name": SECRET_STORAGE},
            "parametersMillions": parameters_millions,
            "sizePolicy": "Ignore",
        },
        "engine": {
            "image": plan.image,
            "command": list(plan.command),
            "dtype": "float32",
            "maxModelLen": plan.max_model_len,
            # More than are ever in use: on a CPU, vLLM lets a line of the base model that runs beside lines of
            # adapters speak with the adapter in the last slot, so that slot has to stay empty.
            "maxLoras": max_cpu_loras,
            "maxCpuLoras": max_cpu_loras,
            "maxLoraRank": 16,
            "extraArgs": list(plan.args),
            "env": [{"name": name, "value": value} for name, value in sorted(plan.env.items())],
            "resources": {"requests": {"cpu": plan.cpu, "memory": "256Mi"}, "limits": {"memory": plan.memory}},
            "volumes": volumes,
            "volumeMounts": mounts,
            "startupSeconds": 600,
            "drainSeconds": 20,
        },
        "accelerator": {"perReplica": 0},
        "npcsPerReplica": npcs_per_replica,
        "minReplicas": 1,
        "maxReplicas": max_replicas,
        "capacity": {"onDemandBase": on_demand_base},
        **more,
    }


def adapter(
    archetype: str,
    sources: Mapping[str, tuple[str, str]],
    *,
    importance: str = "Normal",
    probe: str = "Who are you?",
    rollout: Spec = IMMEDIATE,
    **more: Any,
) -> Spec:
    """spec of an ArchetypeAdapter; `sources` is tier -> (uri, digest). It moves at once unless `rollout` says else."""
    return {
        "archetype": archetype,
        "importance": importance,
        "variants": [variant(name, uri, digest) for name, (uri, digest) in sources.items()],
        "probe": {"prompt": probe, "maxTokens": 4, "timeoutSeconds": 60},
        "rollout": dict(rollout),
        **more,
    }


def variant(tier_name: str, uri: str, digest: str) -> Spec:
    return {
        "tier": tier_name,
        "source": {"uri": uri, "digest": digest, "secretRef": {"name": SECRET_STORAGE}},
        "rank": 8,
    }


def region(tiers: Sequence[tuple[str, int, int]], *, default_tier: str, gateways: int = 2, **gateway: Any) -> Spec:
    """spec of an NPCRegion; `tiers` are (name, fewest NPCs, most NPCs)."""
    return {
        "tiers": [{"tier": name, "npcs": {"min": fewest, "max": most}} for name, fewest, most in tiers],
        "defaultTier": default_tier,
        "gateway": {
            "replicas": gateways,
            "auth": {"mode": "ApiKey", "secretRef": {"name": SECRET_API_KEYS}},
            "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
            **gateway,
        },
    }


def three_tiers(
    name: str, engine: EnginePlan, *, model_uri: str, voices: Mapping[str, tuple[str, str]], gateways: int = 2
) -> RegionPlan:
    """A region as studios have it: gold and silver on demand, bronze on spot, every voice on each tier.

    `voices` is archetype -> (uri, digest). The populations are the chart's own; one engine speaks for each tier.
    """
    tiny: dict[str, Any] = {"model_uri": model_uri, "parameters_millions": 1}
    return RegionPlan(
        name=name,
        tiers={
            "gold": tier("Gold", engine, **tiny),
            "silver": tier("Silver", engine, **tiny),
            "bronze": tier("Bronze", engine, on_demand_base=0, **tiny),
        },
        adapters={
            archetype: adapter(archetype, dict.fromkeys(("gold", "silver", "bronze"), source))
            for archetype, source in voices.items()
        },
        spec=region(
            [("gold", 80, 200), ("silver", 200, 400), ("bronze", 300, 600)], default_tier="silver", gateways=gateways
        ),
    )


def manifest(kind: str, namespace: str, name: str, spec: Spec) -> Spec:
    return {
        "apiVersion": "npcfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def secret(namespace: str, name: str, data: Mapping[str, str]) -> Spec:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": dict(data),
    }


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Spec:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }


def namespace(name: str) -> Spec:
    """A namespace under Pod Security "restricted"."""
    enforce = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforce}}
