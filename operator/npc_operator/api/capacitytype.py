"""How spot nodes are told from others: by the label of whoever brings them, known by name here, or by any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from npc_operator.api.base import ApiModel, Rule
from npc_operator.api.meta import LABEL_KEY, LABEL_VALUE

Preset = Literal["Karpenter", "EKS", "GKE", "AKS"]


@dataclass(frozen=True, slots=True)
class NodeLabel:
    """A node label that tells spot from on-demand. Nodes without it are on-demand."""

    key: str
    spot_value: str
    on_demand_value: str | None = None
    """None: on-demand nodes are all that do not have the spot value."""


PRESETS: Mapping[Preset, NodeLabel] = MappingProxyType(
    {
        "Karpenter": NodeLabel("karpenter.sh/capacity-type", "spot"),
        "EKS": NodeLabel("eks.amazonaws.com/capacityType", "SPOT"),
        "GKE": NodeLabel("cloud.google.com/gke-spot", "true"),
        "AKS": NodeLabel("kubernetes.azure.com/scalesetpriority", "spot"),
    }
)
"""From the documentation of each: Karpenter's well-known labels, EKS managed node groups, GKE Spot VMs, AKS spot node
pools."""
USUAL: Preset = "Karpenter"


class CapacityTypeLabel(ApiModel):
    """How spot nodes are recognised: by the name of who brings them, or by a label of your own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.preset) || !has(self.key)", "give preset or key, not both", field_path=".preset"),
        Rule(
            "has(self.key) == has(self.spotValue)",
            "key and spotValue belong together: which label, and its value on spot nodes",
            field_path=".key",
        ),
        Rule("!has(self.onDemandValue) || has(self.key)", "belongs to a key", field_path=".onDemandValue"),
        Rule(
            "!has(self.onDemandValue) || !has(self.spotValue) || self.onDemandValue != self.spotValue",
            "must differ from spotValue",
            field_path=".onDemandValue",
        ),
    )

    preset: Preset | None = None
    """Who brings the nodes: Karpenter (karpenter.sh/capacity-type), EKS for managed node groups
    (eks.amazonaws.com/capacityType), GKE (cloud.google.com/gke-spot) or AKS (kubernetes.azure.com/scalesetpriority).
    Unset, and without a key, it is Karpenter."""
    key: str | None = Field(default=None, min_length=1, max_length=317, pattern=LABEL_KEY)
    """Any other node label."""
    spot_value: str | None = Field(default=None, min_length=1, max_length=63, pattern=LABEL_VALUE)
    """Its value on spot nodes; everything else, unlabelled nodes included, counts as on-demand."""
    on_demand_value: str | None = Field(default=None, min_length=1, max_length=63, pattern=LABEL_VALUE)
    """When set, on-demand pods insist on this value instead of avoiding spotValue."""

    def label(self) -> NodeLabel:
        """The label that is meant."""
        if self.key is not None and self.spot_value is not None:
            return NodeLabel(self.key, self.spot_value, self.on_demand_value)
        return PRESETS[self.preset or USUAL]


def _cel_key(label: str) -> str:
    """A CEL expression for the key of the label that a CapacityTypeLabel means."""
    keys = ", ".join(f"'{name}': '{one.key}'" for name, one in PRESETS.items())
    return (
        f"(has({label}.key) ? {label}.key : has({label}.preset) ? {{{keys}}}[{label}.preset] : '{PRESETS[USUAL].key}')"
    )


KEY_OF_CAPACITY_TYPE = _cel_key("self.capacityTypeLabel")
"""For rules of whoever has a `capacityTypeLabel`."""
