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
MANAGER_OUTSIDE = "npc-operator-outside"
MANAGER_INTERRUPTIONS = "npc-operator-interruptions"

# There while something outside of the namespace may have to be undone, and where that may be.
FINALIZER_NODE_POOLS = f"{GROUP}/node-pools"
ANNOTATION_NODE_POOLS = f"{GROUP}/node-pools"

# Labels on children (beside app.kubernetes.io/*).
LABEL_REGION = f"{GROUP}/region"
LABEL_TIER = f"{GROUP}/tier"
LABEL_SLICE = f"{GROUP}/slice"
LABEL_QUALITY = f"{GROUP}/quality"
LABEL_ADAPTER = f"{GROUP}/adapter"
# On NodePools and AutoScaling groups, which lie in no namespace and have no owner.
LABEL_NAMESPACE = f"{GROUP}/namespace"
LABEL_TIER_UID = f"{GROUP}/tier-uid"
LABEL_CLUSTER = f"{GROUP}/cluster"
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
COMPONENT_HEADROOM = "headroom"

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
# How far a pod's interruption has come (domain/interruption/record.py), only while something is said of its node.
ANNOTATION_INTERRUPTION = f"{GROUP}/interruption"
# Kubernetes' own: of several pods that could go, a Deployment that is made smaller takes those that cost least.
ANNOTATION_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
DELETION_COST_GOING = "-1000"
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
CONTAINER_HEADROOM = "headroom"
# Pods of this class give way to every other; the npc-operator chart makes it with nodePools.enabled.
HEADROOM_PRIORITY_CLASS = "npc-headroom"


def routes_secret(region: str) -> str:
    """The Secret with a region's last route table."""
    return f"{region}-routes"


def gate_job(archetype: str, tier: str, digest: str) -> str:
    """The Job that looks at one candidate; at most 56 characters."""
    return f"{archetype}-gate-{hashlib.sha256(f'{tier}/{digest}'.encode()).hexdigest()[:10]}"


def slice_deployment(tier: str, slice_: str) -> str:
    return f"{tier}-{slice_}"


def headroom(tier: str) -> str:
    """What keeps room for more engine pods of a tier: a CapacityBuffer or a Deployment."""
    return f"{tier}-headroom"


def node_pool(namespace: str, tier: str, slice_: str) -> str:
    """The NodePool of one slice; its name is a label's value on nodes, and of all namespaces no two may meet."""
    hashed = hashlib.sha256(f"{namespace}/{tier}/{slice_}".encode()).hexdigest()[:8]
    return f"{f'{namespace}-{tier}-{slice_}'[:54].rstrip('-')}-{hashed}"


def auto_scaling_group(cluster: str, namespace: str, tier: str, slice_: str) -> str:
    """The AutoScaling group of one slice: of all clusters and namespaces of an account no two may meet."""
    hashed = hashlib.sha256(f"{cluster}/{namespace}/{tier}/{slice_}".encode()).hexdigest()[:8]
    return f"npc-{cluster}-{namespace}-{tier}-{slice_}-{hashed}"


def gateway(region: str) -> str:
    """Deployment, PodDisruptionBudget and, unless overridden, Service of a region's gateway."""
    return f"{region}-gateway"
