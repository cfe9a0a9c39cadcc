"""From objects as the API server sends them to facts: parsed once here, trusted everywhere else.

Strips at the door what no decision needs (other managers' fields, the copy kubectl keeps in an annotation). An object
of ours that cannot be understood becomes Unreadable: that is a finding about that object, never a fault of the
operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from npc_operator.api import names
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec, ArchetypeAdapterStatus
from npc_operator.api.engineargs import MAX_NUM_SEQS, SCHEDULING_POLICY, find_value
from npc_operator.api.gputier import GpuTierSpec, GpuTierStatus
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.npcregion import NPCRegionSpec, NPCRegionStatus
from npc_operator.domain.facts import Adapter, Child, ContainerFact, NodeFact, Pod, Region, Tier, Unreadable
from npc_operator.domain.interruption.record import MAX_RECORD
from npc_operator.domain.interruption.sources.node import read_node
from npc_operator.edge.managers import find_managers
from npc_operator.edge.salvage import salvage
from npc_operator.loop.slim import share
from npc_operator.loop.store import Store
from npc_operator.manifests.engine_container import PRIORITY

KUBECTL_COPY = "kubectl.kubernetes.io/last-applied-configuration"
_ERROR_CHARACTERS = 500

_MODELS: dict[str, tuple[Any, Any, Any]] = {
    names.KIND_REGION: (Region, NPCRegionSpec, NPCRegionStatus),
    names.KIND_TIER: (Tier, GpuTierSpec, GpuTierStatus),
    names.KIND_ADAPTER: (Adapter, ArchetypeAdapterSpec, ArchetypeAdapterStatus),
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """One object understood: where its fact goes in the store, and its version."""

    kind: type[Any]
    namespace: str
    name: str
    version: int
    fact: Any


def identify(kind: str, manifest: Mapping[str, Any]) -> Parsed:
    """Where the object's fact would be, without parsing it; `fact` is None."""
    meta = manifest["metadata"]
    version = int(meta.get("resourceVersion") or 0)
    if kind in _MODELS:
        return Parsed(_MODELS[kind][0], meta["namespace"], meta["name"], version, None)
    if kind == "Pod":
        return Parsed(Pod, meta["namespace"], meta["name"], version, None)
    if kind == "Node":
        return Parsed(NodeFact, "", meta["name"], version, None)
    return Parsed(Child, meta["namespace"], f"{kind}/{meta['name']}", version, None)


def parse(api_version: str, kind: str, manifest: Mapping[str, Any]) -> Parsed:
    """The object as a fact; Unreadable where it should have been one of ours and is not."""
    at = identify(kind, manifest)
    if kind in _MODELS:
        fact: Any = _parse_custom(kind, manifest)
    elif kind == "Pod":
        fact = parse_pod(manifest)
    elif kind == "Node":
        fact = read_node(manifest)
    else:
        fact = parse_child(api_version, kind, manifest)
    return Parsed(at.kind, at.namespace, at.name, at.version, fact)


def learn(store: Store, parsed: Parsed) -> None:
    """Put what was parsed where it belongs. What was last understood of an object stays when it becomes unreadable; of
    one that never was understood, what can be made out of it counts."""
    if isinstance(parsed.fact, Unreadable):
        name = f"{parsed.fact.kind}/{parsed.name}"
        store.put(Unreadable, parsed.namespace, name, parsed.fact, version=parsed.version)
        if parsed.fact.rest is not None and store.get(parsed.kind, parsed.namespace, parsed.name) is None:
            store.put(parsed.kind, parsed.namespace, parsed.name, parsed.fact.rest, version=parsed.version)
        return
    if parsed.kind in _KINDS:
        store.drop(Unreadable, parsed.namespace, f"{_KINDS[parsed.kind]}/{parsed.name}", version=parsed.version)
    store.put(parsed.kind, parsed.namespace, parsed.name, parsed.fact, version=parsed.version)


def unlearn(store: Store, at: Parsed) -> None:
    """The object is gone."""
    if at.kind in _KINDS:
        store.drop(Unreadable, at.namespace, f"{_KINDS[at.kind]}/{at.name}", version=at.version)
    store.drop(at.kind, at.namespace, at.name, version=at.version)


def known_version(store: Store, at: Parsed) -> int:
    """The newest version of the object that the store has heard of, understood or not."""
    versions = [store.version(at.kind, at.namespace, at.name) or 0]
    if at.kind in _KINDS:
        versions.append(store.version(Unreadable, at.namespace, f"{_KINDS[at.kind]}/{at.name}") or 0)
    return max(versions)


_KINDS: dict[type[Any], str] = {fact: kind for kind, (fact, _, _) in _MODELS.items()}


def _parse_custom(kind: str, manifest: Mapping[str, Any]) -> Region | Tier | Adapter | Unreadable:
    fact, spec, status = _MODELS[kind]
    meta = _meta(manifest["metadata"])
    more = {"changed_by": find_managers(manifest["metadata"])} if kind == names.KIND_ADAPTER else {}
    try:
        parsed: Region | Tier | Adapter = fact(
            meta=meta,
            spec=share(spec.model_validate(manifest.get("spec") or {})),
            status=share(status.model_validate(manifest.get("status") or {})),
            **more,
        )
    except ValidationError as error:
        return Unreadable(meta=meta, kind=kind, error=_explain(error), rest=_salvage(kind, meta, manifest))
    return parsed


def _salvage(kind: str, meta: ObjectMeta, manifest: Mapping[str, Any]) -> Region | Tier | Adapter | None:
    fact, spec, status = _MODELS[kind]
    wanted = salvage(spec, {**(manifest.get("spec") or {}), "suspend": True})
    seen = salvage(status, manifest.get("status") or {})
    if wanted is None or seen is None:
        return None
    salvaged: Region | Tier | Adapter = fact(meta=meta, spec=share(wanted), status=share(seen))
    return salvaged


def _explain(error: ValidationError) -> str:
    """Which fields, and why; without their values, which may be anything."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(faults)[:_ERROR_CHARACTERS]


def _meta(meta: Mapping[str, Any]) -> ObjectMeta:
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != KUBECTL_COPY}
    return share(
        ObjectMeta(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            generation=meta.get("generation") or 0,
            resource_version=meta.get("resourceVersion") or "",
            creation_timestamp=meta.get("creationTimestamp") or "",
            deletion_timestamp=meta.get("deletionTimestamp"),
            annotations=annotations,
            labels=meta.get("labels") or {},
            finalizers=meta.get("finalizers") or (),
        )
    )


def parse_pod(manifest: Mapping[str, Any]) -> Pod:
    """A pod of ours; what kubelet and scheduler have not said yet is empty."""
    meta, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    reports = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        component=labels.get(names.LABEL_COMPONENT, ""),
        tier=labels.get(names.LABEL_TIER, ""),
        slice=labels.get(names.LABEL_SLICE, ""),
        region=labels.get(names.LABEL_REGION, ""),
        adapter=labels.get(names.LABEL_ADAPTER, ""),
        gate=_controller_uid(meta) if labels.get(names.LABEL_COMPONENT) == names.COMPONENT_GATE else "",
        node=spec.get("nodeName") or "",
        ip=status.get("podIP") or "",
        phase=status.get("phase") or "",
        ready=conditions.get("Ready", {}).get("status") == "True",
        deleting=meta.get("deletionTimestamp") is not None,
        ends=meta.get("deletionTimestamp") or "",
        created=meta.get("creationTimestamp") or "",
        engine_key_id=annotations.get(names.ANNOTATION_ENGINE_KEY, ""),
        **_parse_engine(spec),
        template_hash=labels.get("pod-template-hash", ""),
        unschedulable=(scheduled.get("message") or "Unschedulable") if unschedulable else "",
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        # What is longer is not ours, and is as good as anything that cannot be read.
        interruption=annotations.get(names.ANNOTATION_INTERRUPTION, "")[: MAX_RECORD + 1],
        containers=tuple(_parse_container(report) for report in reports),
    )


def _controller_uid(meta: Mapping[str, Any]) -> str:
    references = meta.get("ownerReferences") or ()
    return next((reference.get("uid") or "" for reference in references if reference.get("controller")), "")


def _parse_engine(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine's own command line says it can do."""
    engine: Mapping[str, Any] = next(
        (one for one in spec.get("containers") or () if one.get("name") == names.CONTAINER_ENGINE), {}
    )
    args = engine.get("args") or ()
    slots = find_value(args, MAX_NUM_SEQS) or ""
    return {
        "prioritised": find_value(args, SCHEDULING_POLICY) == PRIORITY,
        "slots": int(slots) if slots.isdecimal() else 0,
    }


def _parse_container(report: Mapping[str, Any]) -> ContainerFact:
    state, last = report.get("state") or {}, report.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return ContainerFact(
        name=report["name"],
        ready=bool(report.get("ready")),
        started=bool(report.get("started")),
        restarts=report.get("restartCount") or 0,
        waiting_reason=waiting.get("reason") or "",
        waiting_message=(waiting.get("message") or "")[:_ERROR_CHARACTERS],
        terminated_reason=ended.get("reason") or "",
        exit_code=ended.get("exitCode"),
        termination_message=(ended.get("message") or "") if report["name"] == names.CONTAINER_GATE else "",
    )


def parse_child(api_version: str, kind: str, manifest: Mapping[str, Any]) -> Child:
    """An object we applied, with the managed fields of nobody but us."""
    meta = dict(manifest["metadata"])
    ours = [entry for entry in meta.get("managedFields") or () if entry.get("manager") == names.MANAGER_CHILDREN]
    meta["managedFields"] = ours
    body = {key: value for key, value in manifest.items() if key not in ("status", "metadata", "apiVersion", "kind")}
    return Child(
        api_version=api_version,
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        manifest={"apiVersion": api_version, "kind": kind, "metadata": meta, **body},
        status=manifest.get("status") or {},
    )
