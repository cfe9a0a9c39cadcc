"""The pod of an engine: the agent as a native sidecar, where needed an init container for the model, and vLLM.

The pod passes Pod Security "restricted". What appears in the template makes pods roll when it changes, so nothing is in
it that may change without a reason of the tier's own: no region name, no adapter, no number of replicas.
"""

from __future__ import annotations

from typing import Any

from npc_operator.api import names
from npc_operator.api.gputier import GpuTierSpec, ModelVolume, Volume
from npc_operator.manifests.agent_containers import build_agent_container, build_model_container
from npc_operator.manifests.engine_container import build_engine_container
from npc_operator.manifests.labels import engine_labels, engine_selector
from npc_operator.manifests.placement import build_placement, build_pull_secrets
from npc_operator.manifests.pod_layout import (
    READY_TIMEOUT_SECONDS,
    V_ADAPTERS,
    V_CACHE,
    V_CREDENTIALS,
    V_INTERNAL,
    V_KEY,
    V_MODEL,
    V_RUN,
    V_SHM,
    V_TMP,
    EngineInputs,
    needs_fetch,
)
from npc_operator.manifests.pod_security import pod_security_context
from npc_operator.manifests.quantities import quantity_bytes

TEMPLATE_VERSION = 2
"""Raised whenever this builder makes another template from the same input, so that an upgrade can tell and leave
running pods alone.
"""

DRAIN_MARGIN_SECONDS = 10
"""Beyond draining and shutting down, before kubelet kills (DESIGN 4.5)."""
MODEL_FETCH_SECONDS = 3600
"""Added to the progress deadline where an init container fetches the model: 100 GB at 30 MB/s."""


def grace_seconds(spec: GpuTierSpec) -> int:
    return spec.engine.drain_seconds + spec.engine.shutdown_seconds + DRAIN_MARGIN_SECONDS


def progress_deadline(spec: GpuTierSpec) -> int:
    """Longer than a pod may honestly take to become ready."""
    fetch = MODEL_FETCH_SECONDS if needs_fetch(spec.model.uri) else 0
    return spec.engine.startup_seconds + READY_TIMEOUT_SECONDS + fetch + 120


def build_pod_template(inputs: EngineInputs) -> dict[str, Any]:
    """The template of one slice's Deployment."""
    spec, meta = inputs.spec, inputs.meta
    init = [build_agent_container(inputs)]
    if needs_fetch(spec.model.uri):
        init.append(build_model_container(inputs))
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        # A Service called `vllm` would otherwise set VLLM_* variables that the engine reads as settings.
        "enableServiceLinks": False,
        "securityContext": pod_security_context(),
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "initContainers": init,
        "containers": [build_engine_container(inputs)],
        "volumes": _volumes(inputs),
        "affinity": {"nodeAffinity": _node_affinity(spec, inputs.slice_)},
        "topologySpreadConstraints": [
            {
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": engine_selector(tier=meta.name)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }
    pod |= build_placement(spec.scheduling, _own_tolerations(spec, inputs.slice_))
    if spec.service_account_name:
        pod["serviceAccountName"] = spec.service_account_name
    pod |= build_pull_secrets(spec.image_pull_secrets)
    return {
        "metadata": {
            "labels": {
                **spec.pod_labels,
                **engine_labels(tier=meta.name, quality=spec.quality.lower(), slice_=inputs.slice_),
            },
            "annotations": {**spec.pod_annotations, names.ANNOTATION_ENGINE_KEY: inputs.engine_key_id},
        },
        "spec": pod,
    }


def _volumes(inputs: EngineInputs) -> list[dict[str, Any]]:
    spec = inputs.spec
    cache = quantity_bytes(spec.agent.cache_size)
    volumes: list[dict[str, Any]] = [
        # A quarter more than the cache's limit: what is being fetched lies beside what it replaces.
        {"name": V_ADAPTERS, "emptyDir": {"sizeLimit": str(cache + cache // 4)}},
        {"name": V_RUN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": V_INTERNAL, "secret": {"secretName": names.SECRET_INTERNAL, "defaultMode": 0o440}},
        {
            "name": V_KEY,
            "secret": {
                "secretName": names.SECRET_ENGINE_KEY,
                "defaultMode": 0o440,
                "items": [{"key": inputs.engine_key_id, "path": "key"}],
            },
        },
        {"name": V_CACHE, "emptyDir": {}},
        {"name": V_TMP, "emptyDir": {}},
        {"name": V_SHM, "emptyDir": {"medium": "Memory"}},
    ]
    volumes.append({"name": V_MODEL, **_model_source(spec.model_volume)})
    if needs_fetch(spec.model.uri) and spec.model.secret_ref is not None:
        volumes.append(
            {"name": V_CREDENTIALS, "secret": {"secretName": spec.model.secret_ref.name, "defaultMode": 0o440}}
        )
    return [*volumes, *(_user_volume(volume) for volume in spec.engine.volumes)]


def _model_source(volume: ModelVolume) -> dict[str, Any]:
    if volume.claim_name is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim_name}}
    return {"emptyDir": {"sizeLimit": volume.size_limit} if volume.size_limit is not None else {}}


def _node_affinity(spec: GpuTierSpec, slice_: str) -> dict[str, Any]:
    """On-demand pods avoid spot nodes (unlabelled nodes count as on-demand), spot pods insist on them."""
    label = spec.capacity_type_label.label()
    if slice_ == names.SLICE_SPOT:
        expression = {"key": label.key, "operator": "In", "values": [label.spot_value]}
    elif label.on_demand_value is not None:
        expression = {"key": label.key, "operator": "In", "values": [label.on_demand_value]}
    else:
        expression = {"key": label.key, "operator": "NotIn", "values": [label.spot_value]}
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }


def pod_tolerations(spec: GpuTierSpec, slice_: str) -> list[dict[str, Any]]:
    """The taints that new pods of a slice tolerate."""
    return list(build_placement(spec.scheduling, _own_tolerations(spec, slice_)).get("tolerations", ()))


def _own_tolerations(spec: GpuTierSpec, slice_: str) -> list[dict[str, Any]]:
    """The accelerator's own taint, and on the spot slice the capacity type's."""
    tolerations: list[dict[str, Any]] = []
    if spec.accelerator.per_replica:
        tolerations.append({"key": spec.accelerator.resource_name, "operator": "Exists", "effect": "NoSchedule"})
    if slice_ == names.SLICE_SPOT:
        label = spec.capacity_type_label.label()
        tolerations.append({"key": label.key, "operator": "Equal", "value": label.spot_value, "effect": "NoSchedule"})
    return tolerations


def _user_volume(volume: Volume) -> dict[str, Any]:
    built: dict[str, Any] = {"name": volume.name}
    if volume.persistent_volume_claim is not None:
        claim: dict[str, Any] = {"claimName": volume.persistent_volume_claim.claim_name}
        if volume.persistent_volume_claim.read_only:
            claim["readOnly"] = True
        built["persistentVolumeClaim"] = claim
    elif volume.config_map is not None:
        built["configMap"] = {"name": volume.config_map.name}
    elif volume.secret is not None:
        built["secret"] = {"secretName": volume.secret.secret_name}
    else:
        scratch: dict[str, Any] = {}
        if volume.empty_dir is not None and volume.empty_dir.medium:
            scratch["medium"] = volume.empty_dir.medium
        if volume.empty_dir is not None and volume.empty_dir.size_limit:
            scratch["sizeLimit"] = volume.empty_dir.size_limit
        built["emptyDir"] = scratch
    return built
