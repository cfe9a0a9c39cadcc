"""The three CustomResourceDefinitions, put together from the types: schema, printer columns, names and subresources.

Printer columns answer the first question one has (is it well, and if not, why), and then the numbers of the kind; what
is long stands in `-o wide`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec, ArchetypeAdapterStatus
from npc_operator.api.base import VALIDATIONS, ApiModel, Rule
from npc_operator.api.gputier import GpuTierSpec, GpuTierStatus
from npc_operator.api.meta import ADAPTER_NAME_LENGTH, DNS_NAME, REGION_NAME_LENGTH, TIER_NAME_LENGTH
from npc_operator.api.names import GROUP, KIND_ADAPTER, KIND_REGION, KIND_TIER, PART_OF, PLURALS, VERSION
from npc_operator.api.npcregion import NPCRegionSpec, NPCRegionStatus
from npc_operator.api.schema import structural_schema

CATEGORY = "npc"
_API_VERSION = "Version of the API this object is written in: npcfleet.dev/v1alpha1."
_KIND = "Kind of the object."


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; wide ones appear with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False

    def entry(self) -> dict[str, Any]:
        """The column as the CRD has it."""
        entry: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            entry["description"] = self.description
        if self.wide:
            entry["priority"] = 1
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a CRD says beside its schema."""

    kind: str
    short_name: str
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[Column, ...]
    name_length: int
    """Children append suffixes to the name and must stay DNS labels."""
    categories: tuple[str, ...] = (CATEGORY,)
    scale: bool = False

    @property
    def plural(self) -> str:
        return PLURALS[self.kind]


_READY = Column(
    "Ready", '.status.conditions[?(@.type=="Ready")].status', description="Whether what is wanted serves now."
)
_REASON = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Why, in one word.")
_MESSAGE = Column(
    "Message", '.status.conditions[?(@.type=="Ready")].message', description="Why, in a sentence.", wide=True
)
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

DEFINITIONS = (
    Definition(
        kind=KIND_REGION,
        short_name="npcr",
        description="A population of NPCs and everything that serves it; one region per namespace.",
        spec=NPCRegionSpec,
        status=NPCRegionStatus,
        name_length=REGION_NAME_LENGTH,
        categories=(CATEGORY, "all"),
        columns=(
            _READY,
            _REASON,
            Column("NPCs", ".status.population", "integer", "Population over all tiers."),
            Column("Tiers", ".status.tiers", "integer", "Tiers wanted."),
            Column("Ready-Tiers", ".status.readyTiers", "integer", "Tiers that serve as wanted."),
            Column("Archetypes", ".status.archetypes", "integer", "Archetypes that can be asked for."),
            Column("Gateways", ".status.gatewayReady", "integer", "Gateway pods with the present routes.", wide=True),
            Column("Endpoint", ".status.endpoint", description="Where game servers call.", wide=True),
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        kind=KIND_TIER,
        short_name="gput",
        description="A pool of identical engine pods in a region.",
        spec=GpuTierSpec,
        status=GpuTierStatus,
        name_length=TIER_NAME_LENGTH,
        scale=True,
        columns=(
            Column("Quality", ".spec.quality", description="Gold, Silver or Bronze."),
            _READY,
            _REASON,
            Column("Wanted", ".status.wantedReplicas", "integer", "Engine pods wanted."),
            Column("Running", ".status.readyReplicas", "integer", "Engine pods that are ready."),
            Column("Adapters", ".status.adapters", "integer", "Adapters wanted on each pod."),
            Column("Resident", ".status.residentAdapters", "integer", "Adapters proven on every ready pod."),
            Column("On-Demand", ".status.slices.onDemand.ready", "integer", "Ready on-demand pods.", wide=True),
            Column("Spot", ".status.slices.spot.ready", "integer", "Ready spot pods.", wide=True),
            Column("Capacity", ".status.capacity.mode", description="Whether on-demand stands in for spot.", wide=True),
            Column("Model", ".spec.model.uri", description="Base model.", wide=True),
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        kind=KIND_ADAPTER,
        short_name="npca",
        description="The voice of one archetype: one LoRA adapter per tier.",
        spec=ArchetypeAdapterSpec,
        status=ArchetypeAdapterStatus,
        name_length=ADAPTER_NAME_LENGTH,
        columns=(
            Column("Archetype", ".spec.archetype", description="The public name."),
            _READY,
            _REASON,
            Column("Variants", ".status.readyVariants", description="Variants that serve, of those wanted."),
            Column("Digest", ".status.digest", description="What is served."),
            Column("Importance", ".spec.importance", description="Critical, Normal or Ambient.", wide=True),
            _MESSAGE,
            _AGE,
        ),
    ),
)


def build_crd(definition: Definition) -> dict[str, Any]:
    """The manifest of one CustomResourceDefinition."""
    subresources: dict[str, Any] = {"status": {}}
    if definition.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{definition.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "npc-crds", "app.kubernetes.io/part-of": PART_OF},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.kind.lower(),
                "shortNames": [definition.short_name],
                "categories": list(definition.categories),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [column.entry() for column in definition.columns],
                    "schema": {"openAPIV3Schema": build_object_schema(definition)},
                }
            ],
        },
    }


def build_object_schema(definition: Definition) -> dict[str, Any]:
    """The schema of a whole object: name, spec and status."""
    status = structural_schema(definition.status, defaults=False)
    status["description"] = "What the operator saw; written by it alone."
    # kstatus reads -1 as "not looked at yet": before the first pass nothing must look current.
    status["default"] = {"observedGeneration": -1}
    spec = structural_schema(definition.spec)
    return {
        "type": "object",
        "description": definition.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": _API_VERSION},
            "kind": {"type": "string", "description": _KIND},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        VALIDATIONS: [rule.entry() for rule in _name_rules(definition)],
    }


def _name_rules(definition: Definition) -> tuple[Rule, ...]:
    """Names become parts of DNS labels (Services, pods), so they are stricter than Kubernetes' own rule for object
    names."""
    return (
        Rule(
            f"size(self.metadata.name) <= {definition.name_length}",
            f"metadata.name must have at most {definition.name_length} characters: "
            "names of pods and Services are made from it",
        ),
        Rule(
            f"self.metadata.name.matches('{DNS_NAME}')",
            "metadata.name must be a DNS label that begins with a letter: "
            "lower case letters, digits and hyphens, no dots",
        ),
    )


def crds() -> Mapping[str, dict[str, Any]]:
    """All CustomResourceDefinitions by file name, in the order people read them."""
    return {f"{definition.plural}.yaml": build_crd(definition) for definition in DEFINITIONS}
