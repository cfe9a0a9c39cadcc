"""Why one pod does not serve: one rule for each way a pod can be held up, the nearest to the root first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import vocabulary as v
from ..facts import Container, Pod, World
from .advice import next_step
from .chain import Link, clip, first, how_long, seconds_since, sentence

PULL = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_INSUFFICIENT = re.compile(r"Insufficient ([A-Za-z0-9./-]*[A-Za-z0-9])")
_UNTOLERATED = re.compile(r"untolerated taints? \{([^}:]+)")


@dataclass(frozen=True, slots=True)
class Case:
    """One pod among everything else, at one moment."""

    pod: Pod
    world: World
    now: float

    def link(self, reason: str, says: str, *, since: str = "", step: str = "") -> list[Link]:
        return [Link(object=f"pod {self.pod.meta.name}", reason=reason, since=since, says=says, next=step)]

    def command(self, verb: str, more: str = "") -> str:
        tail = f" {more}" if more else ""
        return f"kubectl {verb} {self.pod.meta.name} -n {self.pod.meta.namespace}{tail}"

    def advice(self, reason: str, container: str = "") -> str:
        return next_step(
            reason,
            namespace=self.pod.meta.namespace,
            short=v.SHORT[v.KIND_TIER],
            name=self.pod.tier,
            tier=self.pod.tier,
            pod=self.pod.meta.name,
            container=container,
        )


def find_terminating(case: Case) -> Sequence[Link]:
    pod = case.pod
    if not pod.meta.deleted:
        return ()
    # deletionTimestamp is the end of the grace period, so it lies ahead while a pod drains as it should.
    late = seconds_since(pod.meta.deleted, case.now)
    if late is not None and late > 0:
        passed = how_long(pod.meta.deleted, case.now)
        says = f"It should have ended {passed} ago and is still there; its node {pod.node or '?'} may be gone."
        return case.link("StuckTerminating", says, since=pod.meta.deleted, step=f"kubectl get node {pod.node}")
    says = f"It is being deleted: it takes no new lines, lets the running ones end, and has until {pod.meta.deleted}."
    step = "wait; another pod takes its place if one is wanted"
    return [replace(link, fine=True) for link in case.link("Terminating", says, step=step)]


def find_lost_node(case: Case) -> Sequence[Link]:
    node = next((one for one in case.world.nodes if case.pod.node and one.meta.name == case.pod.node), None)
    if node is None or node.ready:
        return ()
    says = f"It runs on node {node.meta.name}, which is not ready: {sentence(node.message or 'no message')}"
    return case.link("NodeNotReady", says, since=node.since, step=f"kubectl describe node {node.meta.name}")


def find_evicted(case: Case) -> Sequence[Link]:
    if case.pod.phase != "Failed":
        return ()
    reason = case.pod.reason or "Failed"
    says = f"It has failed: {sentence(case.pod.message or 'no message')}"
    return case.link(reason, says, step=case.command("describe pod"))


def find_no_accelerator(case: Case) -> Sequence[Link]:
    """The scheduler finds nodes, but none with what the pod asks for."""
    said = _unschedulable(case.pod)
    lacking = sorted(set(_INSUFFICIENT.findall(said)))
    if not lacking:
        return ()
    gpu = next((name for name in lacking if name not in ("cpu", "memory", "ephemeral-storage")), "")
    reason = "NoFreeAccelerator" if gpu else "NoFreeResources"
    says = f"No node has enough {' and '.join(lacking)} left for it. The scheduler says: {sentence(said)}"
    step = (
        f"add nodes that have {gpu}, or see who holds it: kubectl describe nodes"
        if gpu
        else "lower spec.engine.resources of the tier, or add nodes: kubectl describe nodes"
    )
    return case.link(reason, says, since=_since(case.pod, "PodScheduled"), step=step)


def find_no_node(case: Case) -> Sequence[Link]:
    """No node fits at all: a label, a taint, a volume."""
    said = _unschedulable(case.pod)
    if not said:
        return ()
    taints = sorted(set(_UNTOLERATED.findall(said)))
    hint = f" Nodes carry the taint {', '.join(taints)}, which the pod does not tolerate." if taints else ""
    says = f"No node fits it.{hint} The scheduler says: {sentence(said)}"
    step = "compare spec.scheduling and spec.capacityTypeLabel of the tier with: kubectl get nodes --show-labels"
    return case.link("NoNodeFits", says, since=_since(case.pod, "PodScheduled"), step=step)


def find_unscheduled(case: Case) -> Sequence[Link]:
    if case.pod.node or case.pod.phase != "Pending":
        return ()
    says = "It waits for the scheduler, which has not spoken of it yet."
    return case.link("Pending", says, since=case.pod.meta.created, step=case.command("describe pod"))


def find_pull_fault(case: Case) -> Sequence[Link]:
    found = next((one for one in case.pod.containers if one.waiting in PULL), None)
    if found is None:
        return ()
    says = f"The image of container {found.name} cannot be pulled ({found.waiting}): {_why_waiting(case, found)}"
    return case.link("ImagePullFailed", says, since=_scheduled(case.pod), step=case.advice("ImagePullFailed"))


def find_config_fault(case: Case) -> Sequence[Link]:
    found = next((one for one in case.pod.containers if one.waiting in CONFIG), None)
    if found is None:
        return ()
    says = f"Container {found.name} cannot be set up: {_why_waiting(case, found)}"
    return case.link(found.waiting, says, since=_scheduled(case.pod), step=case.advice(found.waiting))


def find_model_fault(case: Case) -> Sequence[Link]:
    """The init container that fetches the base model keeps failing: mostly a wrong uri or no credentials."""
    found = case.pod.container(v.CONTAINER_MODEL)
    if found is None or found.ready or not (found.waiting == "CrashLoopBackOff" or (found.ended and found.exit_code)):
        return ()
    tier = case.world.tier(case.pod.tier)
    uri = f" from {tier.model_uri}" if tier is not None and tier.model_uri else ""
    says = (
        f"The base model cannot be fetched{uri}: container model ended {_times(found)} (exit code {found.exit_code})."
    )
    edit = f"kubectl edit gput {case.pod.tier} -n {case.pod.meta.namespace}"
    step = f"{case.command('logs', '-c model --previous')}, then correct spec.model: {edit}"
    return case.link("ModelNotFetched", says, since=found.ended_at, step=step)


def find_fetching_model(case: Case) -> Sequence[Link]:
    found = case.pod.container(v.CONTAINER_MODEL)
    if found is None or not found.running_since:
        return ()
    tier = case.world.tier(case.pod.tier)
    progress = f" ({tier.model_progress})" if tier is not None and tier.model_progress else ""
    says = f"It fetches the base model{progress}; the engine starts after that."
    return case.link("FetchingModel", says, since=found.running_since, step=case.command("logs", "-c model"))


def find_crash_loop(case: Case) -> Sequence[Link]:
    found = next((one for one in case.pod.containers if one.waiting == "CrashLoopBackOff"), None)
    if found is None:
        return ()
    memory = " It ran out of memory." if found.ended == "OOMKilled" else ""
    says = f"Container {found.name} keeps ending soon after its start: {_times(found)}{_last_end(found)}.{memory}"
    return case.link("CrashLooping", says, since=found.ended_at, step=case.advice("CrashLooping", found.name))


def find_starting_engine(case: Case) -> Sequence[Link]:
    """The engine's process runs and is not healthy yet, or not any more."""
    engine = case.pod.container(v.CONTAINER_ENGINE)
    if engine is None or case.pod.ready() or not engine.running_since or engine.ready:
        return ()
    again = f" (it ended {_times(engine)} before{_last_end(engine)})" if engine.restarts else ""
    says = (
        f"The engine has been starting for {how_long(engine.running_since, case.now)}{again} and does not answer yet."
    )
    return case.link("EngineStarting", says, since=engine.running_since, step=case.command("logs", "-c engine -f"))


def find_unready_agent(case: Case) -> Sequence[Link]:
    """The engine answers, the agent holds readiness back: adapters are not proven yet, or its probe does not answer."""
    engine, agent = case.pod.container(v.CONTAINER_ENGINE), case.pod.container(v.CONTAINER_AGENT)
    if engine is None or agent is None or case.pod.ready() or not engine.ready or agent.ready:
        return ()
    if not agent.running_since:
        says = "The agent beside the engine does not run, so no adapter is proven and the pod gets no traffic."
    else:
        says = "The engine answers and the agent is not ready: it has not proven its adapters there."
    return case.link(
        "AdaptersNotProven",
        says + _unhealthy(case),
        since=_since(case.pod, "Ready"),
        step=case.command("logs", "-c agent"),
    )


def find_gateway_unready(case: Case) -> Sequence[Link]:
    if case.pod.component != v.COMPONENT_GATEWAY or case.pod.ready():
        return ()
    running = next((one for one in case.pod.containers if one.running_since), None)
    if running is None:
        return ()
    says = f"The gateway runs and is not ready: it has no routes in force yet.{_unhealthy(case)}"
    return case.link("GatewayNotReady", says, since=_since(case.pod, "Ready"), step=case.command("logs"))


def find_creating(case: Case) -> Sequence[Link]:
    found = next((one for one in case.pod.containers if one.waiting), None)
    if found is None or case.pod.ready():
        return ()
    warning = _warning(case)
    more = f" kubelet says: {sentence(warning)}" if warning else ""
    says = f"Container {found.name} is being set up ({found.waiting}).{more}"
    return case.link(found.waiting, says, since=_scheduled(case.pod), step=case.command("describe pod"))


def find_unready(case: Case) -> Sequence[Link]:
    if case.pod.ready():
        return ()
    condition = case.pod.condition("Ready")
    said = f": {clip(condition.message).rstrip('. ')}" if condition is not None and condition.message else ""
    return case.link(
        "NotReady", f"It is not ready{said}.", since=_since(case.pod, "Ready"), step=case.command("describe pod")
    )


RULES = (
    find_terminating,
    find_lost_node,
    find_evicted,
    find_no_accelerator,
    find_no_node,
    find_unscheduled,
    find_pull_fault,
    find_config_fault,
    find_model_fault,
    find_fetching_model,
    find_crash_loop,
    find_starting_engine,
    find_unready_agent,
    find_gateway_unready,
    find_creating,
    find_unready,
)


def explain_pod(pod: Pod, world: World, now: float) -> tuple[Link, ...]:
    """Why this pod does not serve; empty if it is ready and stays."""
    return first(RULES, Case(pod, world, now))


def _unschedulable(pod: Pod) -> str:
    condition = pod.condition("PodScheduled")
    return condition.message if condition is not None and condition.status == "False" else ""


def _since(pod: Pod, kind: str) -> str:
    condition = pod.condition(kind)
    return condition.since if condition is not None else ""


def _scheduled(pod: Pod) -> str:
    return _since(pod, "PodScheduled") or pod.meta.created


def _times(container: Container) -> str:
    return "once" if container.restarts <= 1 else f"{container.restarts} times"


def _last_end(container: Container) -> str:
    code = "" if container.exit_code is None else f" with exit code {container.exit_code}"
    return f", last as {container.ended}{code}" if container.ended else ""


def _why_waiting(case: Case, container: Container) -> str:
    return sentence(container.waiting_message or _warning(case) or "no message")


def _warning(case: Case) -> str:
    """The last warning about the pod."""
    found = [
        event
        for event in case.world.events
        if event.kind == "Pod" and event.name == case.pod.meta.name and event.type == "Warning"
    ]
    return clip(max(found, key=lambda event: event.last).message) if found else ""


def _unhealthy(case: Case) -> str:
    """What the last failed health check of the pod said, as a part of a sentence."""
    found = [
        event
        for event in case.world.events
        if event.kind == "Pod" and event.name == case.pod.meta.name and event.reason == "Unhealthy"
    ]
    return f" kubelet says: {sentence(max(found, key=lambda event: event.last).message)}" if found else ""
