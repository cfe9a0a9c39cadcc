"""The named faults of `why`: a namespace in which one thing is wrong, and what is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding
from npc_operator.domain.interruption.queues import QUEUE_READY
from npc_operator.domain.interruption.visibility import NODES_VISIBLE
from npc_operator.domain.nodepools.report import NODE_POOLS_READY
from npc_runtime.agent.errors import Reason
from npc_runtime.cli.facts import Unread, World
from tests.unit.cli import objects as o

POD = "gold-on-demand-5d9c7-x2x4q"


@dataclass(frozen=True)
class Fault:
    """`asked` as on the command line; empty asks about the namespace."""

    asked: str
    world: World


def healthy(**changes: Any) -> World:
    """A region in which all is well but for the changes."""
    everything: dict[str, Any] = {
        "regions": [o.region()],
        "tiers": [o.tier()],
        "adapters": [o.adapter()],
        "pods": [o.pod(POD), o.gateway()],
        "nodes": [o.node()],
        "election": o.lease(),
    }
    return o.world(**(everything | changes))


def bad_pod(reason: str, message: str, pod: o.Json, **more: Any) -> World:
    """A tier that is not ready because of its only pod."""
    waits = o.conditions(False, (reason, message), reconciling=(reason, message))
    return healthy(tiers=[o.tier(ready=0, status=waits)], pods=[pod, o.gateway()], **more)


def stuck_pod(reason: str, message: str, pod: o.Json, **more: Any) -> World:
    """As bad_pod, and a person is needed."""
    starting = (reasons.STARTING, "0 of 1 pods are ready; pods are being created")
    status = o.conditions(False, starting, reconciling=None, stalled=(reason, message))
    return healthy(tiers=[o.tier(ready=0, status=status)], pods=[pod, o.gateway()], **more)


def refused(reason: str, message: str, *, kept: str = "") -> World:
    """A new digest that a pod refuses for good."""
    text = f"tier gold: pod {POD}: {reason}: {message} (correct the source or the digest; the stable digest serves on)"
    status = o.conditions(True, stalled=(reason, text))
    return healthy(adapters=[o.adapter(variants=[o.moving(reason, text)], status=status)])


def engine(*, running: str = o.RECENTLY, ready: bool = False, **state: Any) -> list[o.Json]:
    return [o.container("engine", running=running, ready=ready, **state)]


def image_pull() -> Fault:
    said = 'Back-off pulling image "registry.example.com/vllm:v0.99"'
    pod = o.pod(POD, ready=False, containers=engine(**o.waiting("ImagePullBackOff", said)))
    message = f"pod {POD}: container engine: ImagePullBackOff: {said}"
    return Fault("tier/gold", stuck_pod(reasons.IMAGE_PULL_FAILED, message, pod))


def no_node() -> Fault:
    said = (
        "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: games}, 2 node(s) didn't match Pod's "
        "node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    pod = o.pod(POD, ready=False, scheduled=said)
    return Fault("gput/gold", bad_pod(reasons.UNSCHEDULABLE, f"pod {POD}: {said}", pod))


def no_gpu() -> Fault:
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
    pod = o.pod(POD, ready=False, scheduled=said)
    return Fault("gold", bad_pod(reasons.UNSCHEDULABLE, f"pod {POD}: {said}", pod))


def no_memory() -> Fault:
    said = "0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient memory."
    return Fault(f"pod/{POD}", bad_pod(reasons.UNSCHEDULABLE, said, o.pod(POD, ready=False, scheduled=said)))


def quota() -> Fault:
    said = (
        'pods "gold-on-demand-5d9c7-" is forbidden: exceeded quota: games, requested: pods=1, used: pods=4, '
        "limited: pods=4"
    )
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": said,
        "lastTransitionTime": o.LONG_AGO,
    }
    status = o.conditions(
        False,
        (reasons.STARTING, "0 of 1 pods are ready; pods are being created"),
        stalled=(reasons.QUOTA_EXCEEDED, f"on-demand: {said}"),
    )
    deployments = [o.deployment("gold-on-demand", "gold", failure)]
    world = healthy(tiers=[o.tier(ready=0, status=status)], pods=[o.gateway()], deployments=deployments)
    return Fault("tier/gold", world)


def engine_starting() -> Fault:
    pod = o.pod(POD, ready=False, containers=engine())
    return Fault("tier/gold", bad_pod(reasons.STARTING, f"0 of 1 pods are ready; pod {POD}: engine Starting", pod))


def engine_down() -> Fault:
    last = {"reason": "Error", "exitCode": 139, "finishedAt": o.RECENTLY}
    pod = o.pod(POD, ready=False, containers=engine(restarts=1, last=last))
    events = [o.event(POD, "Unhealthy", "Startup probe failed: Get http://10.0.1.7:8000/health: connection refused")]
    message = f"0 of 1 pods are ready; pod {POD}: engine Down"
    return Fault(f"pod/{POD}", bad_pod(reasons.STARTING, message, pod, events=events))


def crash_loop() -> Fault:
    last = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": o.RECENTLY}
    pod = o.pod(
        POD, ready=False, containers=engine(restarts=7, last=last, **o.waiting("CrashLoopBackOff", "back-off 5m0s"))
    )
    command = f"kubectl logs {POD} -c engine --previous"
    message = f"pod {POD}: container engine ended 7 times (OOMKilled, exit code 137); see {command}"
    return Fault("tier/gold", stuck_pod(reasons.CRASH_LOOPING, message, pod))


def missing_config_map() -> Fault:
    said = 'configmap "engine-settings" not found'
    pod = o.pod(POD, ready=False, containers=engine(**o.waiting("CreateContainerConfigError", said)))
    message = f"pod {POD}: container engine: CreateContainerConfigError: {said}"
    return Fault("tier/gold", stuck_pod("CreateContainerConfigError", message, pod))


def invalid_model_uri() -> Fault:
    last = {"reason": "Error", "exitCode": 2, "finishedAt": o.RECENTLY}
    model = o.container("model", ready=False, restarts=4, last=last, **o.waiting("CrashLoopBackOff", "back-off 80s"))
    pod = o.pod(POD, ready=False, init=[model], containers=engine(**o.waiting("PodInitializing")))
    message = (
        f"pod {POD}: container model ended 4 times (Error, exit code 2); see kubectl logs {POD} -c model --previous"
    )
    return Fault("tier/gold", stuck_pod(reasons.CRASH_LOOPING, message, pod))


def fetching_model() -> Fault:
    model = o.container("model", ready=False, running=o.RECENTLY)
    pod = o.pod(POD, ready=False, init=[model], containers=engine(**o.waiting("PodInitializing")))
    message = f"pod {POD} fetches the base model: 20% of 16.4 GB"
    return Fault("tier/gold", bad_pod(reasons.FETCHING_MODEL, message, pod))


def wrong_digest() -> Fault:
    return Fault(
        "adapter/vampire", refused(Reason.DIGEST_MISMATCH, f"the files have digest {o.OLD[:25]}…, wanted {o.NEW[:25]}…")
    )


def not_in_s3() -> Fault:
    message = f"tier gold: pod {POD}: {Reason.NOT_FOUND}: there is nothing at s3://adapters/vampire/2"
    status = o.conditions(True, reconciling=(reasons.RETRYING, message))
    return Fault(
        "vampire", healthy(adapters=[o.adapter(variants=[o.moving(reasons.RETRYING, message)], status=status)])
    )


def hostile_file() -> Fault:
    return Fault("vampire", refused(Reason.FORBIDDEN_FILE, "'payload.pkl' is neither config, weights nor plain text"))


def rank_too_high() -> Fault:
    return Fault("vampire", refused(Reason.RANK_TOO_HIGH, "rank 64, this tier's engines take at most 16"))


def rank_above_tier() -> Fault:
    message = "rank 64 is above engine.maxLoraRank 16 of tier gold; lower the one or raise the other"
    status = o.conditions(True, stalled=(reasons.RANK_ABOVE_TIER, message))
    adapter = o.adapter(variants=[o.variant(reason=reasons.RANK_ABOVE_TIER, message=message)], status=status, rank=64)
    return Fault("vampire", healthy(adapters=[adapter]))


def no_token() -> Fault:
    message = "Secret hub-token does not exist; create it or correct source.secretRef"
    status = o.conditions(True, stalled=(reasons.SECRET_NOT_FOUND, message))
    adapter = o.adapter(
        variants=[o.variant(reason=reasons.SECRET_NOT_FOUND, message=message)], status=status, secret="hub-token"
    )
    return Fault("vampire", healthy(adapters=[adapter]))


def no_credentials() -> Fault:
    message = f"tier gold: pod {POD}: {Reason.CREDENTIALS_MISSING}: no credentials for s3 in the Secret or the pod"
    status = o.conditions(True, reconciling=(reasons.RETRYING, message))
    variant = o.moving(Reason.CREDENTIALS_MISSING.value, message)
    return Fault("vampire", healthy(adapters=[o.adapter(variants=[variant], status=status)]))


def namespace_taken() -> Fault:
    message = "NPCRegion eu-west is older and holds this namespace; move eu-test to a namespace of its own"
    second = o.region(
        "eu-test",
        status=o.conditions(False, (reasons.NAMESPACE_TAKEN, message), stalled=(reasons.NAMESPACE_TAKEN, message)),
        creationTimestamp="2026-11-20T00:00:00Z",
    )
    return Fault("region/eu-test", healthy(regions=[o.region(), second]))


def archetype_taken() -> Fault:
    message = "ArchetypeAdapter vampire is older and speaks for vampire; delete one of them"
    taken = o.variant(
        stable=None, residentReplicas=0, wantedReplicas=0, reason=reasons.ARCHETYPE_TAKEN, message=message
    )
    status = o.conditions(False, (reasons.ARCHETYPE_TAKEN, message), stalled=(reasons.ARCHETYPE_TAKEN, message))
    second = o.adapter("vampire", name="vampire-copy", variants=[taken], status=status)
    return Fault("npca/vampire-copy", healthy(adapters=[o.adapter(), second]))


def tier_unknown() -> Fault:
    message = "there is no GpuTier platinum in this namespace; create it"
    status = o.conditions(
        False, (reasons.TIERS_NOT_READY, "not ready: tier platinum"), stalled=(reasons.UNKNOWN_TIER, message)
    )
    return Fault("region/eu-west", healthy(regions=[o.region(status=status, tiers={"gold": 100, "platinum": 50})]))


def no_region_for_tier() -> Fault:
    message = "no NPCRegion names tier bronze, so it keeps 1 replicas; add it to a region's spec.tiers"
    status = o.conditions(True, stalled=(reasons.NO_REGION, message))
    return Fault("tier/bronze", healthy(tiers=[o.tier(), o.tier("bronze", status=status)]))


def agent_unreachable() -> Fault:
    message = f"tier gold: the agent of {POD} has not been heard yet"
    unknown = o.variant(residentReplicas=0, reason=reasons.AGENT_UNKNOWN, message=message)
    status = o.conditions(None, (reasons.AGENT_UNKNOWN, message))
    pod = o.pod(POD, ready=False, init=[o.container("agent", ready=False)], containers=engine(ready=True))
    events = [o.event(POD, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")]
    adapters = [o.adapter(variants=[unknown], status=status)]
    return Fault("vampire", healthy(adapters=adapters, pods=[pod, o.gateway()], events=events))


def gateway_not_ready() -> Fault:
    message = "1 of 2 gateway pods are ready with the present routes"
    status = o.conditions(False, (reasons.GATEWAY_STARTING, message), reconciling=(reasons.GATEWAY_STARTING, message))
    late = o.gateway("eu-west-gateway-7c6f-zz11x", ready=False)
    events = [
        o.event(late["metadata"]["name"], "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    ]
    world = healthy(regions=[o.region(status=status)], pods=[o.pod(POD), o.gateway(), late], events=events)
    return Fault("region/eu-west", world)


def operator_absent() -> Fault:
    return Fault("", healthy(election=None))


def lease_stale() -> Fault:
    return Fault("tier/gold", healthy(election=o.lease(renewed="2026-11-21T11:40:00.123456Z")))


def no_leader() -> Fault:
    return Fault("", healthy(election=o.lease(holder="")))


def lease_not_readable() -> Fault:
    refusal = Unread(what="leases", why="you may not get leases.coordination.k8s.io in namespace npc-system")
    return Fault("tier/gold", healthy(election=None, unread=[refusal]))


def fallen_back() -> Fault:
    """Spot has no room, and on-demand pods serve in its place."""
    capacity = {
        "mode": "Fallback",
        "reason": reasons.SPOT_PENDING,
        "message": "Spot has no room for 2 replicas: 2 on-demand replicas stand in.",
        "since": o.RECENTLY,
    }
    return Fault("tier/gold", healthy(tiers=[o.tier(status=o.conditions() | {"capacity": capacity})]))


def nodes_that_go() -> Fault:
    """Two pods are under notice, one of them off the routes already."""
    interruptions = {
        "pods": 2,
        "unrouted": 1,
        "since": o.RECENTLY,
        "over": False,
        "lostLines": 0,
        "reroutedLines": 3,
        "downgradedLines": 12,
        "secondsBelowTarget": 40,
    }
    return Fault("tier/gold", healthy(tiers=[o.tier(status=o.conditions() | {"interruptions": interruptions})]))


def nodes_that_went() -> Fault:
    """The nodes are gone, and what takes their place is not there yet."""
    interruptions = {"since": o.RECENTLY, "over": False, "lostLines": 1}
    return Fault("", healthy(tiers=[o.tier(status=o.conditions() | {"interruptions": interruptions})]))


def rights_beside() -> Fault:
    """What is missing for nodes keeps nobody from serving."""
    said = [
        (NODE_POOLS_READY, reasons.KARPENTER_MISSING, "the cluster does not serve nodepools.karpenter.sh"),
        (QUEUE_READY, reasons.QUEUE_FORBIDDEN, "queue npc in eu-west-1: the operator's identity may not read it"),
        (NODES_VISIBLE, reasons.NODES_FORBIDDEN, "the operator may not see nodes"),
    ]
    beside = [(kind, "False", Finding(reason, message)) for kind, reason, message in said]
    return Fault("tier/gold", healthy(tiers=[o.tier(status=o.conditions(beside=beside))]))


def pod_terminating() -> Fault:
    pod = o.pod(POD, deletionTimestamp="2026-11-21T12:01:00Z")
    return Fault(f"pod/{POD}", healthy(pods=[pod, o.pod("gold-on-demand-5d9c7-young"), o.gateway()]))


def pod_stuck_terminating() -> Fault:
    pod = o.pod(POD, deletionTimestamp="2026-11-21T11:40:00Z")
    lost = o.node(ready=False, message="Kubelet stopped posting node status.")
    return Fault(f"pod/{POD}", healthy(pods=[pod, o.gateway()], nodes=[lost]))


def node_lost() -> Fault:
    lost = o.node(ready=False, message="Kubelet stopped posting node status.")
    pod = o.pod(POD, ready=False)
    message = f"0 of 1 pods are ready; pod {POD} is starting"
    return Fault("tier/gold", bad_pod(reasons.STARTING, message, pod, nodes=[lost]))


def not_on_one_pod() -> Fault:
    late = "gold-spot-77f4c-9mmzt"
    message = f"tier gold: pod {late}: still Fetching (not proven within 300 s; the stable digest serves on)"
    variant = o.moving(reasons.LOAD_TIMEOUT, message, wantedReplicas=2) | {"residentReplicas": 1}
    status = o.conditions(True, stalled=(reasons.LOAD_TIMEOUT, message))
    pods = [o.pod(POD), o.pod(late), o.gateway()]
    return Fault("vampire", healthy(adapters=[o.adapter(variants=[variant], status=status)], pods=pods))


def suspended() -> Fault:
    message = "spec.suspend of ArchetypeAdapter vampire is true: what is resident serves on, nothing changes"
    status = o.conditions(True, stalled=(reasons.SUSPENDED, message))
    variant = o.variant(reason=reasons.SUSPENDED, message=message)
    return Fault("vampire", healthy(adapters=[o.adapter(variants=[variant], status=status, spec={"suspend": True})]))


def no_ready_engine() -> Fault:
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    pod = o.pod(POD, ready=False, scheduled=said)
    waits = o.conditions(False, (reasons.UNSCHEDULABLE, f"pod {POD}: {said}"))
    message = "tier gold: no pod has a ready engine"
    variant = o.variant(residentReplicas=0, wantedReplicas=0, reason=reasons.NO_READY_ENGINE, message=message)
    adapter = o.adapter(variants=[variant], status=o.conditions(False, (reasons.NO_READY_ENGINE, message)))
    tiers = [o.tier(ready=0, status=waits)]
    return Fault("vampire", healthy(tiers=tiers, adapters=[adapter], pods=[pod, o.gateway()]))


def not_looked_at() -> Fault:
    return Fault("vampire", healthy(adapters=[o.adapter(status=o.conditions(observed=1), generation=3)]))


def probe_mismatch() -> Fault:
    return Fault("vampire", refused(Reason.PROBE_MISMATCH, "the answer does not match mustMatch[0]"))


def evicted() -> Fault:
    pod = o.pod(POD, ready=False)
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    return Fault(f"pod/{POD}", bad_pod(reasons.STARTING, "0 of 1 pods are ready; pods are being created", pod))


def whole_namespace() -> Fault:
    """One cause seen from the top: region, tier, pod, in this order."""
    found = image_pull().world
    message = "not ready: tier gold"
    status = o.conditions(False, (reasons.TIERS_NOT_READY, message), reconciling=(reasons.TIERS_NOT_READY, message))
    region = o.world(regions=[o.region(status=status)]).regions
    return Fault("", World(**{name: getattr(found, name) for name in World.__dataclass_fields__} | {"regions": region}))


def no_region() -> Fault:
    return Fault("", o.world(election=o.lease()))


def hostile_message() -> Fault:
    """What strangers write is shown without what a terminal would obey."""
    return Fault("vampire", refused(Reason.UNSAFE_PATH, "file name \x1b[2J\x1b]0;owned\x07 is unsafe"))


def all_is_well() -> Fault:
    return Fault("vampire", healthy())


FAULTS: Mapping[str, Callable[[], Fault]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        image_pull,
        no_node,
        no_gpu,
        no_memory,
        quota,
        engine_starting,
        engine_down,
        crash_loop,
        missing_config_map,
        invalid_model_uri,
        fetching_model,
        wrong_digest,
        not_in_s3,
        hostile_file,
        rank_too_high,
        rank_above_tier,
        no_token,
        no_credentials,
        namespace_taken,
        archetype_taken,
        tier_unknown,
        no_region_for_tier,
        agent_unreachable,
        gateway_not_ready,
        operator_absent,
        lease_stale,
        no_leader,
        lease_not_readable,
        fallen_back,
        nodes_that_go,
        nodes_that_went,
        rights_beside,
        pod_terminating,
        pod_stuck_terminating,
        node_lost,
        not_on_one_pod,
        suspended,
        no_ready_engine,
        not_looked_at,
        probe_mismatch,
        evicted,
        whole_namespace,
        no_region,
        hostile_message,
        all_is_well,
    )
}
