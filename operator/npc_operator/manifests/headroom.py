"""Room for more engine pods, kept free on ready nodes: a CapacityBuffer, or pods that give way to every other.

A CapacityBuffer (autoscaling.x-k8s.io, honoured by the Cluster Autoscaler, by Karpenter with its feature gate, and by
GKE) takes the size of a pod from the slice's own Deployment. Where the cluster does not know that kind, a Deployment of
as many sleeping pods asks for what an engine pod asks for, with a priority below all others.
"""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.engine_pod import build_pod_template
from npc_operator.manifests.labels import common_labels, controller_reference
from npc_operator.manifests.pod_layout import EngineInputs
from npc_operator.manifests.pod_security import container_security_context

BUFFER_API_VERSION = "autoscaling.x-k8s.io/v1beta1"
BUFFER_KIND = "CapacityBuffer"
STRATEGY = "buffer.x-k8s.io/active-capacity"
"""The one that every implementation has: nodes are there, running."""
SLEEP = ["python3", "-c", "import signal; signal.pause()"]
PLACE = ("affinity", "tolerations", "nodeSelector", "runtimeClassName", "imagePullSecrets", "securityContext")
"""What decides where an engine pod fits: a placeholder must stand where it could."""


def pick_headroom_slice(spec: GpuTierSpec) -> str:
    """Which slice grows when the tier does: spot, unless everything is on-demand."""
    capacity = spec.capacity
    all_on_demand = capacity.on_demand_percentage_above_base == 100 or capacity.on_demand_base >= spec.max_replicas
    return names.SLICE_ON_DEMAND if all_on_demand else names.SLICE_SPOT


def build_capacity_buffer(meta: ObjectMeta, spec: GpuTierSpec, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": BUFFER_API_VERSION,
        "kind": BUFFER_KIND,
        "metadata": _metadata(meta),
        "spec": {
            "provisioningStrategy": STRATEGY,
            "scalableRef": {
                "apiGroup": "apps",
                "kind": "Deployment",
                "name": names.slice_deployment(meta.name, pick_headroom_slice(spec)),
            },
            "replicas": replicas,
        },
    }


def build_placeholder(inputs: EngineInputs, replicas: int) -> dict[str, Any]:
    """The Deployment of pods that give way. Its pods lack the label that would make them pods of ours to watch."""
    meta = inputs.meta
    engine: Any = build_pod_template(inputs)["spec"]
    labels = {names.LABEL_COMPONENT: names.COMPONENT_HEADROOM, names.LABEL_TIER: meta.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(meta),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            # Others take the same room: for one more than are wanted an autoscaler would bring a node.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **{field: engine[field] for field in PLACE if field in engine},
                    "priorityClassName": names.HEADROOM_PRIORITY_CLASS,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    # The room is for somebody who waits for it.
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {
                            "name": names.CONTAINER_HEADROOM,
                            "image": inputs.agent_image,
                            **({"imagePullPolicy": inputs.pull_policy} if inputs.pull_policy else {}),
                            "command": SLEEP,
                            "resources": _asks(engine),
                            "securityContext": container_security_context(),
                        }
                    ],
                },
            },
        },
    }


def _asks(engine: dict[str, Any]) -> dict[str, Any]:
    """What the engine container asks for; of the rest of an engine pod, little enough to be left out."""
    resources: dict[str, Any] = engine["containers"][0].get("resources") or {}
    return resources


def _metadata(meta: ObjectMeta) -> dict[str, Any]:
    return {
        "name": names.headroom(meta.name),
        "namespace": meta.namespace,
        "labels": {
            **common_labels(component=names.COMPONENT_HEADROOM, instance=meta.name),
            names.LABEL_TIER: meta.name,
        },
        "ownerReferences": [controller_reference(names.KIND_TIER, meta)],
    }
