"""Every name other software may depend on: API group, labels, annotations, field managers, reasons, children's names.

These are load-bearing: changing one orphans objects of installed releases or breaks users' selectors and alerts. Change
them only together with the documentation and a migration.
"""

from __future__ import annotations

import hashlib

GROUP = "npcfleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

KIND_REGION = "NPCRegion"
KIND_TIER = "GpuTier"
KIND_ADAPTER = "ArchetypeAdapter"
PLURALS = {KIND_REGION: "npcregions", KIND_TIER: "gputiers", KIND_ADAPTER: "archetypeadapters"}

# Server-side-apply owners, one per role of writer; never renamed (an old name would keep owning fields for ever).
MANAGER_CHILDREN = "npc-operator"
MANAGER_STATUS = "npc-operator-status"

# Labels on children (beside app.kubernetes.io/*).
LABEL_REGION = f"{GROUP}/region"
LABEL_TIER = f"{GROUP}/tier"
LABEL_SLICE = f"{GROUP}/slice"
LABEL_QUALITY = f"{GROUP}/quality"
LABEL_ADAPTER = f"{GROUP}/adapter"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "npc-operator"
PART_OF = "npc-fleet"
COMPONENT_ENGINE = "engine"
COMPONENT_GATEWAY = "gateway"
COMPONENT_GATE = "gate"
COMPONENT_SECRET = "internal"

SLICE_ON_DEMAND = "on-demand"
SLICE_SPOT = "spot"

# Annotations users may set: any new value makes the operator rotate once. What was handled is noted on the Secret.
ANNOTATION_ROTATE_TOKEN = f"{GROUP}/rotate-token"
ANNOTATION_ROTATE_CERTIFICATE = f"{GROUP}/rotate-certificate"
ANNOTATION_ROTATE_ENGINE_KEY = f"{GROUP}/rotate-engine-key"
ANNOTATION_HANDLED = f"{GROUP}/rotation-handled"
# Annotations we set on pods.
ANNOTATION_ENGINE_KEY = f"{GROUP}/engine-key"
ANNOTATION_TEMPLATE_VERSION = f"{GROUP}/template-version"
# And on the Jobs of gates: from which spec one was made, and the pod it asks.
ANNOTATION_GATE = f"{GROUP}/gate-spec"
ANNOTATION_GATE_ENGINE = f"{GROUP}/gate-engine"

# The NetworkPolicy of all engine pods of a namespace, its Secrets, and the containers of an engine pod.
ENGINE_POLICY = "npc-fleet-engine"
SECRET_INTERNAL = "npc-fleet-internal"  # tls.crt tls.key ca.crt token token-previous
SECRET_ENGINE_KEY = "npc-fleet-engine-key"  # one entry per key id, plus `current`
CONTAINER_ENGINE = "engine"
CONTAINER_AGENT = "agent"
CONTAINER_MODEL = "model"
CONTAINER_GATEWAY = "gateway"
CONTAINER_GATE = "gate"


def routes_secret(region: str) -> str:
    """The Secret with a region's last route table."""
    return f"{region}-routes"


def gate_job(archetype: str, tier: str, digest: str) -> str:
    """The Job that looks at one candidate; at most 56 characters."""
    return f"{archetype}-gate-{hashlib.sha256(f'{tier}/{digest}'.encode()).hexdigest()[:10]}"


def slice_deployment(tier: str, slice_: str) -> str:
    return f"{tier}-{slice_}"


def gateway(region: str) -> str:
    """Deployment, PodDisruptionBudget and, unless overridden, Service of a region's gateway."""
    return f"{region}-gateway"
