"""A namespace as the API server shows it, built from options; conditions come from the operator's own builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from npc_operator.api import names
from npc_operator.domain.conditions import Finding, Summary, build_conditions
from npc_runtime.cli import parse
from npc_runtime.cli.facts import Lease, Unread, World
from npc_runtime.cli.parse_voices import parse_adapter
from tests.support import builders

NAMESPACE = builders.NAMESPACE
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()
LONG_AGO = "2026-11-21T09:50:00Z"
RECENTLY = "2026-11-21T11:55:00Z"
OLD, NEW = builders.digest("vampire-1"), builders.digest("vampire-2")

Json = dict[str, Any]


def conditions(
    ready: bool | None = True,
    why: tuple[str, str] = ("Serving", "all is well"),
    *,
    stalled: tuple[str, str] | None = None,
    reconciling: tuple[str, str] | None = None,
    since: str = RECENTLY,
    observed: int = 1,
    beside: Sequence[tuple[str, str, Finding]] = (),
) -> Json:
    """The part of a status that all kinds share, as the operator publishes it; `beside` has more conditions."""
    summary = Summary(
        ready=ready,
        why=Finding(*why),
        stalled=Finding(*stalled) if stalled else None,
        reconciling=Finding(*reconciling) if reconciling else None,
    )
    at = datetime.fromisoformat(since).timestamp()
    made = build_conditions(summary, (), generation=observed, now=at, more=beside)
    return {
        "observedGeneration": observed,
        "conditions": [one.model_dump(mode="json", by_alias=True) for one in made],
    }


def region(name: str = "eu-west", *, status: Json | None = None, **options: Any) -> Json:
    counts = {"readyTiers": 1, "gatewayReady": 2, "gatewayReplicas": 2, "archetypes": 1, "population": 100}
    return builders.region(name, **options) | {"status": counts | (status or conditions())}


def tier(name: str = "gold", *, ready: int = 1, wanted: int = 1, status: Json | None = None, **options: Any) -> Json:
    counts = {"readyReplicas": ready, "wantedReplicas": wanted, "adapters": 1, "residentAdapters": 1}
    return builders.tier(name, **options) | {"status": counts | (status or conditions())}


def variant(tier_name: str = "gold", **fields: Any) -> Json:
    """One tier's entry of an adapter's status."""
    return {
        "tier": tier_name,
        "stable": {"digest": OLD, "uri": "s3://adapters/vampire/1"},
        "percent": 100,
        "residentReplicas": 1,
        "wantedReplicas": 1,
        "reason": "Serving",
        "message": "",
        **fields,
    }


def moving(reason: str, message: str, **fields: Any) -> Json:
    """A variant whose newest digest is on its way and has met `reason`."""
    candidate = {"digest": NEW, "uri": "s3://adapters/vampire/2"}
    return variant(
        candidate=candidate,
        candidateSince=RECENTLY,
        percent=0,
        residentReplicas=0,
        reason=reason,
        message=message,
        **fields,
    )


def adapter(
    archetype: str = "vampire", *, variants: Sequence[Json] = (), status: Json | None = None, **options: Any
) -> Json:
    own: Json = {"variants": list(variants) or [variant()], "digest": OLD[7:19], "readyVariants": "1/1"}
    return builders.adapter(archetype, **options) | {"status": own | (status or conditions())}


def container(name: str, *, running: str = LONG_AGO, ready: bool = True, restarts: int = 0, **state: Any) -> Json:
    """A container's status: running unless `waiting` or `terminated` says otherwise; `last` is its former end."""
    last = state.pop("last", None)
    return {
        "name": name,
        "ready": ready and not state,
        "restartCount": restarts,
        "state": state or {"running": {"startedAt": running}},
        "lastState": {"terminated": last} if last else {},
    }


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


def pod(
    name: str = "gold-on-demand-5d9c7-x2x4q",
    *,
    tier_name: str = "gold",
    ready: bool = True,
    node: str = "node-a",
    scheduled: str = "",
    init: Sequence[Json] | None = None,
    containers: Sequence[Json] | None = None,
    **metadata: Any,
) -> Json:
    """An engine pod; `scheduled` is why it is not."""
    kind = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": RECENTLY},
        {
            "type": "PodScheduled",
            "status": "False" if scheduled else "True",
            "reason": "Unschedulable" if scheduled else "",
            "message": scheduled,
            "lastTransitionTime": LONG_AGO,
        },
    ]
    labels = {
        names.LABEL_COMPONENT: names.COMPONENT_ENGINE,
        names.LABEL_TIER: tier_name,
        names.LABEL_SLICE: names.SLICE_ON_DEMAND,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": builders.meta("Pod", name, labels=labels, **metadata),
        "spec": {"nodeName": "" if scheduled else node, "terminationGracePeriodSeconds": 85},
        "status": {
            "phase": "Pending" if scheduled else "Running",
            "conditions": kind,
            "initContainerStatuses": []
            if scheduled
            else list(init if init is not None else [container(names.CONTAINER_AGENT)]),
            "containerStatuses": [] if scheduled else list(containers or [container(names.CONTAINER_ENGINE)]),
        },
    }


def gateway(name: str = "eu-west-gateway-7c6f-b2k9d", *, ready: bool = True, **options: Any) -> Json:
    made = pod(name, ready=ready, init=[], containers=[container(names.CONTAINER_GATEWAY, ready=ready)], **options)
    made["metadata"]["labels"] = {names.LABEL_COMPONENT: names.COMPONENT_GATEWAY, names.LABEL_REGION: "eu-west"}
    return made


def deployment(name: str, tier_name: str, *own: Json) -> Json:
    return {
        "metadata": builders.meta("Deployment", name, labels={names.LABEL_TIER: tier_name}),
        "spec": {"replicas": 1},
        "status": {"conditions": list(own)},
    }


def node(name: str = "node-a", *, ready: bool = True, message: str = "kubelet is posting ready status") -> Json:
    status = "True" if ready else "Unknown"
    condition = {"type": "Ready", "status": status, "message": message, "lastTransitionTime": RECENTLY}
    return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [condition]}}


def event(name: str, reason: str, message: str, *, kind: str = "Pod", type_: str = "Warning") -> Json:
    return {
        "involvedObject": {"kind": kind, "name": name},
        "type": type_,
        "reason": reason,
        "message": message,
        "lastTimestamp": RECENTLY,
        "count": 3,
    }


def lease(*, holder: str = "npc-operator-6f9d_0a1b2c3d4e5f", renewed: str = "2026-11-21T11:59:58.000000Z") -> Json:
    return {
        "metadata": {"name": "npc-operator", "namespace": "npc-system"},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 10},
    }


def world(
    *,
    regions: Sequence[Json] = (),
    tiers: Sequence[Json] = (),
    adapters: Sequence[Json] = (),
    pods: Sequence[Json] = (),
    deployments: Sequence[Json] = (),
    nodes: Sequence[Json] = (),
    events: Sequence[Json] = (),
    election: Mapping[str, Any] | None = None,
    unread: Sequence[Unread] = (),
) -> World:
    """Everything as facts."""
    held: Lease | None = parse.parse_lease(election) if election is not None else None
    return World(
        namespace=NAMESPACE,
        regions=tuple(map(parse.parse_region, regions)),
        tiers=tuple(map(parse.parse_tier, tiers)),
        adapters=tuple(map(parse_adapter, adapters)),
        pods=tuple(map(parse.parse_pod, pods)),
        deployments=tuple(map(parse.parse_deployment, deployments)),
        nodes=tuple(map(parse.parse_node, nodes)),
        events=tuple(map(parse.parse_event, events)),
        lease=held,
        unread=tuple(unread),
    )
