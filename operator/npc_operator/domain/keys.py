"""What can be reconciled. A key names work, never carries data: whoever takes it looks at the facts of that moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class KeyKind(StrEnum):
    NAMESPACE = "namespace"  # the Secrets that all engines and gateways of a namespace share; name is empty
    REGION = "region"  # an NPCRegion: gateway children, status
    TIER = "tier"  # a GpuTier: its two Deployments, Service, PDB, status
    ADAPTER = "adapter"  # an ArchetypeAdapter: rollout decision, status
    GATE = "gate"  # the Jobs that test the candidates of an ArchetypeAdapter; name is the adapter's
    AGENT = "agent"  # one engine pod: push the desired set; name is the pod's
    GATEWAY = "gateway"  # one gateway pod: push the route table; name is the pod's
    INTERRUPTIONS = "interruptions"  # the pods of a tier whose nodes go away; name is the tier's
    NODE_POOLS = "node-pools"  # what brings a tier's nodes, and room kept free on them; name is the tier's
    ROUTES = "routes"  # a region's route table: build it once for all gateways, keep the Secret; name is the region's


@dataclass(frozen=True, slots=True, order=True)
class Key:
    kind: KeyKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
