"""Names that the operator writes into the cluster, as a reader of them needs them.

The runtime never imports the operator, so they are repeated here; tests/unit/cli compares each with the operator's own.
"""

from __future__ import annotations

GROUP = "npcfleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

KIND_REGION = "NPCRegion"
KIND_TIER = "GpuTier"
KIND_ADAPTER = "ArchetypeAdapter"
PLURALS = {KIND_REGION: "npcregions", KIND_TIER: "gputiers", KIND_ADAPTER: "archetypeadapters"}
SHORT = {KIND_REGION: "npcr", KIND_TIER: "gput", KIND_ADAPTER: "npca"}

LABEL_REGION = f"{GROUP}/region"
LABEL_TIER = f"{GROUP}/tier"
LABEL_SLICE = f"{GROUP}/slice"
LABEL_COMPONENT = "app.kubernetes.io/component"
COMPONENT_ENGINE = "engine"
COMPONENT_GATEWAY = "gateway"
COMPONENT_GATE = "gate"
LABEL_ADAPTER = f"{GROUP}/adapter"

CONTAINER_ENGINE = "engine"
CONTAINER_AGENT = "agent"
CONTAINER_MODEL = "model"

SECRET_INTERNAL = "npc-fleet-internal"
LEASE = "npc-operator"
OPERATOR_NAMESPACE = "npc-system"
"""Where the README installs the operator; --operator-namespace names another."""

BECAME_STABLE = frozenset({"First", "Moved", "Adopted", "Restored"})
"""Reasons of the history's entries that made a digest stable."""

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
