"""From the API server's JSON to facts. Tolerant: a field that is missing or newer than this tool is left out, because a
tool for incidents must not fall over what it looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .facts import (
    Adapter,
    Condition,
    Conditions,
    Container,
    Deployment,
    Event,
    Lease,
    Meta,
    Node,
    Pod,
    Region,
    Tier,
    Variant,
    VariantState,
)

Json = Mapping[str, Any]


def _map(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Iterable[Json]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def parse_meta(raw: Json) -> Meta:
    meta = _map(raw.get("metadata"))
    labels = {str(key): str(value) for key, value in _map(meta.get("labels")).items()}
    return Meta(
        name=_text(meta.get("name")),
        namespace=_text(meta.get("namespace")),
        uid=_text(meta.get("uid")),
        generation=_number(meta.get("generation")),
        created=_text(meta.get("creationTimestamp")),
        deleted=_text(meta.get("deletionTimestamp")),
        labels=labels,
    )


def parse_condition(raw: Json) -> Condition:
    return Condition(
        type=_text(raw.get("type")),
        status=_text(raw.get("status")) or "Unknown",
        reason=_text(raw.get("reason")),
        message=_text(raw.get("message")),
        since=_text(raw.get("lastTransitionTime")),
    )


def _conditions(status: Json) -> tuple[Condition, ...]:
    return tuple(parse_condition(one) for one in _list(status.get("conditions")))


def _own_conditions(status: Json) -> Conditions:
    observed = status.get("observedGeneration", -1)
    return Conditions(observed=observed if isinstance(observed, int) else -1, all=_conditions(status))


def parse_region(raw: Json) -> Region:
    spec, status = _map(raw.get("spec")), _map(raw.get("status"))
    auth = _map(_map(spec.get("gateway")).get("auth"))
    labels = _map(_map(spec.get("adapterSelector")).get("matchLabels"))
    return Region(
        meta=parse_meta(raw),
        conditions=_own_conditions(status),
        tiers=tuple(_text(one.get("tier")) for one in _list(spec.get("tiers"))),
        suspend=spec.get("suspend") is True,
        auth_mode=_text(auth.get("mode")) or "ApiKey",
        auth_secret=_text(_map(auth.get("secretRef")).get("name")),
        adapter_labels={str(key): str(value) for key, value in labels.items()},
        population=_number(status.get("population")),
        ready_tiers=_number(status.get("readyTiers")),
        archetypes=_number(status.get("archetypes")),
        gateway_ready=_number(status.get("gatewayReady")),
        gateway_wanted=_number(status.get("gatewayReplicas")),
        endpoint=_text(status.get("endpoint")),
        note=_text(status.get("note")),
    )


def parse_tier(raw: Json) -> Tier:
    spec, status = _map(raw.get("spec")), _map(raw.get("status"))
    return Tier(
        meta=parse_meta(raw),
        conditions=_own_conditions(status),
        quality=_text(spec.get("quality")),
        model_uri=_text(_map(spec.get("model")).get("uri")),
        suspend=spec.get("suspend") is True,
        wanted=_number(status.get("wantedReplicas")),
        ready=_number(status.get("readyReplicas")),
        adapters=_number(status.get("adapters")),
        resident=_number(status.get("residentAdapters")),
        model_progress=_text(status.get("model")),
    )


def parse_adapter(raw: Json) -> Adapter:
    spec, status = _map(raw.get("spec")), _map(raw.get("status"))
    return Adapter(
        meta=parse_meta(raw),
        conditions=_own_conditions(status),
        archetype=_text(spec.get("archetype")),
        importance=_text(spec.get("importance")) or "Normal",
        suspend=spec.get("suspend") is True,
        digest=_text(status.get("digest")),
        ready_variants=_text(status.get("readyVariants")),
        variants=tuple(_variant(one) for one in _list(spec.get("variants"))),
        states=tuple(_state(one) for one in _list(status.get("variants"))),
    )


def _variant(raw: Json) -> Variant:
    source = _map(raw.get("source"))
    return Variant(
        tier=_text(raw.get("tier")),
        digest=_text(source.get("digest")),
        uri=_text(source.get("uri")),
        rank=_number(raw.get("rank")),
        secret=_text(_map(source.get("secretRef")).get("name")),
    )


def _state(raw: Json) -> VariantState:
    return VariantState(
        tier=_text(raw.get("tier")),
        stable=_text(_map(raw.get("stable")).get("digest")),
        candidate=_text(_map(raw.get("candidate")).get("digest")),
        candidate_since=_text(raw.get("candidateSince")),
        percent=_number(raw.get("percent")),
        resident=_number(raw.get("residentReplicas")),
        wanted=_number(raw.get("wantedReplicas")),
        reason=_text(raw.get("reason")),
        message=_text(raw.get("message")),
    )


def parse_pod(raw: Json) -> Pod:
    spec, status = _map(raw.get("spec")), _map(raw.get("status"))
    return Pod(
        meta=parse_meta(raw),
        phase=_text(status.get("phase")) or "Pending",
        reason=_text(status.get("reason")),
        message=_text(status.get("message")),
        node=_text(spec.get("nodeName")),
        conditions=_conditions(status),
        containers=(
            *(_container(one, init=True) for one in _list(status.get("initContainerStatuses"))),
            *(_container(one, init=False) for one in _list(status.get("containerStatuses"))),
        ),
        grace_seconds=_number(_map(raw.get("metadata")).get("deletionGracePeriodSeconds"))
        or _number(spec.get("terminationGracePeriodSeconds"))
        or 30,
    )


def _container(raw: Json, *, init: bool) -> Container:
    state = _map(raw.get("state"))
    waiting, running = _map(state.get("waiting")), _map(state.get("running"))
    ended = _map(state.get("terminated")) or _map(_map(raw.get("lastState")).get("terminated"))
    code = ended.get("exitCode")
    return Container(
        name=_text(raw.get("name")),
        init=init,
        ready=raw.get("ready") is True,
        running_since=_text(running.get("startedAt")),
        restarts=_number(raw.get("restartCount")),
        waiting=_text(waiting.get("reason")),
        waiting_message=_text(waiting.get("message")),
        ended=_text(ended.get("reason")),
        exit_code=code if isinstance(code, int) else None,
        ended_at=_text(ended.get("finishedAt")),
    )


def parse_deployment(raw: Json) -> Deployment:
    return Deployment(
        meta=parse_meta(raw),
        wanted=_number(_map(raw.get("spec")).get("replicas")),
        conditions=_conditions(_map(raw.get("status"))),
    )


def parse_node(raw: Json) -> Node:
    spec = _map(raw.get("spec"))
    ready = next((one for one in _conditions(_map(raw.get("status"))) if one.type == "Ready"), None)
    return Node(
        meta=parse_meta(raw),
        ready=ready is not None and ready.status == "True",
        since=ready.since if ready is not None else "",
        message=ready.message if ready is not None else "",
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(_text(one.get("key")) for one in _list(spec.get("taints"))),
    )


def parse_event(raw: Json) -> Event:
    """An Event of the core API, which shows those of events.k8s.io too."""
    about, series = _map(raw.get("involvedObject")), _map(raw.get("series"))
    last = (
        _text(series.get("lastObservedTime"))
        or _text(raw.get("lastTimestamp"))
        or _text(raw.get("eventTime"))
        or _text(_map(raw.get("metadata")).get("creationTimestamp"))
    )
    return Event(
        kind=_text(about.get("kind")),
        name=_text(about.get("name")),
        type=_text(raw.get("type")),
        reason=_text(raw.get("reason")),
        message=_text(raw.get("message")).strip(),
        last=last,
        count=_number(series.get("count")) or _number(raw.get("count")) or 1,
    )


def parse_lease(raw: Json) -> Lease:
    spec = _map(raw.get("spec"))
    return Lease(
        namespace=parse_meta(raw).namespace,
        holder=_text(spec.get("holderIdentity")),
        renewed=_text(spec.get("renewTime")),
        seconds=_number(spec.get("leaseDurationSeconds")),
    )
