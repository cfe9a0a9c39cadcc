"""One slice of a tier: a Deployment, and the note on it that lets an upgrade of the operator leave running engines
alone.

The note says from which input the template was made and what the operator itself contributed (its images). As long as
the tier's own input is the same, the operator's part stays what it was; it is renewed together with the tier's next
change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from npc_operator.api import names
from npc_operator.api.capacitytype import PRESETS, USUAL
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.manifests.engine_pod import TEMPLATE_VERSION, build_pod_template, progress_deadline
from npc_operator.manifests.labels import controller_reference, engine_labels, engine_selector
from npc_operator.manifests.pod_layout import EngineInputs

TEMPLATE_FIELDS = frozenset(
    {
        "quality",
        "model",
        "model_volume",
        "engine",
        "agent",
        "accelerator",
        "capacity_type_label",
        "scheduling",
        "service_account_name",
        "image_pull_secrets",
        "pod_labels",
        "pod_annotations",
    }
)
"""The parts of a GpuTier's spec that its pods are made of; all others change no pod."""


@dataclass(frozen=True, slots=True)
class TemplateNote:
    """What a live template was made of."""

    version: int
    inputs: str
    agent_image: str
    engine_image: str
    pull_policy: str

    def to_text(self) -> str:
        fields = {
            "version": self.version,
            "inputs": self.inputs,
            "agentImage": self.agent_image,
            "engineImage": self.engine_image,
            "pullPolicy": self.pull_policy,
        }
        return json.dumps(fields, separators=(",", ":"), sort_keys=True)


def parse_note(text: str) -> TemplateNote | None:
    """The note of a live Deployment, or None if it has none that can be read."""
    try:
        fields = json.loads(text)
        return TemplateNote(
            version=int(fields["version"]),
            inputs=str(fields["inputs"]),
            agent_image=str(fields["agentImage"]),
            engine_image=str(fields["engineImage"]),
            pull_policy=str(fields["pullPolicy"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def hash_inputs(inputs: EngineInputs) -> str:
    """A digest of what the tier itself contributes. Defaults are left out, so that fields of a later version do not
    change it.
    """
    fields = inputs.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=set(TEMPLATE_FIELDS))
    fields |= _label_fields(fields.pop("capacityTypeLabel", None), inputs.spec)
    if inputs.spec.interruption.agent_metadata != "Off":
        # Not the whole of `interruption`: which queue the operator reads is nothing to the pods.
        fields["agentMetadata"] = inputs.spec.interruption.agent_metadata
    text = json.dumps([inputs.meta.name, inputs.slice_, inputs.engine_key_id, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _label_fields(given: Any, spec: GpuTierSpec) -> dict[str, Any]:
    """The label that is meant, however it was named: naming it by its preset replaces no pod."""
    usual, label = PRESETS[USUAL], spec.capacity_type_label.label()
    if given is None or label == usual:
        return {}
    named = {"key": label.key, "spotValue": label.spot_value, "onDemandValue": label.on_demand_value}
    return {"capacityTypeLabel": {key: value for key, value in named.items() if value is not None}}


def read_note(live: Mapping[str, Any] | None) -> TemplateNote | None:
    """The note of a live Deployment."""
    annotations = ((live or {}).get("metadata") or {}).get("annotations") or {}
    return parse_note(annotations.get(names.ANNOTATION_TEMPLATE_VERSION, ""))


def was_built_otherwise(inputs: EngineInputs, live: Mapping[str, Any] | None) -> bool:
    """Whether the live template came from the same input by another version of the builder: its pods run on as they
    are until the tier changes."""
    note = read_note(live)
    return note is not None and note.inputs == hash_inputs(inputs) and note.version != TEMPLATE_VERSION


def keep_template(manifest: dict[str, Any], template: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the live Deployment's own `template` and note instead of what would be built now."""
    annotations = {
        names.ANNOTATION_TEMPLATE_VERSION: live["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_VERSION]
    }
    return {
        **manifest,
        "metadata": {**manifest["metadata"], "annotations": annotations},
        "spec": {**manifest["spec"], "template": dict(template)},
    }


def build_deployment(inputs: EngineInputs, *, replicas: int, live: Mapping[str, Any] | None) -> dict[str, Any]:
    """The Deployment of one slice. `live` is the present one, whose template's operator part is kept while the tier's
    input is the same.
    """
    hashed = hash_inputs(inputs)
    note = read_note(live)
    if note is not None and note.inputs == hashed and note.version == TEMPLATE_VERSION:
        inputs = replace(
            inputs, agent_image=note.agent_image, engine_image=note.engine_image, pull_policy=note.pull_policy
        )
    template: Any = build_pod_template(inputs)
    written = TemplateNote(TEMPLATE_VERSION, hashed, inputs.agent_image, inputs.engine_image, inputs.pull_policy)
    spec, meta = inputs.spec, inputs.meta
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.slice_deployment(meta.name, inputs.slice_),
            "namespace": meta.namespace,
            "labels": engine_labels(tier=meta.name, quality=spec.quality.lower(), slice_=inputs.slice_),
            "annotations": {names.ANNOTATION_TEMPLATE_VERSION: written.to_text()},
            "ownerReferences": [controller_reference(names.KIND_TIER, meta)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": engine_selector(tier=meta.name, slice_=inputs.slice_)},
            "progressDeadlineSeconds": progress_deadline(spec),
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": spec.update_strategy.max_surge,
                    "maxUnavailable": spec.update_strategy.max_unavailable,
                },
            },
            "template": template,
        },
    }
