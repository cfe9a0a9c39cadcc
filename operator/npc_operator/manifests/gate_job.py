"""The Job that runs the user's own test of a candidate: one container of theirs, told what to ask and where.

It is created once and never changed (a Job's template cannot be), passes Pod Security "restricted", and has no rights
in Kubernetes. It gets the engine's key, because that is what guards the engine, and their NetworkPolicy lets it in.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta, SecretRef
from npc_operator.api.rollouts import Gate
from npc_operator.manifests.labels import common_labels, controller_reference
from npc_operator.manifests.placement import build_pull_secrets
from npc_operator.manifests.pod_parts import build_mount, build_resources
from npc_operator.manifests.pod_security import container_security_context, pod_security_context

KEPT_SECONDS = 3600
"""How long a gate that ended stays to be looked at (kubectl logs); it goes earlier with its candidate."""
GRACE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Everything a gate is made of."""

    meta: ObjectMeta
    """Of the ArchetypeAdapter."""
    gate: Gate
    archetype: str
    tier: str
    digest: str
    served_name: str
    engine_uid: str
    """The pod whose engine is asked."""
    engine_address: str
    engine_port: int
    engine_key_id: str
    pull_secrets: tuple[SecretRef, ...] = ()


def hash_gate(gate: Gate) -> str:
    """Tells whether a Job was made from the present spec."""
    text = json.dumps(gate.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_labels(archetype: str, adapter: str) -> dict[str, str]:
    """Labels of a gate's Job and pod."""
    return {**common_labels(component=names.COMPONENT_GATE, instance=archetype), names.LABEL_ADAPTER: adapter}


def build_gate_job(inputs: GateInputs) -> dict[str, Any]:
    gate, meta = inputs.gate, inputs.meta
    name = names.gate_job(inputs.archetype, inputs.tier, inputs.digest)
    labels = gate_labels(inputs.archetype, meta.name)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security_context(),
        "containers": [_container(inputs)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        **build_pull_secrets(inputs.pull_secrets),
    }
    if gate.service_account_name:
        pod["serviceAccountName"] = gate.service_account_name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": labels,
            "annotations": {
                names.ANNOTATION_GATE: hash_gate(gate),
                names.ANNOTATION_GATE_ENGINE: inputs.engine_uid,
            },
            "ownerReferences": [controller_reference(names.KIND_ADAPTER, meta)],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": gate.timeout_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            # A node that goes away says nothing about the candidate.
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _container(inputs: GateInputs) -> dict[str, Any]:
    gate = inputs.gate
    host = f"[{inputs.engine_address}]" if ":" in inputs.engine_address else inputs.engine_address
    ours = {
        "NPC_GATE_URL": f"http://{host}:{inputs.engine_port}",
        "NPC_GATE_MODEL": inputs.served_name,
        "NPC_GATE_ARCHETYPE": inputs.archetype,
        "NPC_GATE_TIER": inputs.tier,
        "NPC_GATE_DIGEST": inputs.digest,
    }
    container: dict[str, Any] = {
        "name": names.CONTAINER_GATE,
        "image": gate.image,
        "env": [
            *({"name": name, "value": value} for name, value in ours.items()),
            {
                "name": "NPC_GATE_KEY",
                "valueFrom": {"secretKeyRef": {"name": names.SECRET_ENGINE_KEY, "key": inputs.engine_key_id}},
            },
            *({"name": one.name, "value": one.value} if one.value else {"name": one.name} for one in gate.env),
        ],
        "resources": build_resources(gate.resources),
        "securityContext": container_security_context(),
        "terminationMessagePolicy": "File",
        "volumeMounts": [build_mount("tmp", "/tmp")],  # noqa: S108 - an emptyDir of the pod
    }
    if gate.command:
        container["command"] = list(gate.command)
    if gate.args:
        container["args"] = list(gate.args)
    return container
