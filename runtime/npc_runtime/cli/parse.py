"""From the API server's JSON to facts. Tolerant: a field that is missing or newer than this tool is left out, because a
tool for incidents must not fall over what it looks at.
"""

from __future__ import annotations

from .conditions import Condition, Conditions, Meta
from .facts import (
    Capacity,
    Container,
    Deployment,
    Event,
    Interruption,
    Lease,
    Node,
    Pod,
    Region,
    Tier,
)
from .plain import Json, entries, mapping, number, text, texts


def parse_meta(raw: Json) -> Meta:
    meta = mapping(raw.get("metadata"))
    labels = {str(key): str(value) for key, value in mapping(meta.get("labels")).items()}
    return Meta(
        name=text(meta.get("name")),
        namespace=text(meta.get("namespace")),
        uid=text(meta.get("uid")),
        generation=number(meta.get("generation")),
        created=text(meta.get("creationTimestamp")),
        deleted=text(meta.get("deletionTimestamp")),
        labels=labels,
    )


def parse_condition(raw: Json) -> Condition:
    return Condition(
        type=text(raw.get("type")),
        status=text(raw.get("status")) or "Unknown",
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
        since=text(raw.get("lastTransitionTime")),
    )


def _conditions(status: Json) -> tuple[Condition, ...]:
    return tuple(parse_condition(one) for one in entries(status.get("conditions")))


def own_conditions(status: Json) -> Conditions:
    """The conditions of one of our kinds, with the generation they speak of."""
    observed = status.get("observedGeneration", -1)
    return Conditions(observed=observed if isinstance(observed, int) else -1, all=_conditions(status))


def parse_region(raw: Json) -> Region:
    spec, status = mapping(raw.get("spec")), mapping(raw.get("status"))
    gateway = mapping(spec.get("gateway"))
    auth = mapping(gateway.get("auth"))
    labels = mapping(mapping(spec.get("adapterSelector")).get("matchLabels"))
    limits = mapping(spec.get("rolloutLimits"))
    return Region(
        meta=parse_meta(raw),
        conditions=own_conditions(status),
        tiers=tuple(text(one.get("tier")) for one in entries(spec.get("tiers"))),
        suspend=spec.get("suspend") is True,
        quarantined=texts(spec.get("quarantinedDigests")),
        ceiling=number(limits.get("ceilingPercent"), 100),
        max_concurrent=number(limits.get("maxConcurrent"), 5),
        auth_mode=text(auth.get("mode")) or "ApiKey",
        tls=bool(text(mapping(gateway.get("tls")).get("secretName"))),
        auth_secret=text(mapping(auth.get("secretRef")).get("name")),
        adapter_labels={str(key): str(value) for key, value in labels.items()},
        population=number(status.get("population")),
        ready_tiers=number(status.get("readyTiers")),
        archetypes=number(status.get("archetypes")),
        gateway_ready=number(status.get("gatewayReady")),
        gateway_wanted=number(status.get("gatewayReplicas")),
        endpoint=text(status.get("endpoint")),
        note=text(status.get("note")),
    )


def parse_tier(raw: Json) -> Tier:
    spec, status = mapping(raw.get("spec")), mapping(raw.get("status"))
    return Tier(
        meta=parse_meta(raw),
        conditions=own_conditions(status),
        quality=text(spec.get("quality")),
        model_uri=text(mapping(spec.get("model")).get("uri")),
        suspend=spec.get("suspend") is True,
        fallback=text(spec.get("fallbackTier")),
        wanted=number(status.get("wantedReplicas")),
        ready=number(status.get("readyReplicas")),
        adapters=number(status.get("adapters")),
        resident=number(status.get("residentAdapters")),
        model_progress=text(status.get("model")),
        capacity=_capacity(mapping(status.get("capacity"))),
        interruption=_interruption(mapping(status.get("interruptions"))),
    )


def _capacity(raw: Json) -> Capacity | None:
    mode = text(raw.get("mode"))
    if not mode:
        return None
    return Capacity(
        mode=mode,
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
        since=text(raw.get("since")),
    )


def _interruption(raw: Json) -> Interruption | None:
    if not raw:
        return None
    return Interruption(
        pods=number(raw.get("pods")),
        unrouted=number(raw.get("unrouted")),
        since=text(raw.get("since")),
        over=raw.get("over") is not False,
        lost=number(raw.get("lostLines")),
        rerouted=number(raw.get("reroutedLines")),
        downgraded=number(raw.get("downgradedLines")),
        below=number(raw.get("secondsBelowTarget")),
    )


def parse_pod(raw: Json) -> Pod:
    spec, status = mapping(raw.get("spec")), mapping(raw.get("status"))
    return Pod(
        meta=parse_meta(raw),
        phase=text(status.get("phase")) or "Pending",
        reason=text(status.get("reason")),
        message=text(status.get("message")),
        node=text(spec.get("nodeName")),
        conditions=_conditions(status),
        containers=(
            *(_container(one, init=True) for one in entries(status.get("initContainerStatuses"))),
            *(_container(one, init=False) for one in entries(status.get("containerStatuses"))),
        ),
        grace_seconds=number(mapping(raw.get("metadata")).get("deletionGracePeriodSeconds"))
        or number(spec.get("terminationGracePeriodSeconds"))
        or 30,
    )


def _container(raw: Json, *, init: bool) -> Container:
    state = mapping(raw.get("state"))
    waiting, running = mapping(state.get("waiting")), mapping(state.get("running"))
    ended = mapping(state.get("terminated")) or mapping(mapping(raw.get("lastState")).get("terminated"))
    code = ended.get("exitCode")
    return Container(
        name=text(raw.get("name")),
        init=init,
        ready=raw.get("ready") is True,
        running_since=text(running.get("startedAt")),
        restarts=number(raw.get("restartCount")),
        waiting=text(waiting.get("reason")),
        waiting_message=text(waiting.get("message")),
        ended=text(ended.get("reason")),
        exit_code=code if isinstance(code, int) else None,
        ended_at=text(ended.get("finishedAt")),
    )


def parse_deployment(raw: Json) -> Deployment:
    return Deployment(
        meta=parse_meta(raw),
        wanted=number(mapping(raw.get("spec")).get("replicas")),
        conditions=_conditions(mapping(raw.get("status"))),
    )


def parse_node(raw: Json) -> Node:
    spec = mapping(raw.get("spec"))
    ready = next((one for one in _conditions(mapping(raw.get("status"))) if one.type == "Ready"), None)
    return Node(
        meta=parse_meta(raw),
        ready=ready is not None and ready.status == "True",
        since=ready.since if ready is not None else "",
        message=ready.message if ready is not None else "",
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(text(one.get("key")) for one in entries(spec.get("taints"))),
    )


def parse_event(raw: Json) -> Event:
    """An Event of the core API, which shows those of events.k8s.io too."""
    about, series = mapping(raw.get("involvedObject")), mapping(raw.get("series"))
    last = (
        text(series.get("lastObservedTime"))
        or text(raw.get("lastTimestamp"))
        or text(raw.get("eventTime"))
        or text(mapping(raw.get("metadata")).get("creationTimestamp"))
    )
    return Event(
        kind=text(about.get("kind")),
        name=text(about.get("name")),
        type=text(raw.get("type")),
        reason=text(raw.get("reason")),
        message=text(raw.get("message")).strip(),
        last=last,
        count=number(series.get("count")) or number(raw.get("count")) or 1,
    )


def parse_lease(raw: Json) -> Lease:
    spec = mapping(raw.get("spec"))
    return Lease(
        namespace=parse_meta(raw).namespace,
        holder=text(spec.get("holderIdentity")),
        renewed=text(spec.get("renewTime")),
        seconds=number(spec.get("leaseDurationSeconds")),
    )
