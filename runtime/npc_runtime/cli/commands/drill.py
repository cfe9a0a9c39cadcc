"""drill: something is killed on purpose, and the time until everything serves again is told.

Asks first. What is done is what every incident does: an engine's processes end, a pod is deleted, the leader goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import parse, paths
from .. import vocabulary as v
from ..answers import Answer, Code, text
from ..facts import Lease, Pod
from ..ports import CliError, Cluster, NoCluster, NotFound
from .session import Session

SCRIPT = """\
import os, signal
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass
os.kill(1, signal.SIGTERM)
"""
"""kill(-1) spares process 1 and the caller: the engine's workers go without a word, then its server is told to end (a
container's process 1 cannot be killed from inside)."""
KILL = ("python3", "-c", SCRIPT)
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill: what it will do, how it does it, and when it is over."""

    says: str
    act: Callable[[], None]
    over: Callable[[], bool]
    expects: str


def run_drill(session: Session) -> Code:
    """Ask, act, and wait until what was killed is there again."""
    cluster = session.connect()
    namespace = session.namespace(cluster)
    match session.option("what"):
        case "engine":
            drill = plan_engine(cluster, pick_pod(session, cluster, namespace))
        case "pod":
            drill = plan_pod(cluster, pick_pod(session, cluster, namespace))
        case _:
            drill = plan_leader(cluster, session.option("operator_namespace"))
    session.console.note(f"{drill.says}\nexpected: {drill.expects}".replace("\n", "; "))
    if not session.option("yes") and not session.console.ask("do it?"):
        raise CliError("nothing was done: nobody said yes", Code.DECLINED, step="answer y, or give --yes")
    began = session.now()
    drill.act()
    wait = session.option("wait")
    try:
        while wait and session.now() - began < wait:
            session.sleep(LOOK_SECONDS)
            if _over(drill):
                return _told(session, drill, session.now() - began, over=True)
    except KeyboardInterrupt:
        session.console.note("it was done and goes on; only the waiting has ended")
        raise
    return _told(session, drill, session.now() - began, over=not wait)


def _over(drill: Drill) -> bool:
    """An API server that is away for a moment says nothing about what was killed."""
    try:
        return drill.over()
    except NoCluster:
        return False


def _told(session: Session, drill: Drill, seconds: float, *, over: bool) -> Code:
    waited = bool(session.option("wait"))
    said = f"over after {seconds:.1f} s: {drill.expects}" if waited else "done; not waited for"
    if not over:
        said = f"not over after {seconds:.1f} s; expected: {drill.expects}"
    data = {"did": drill.says, "expected": drill.expects, "over": over and waited, "seconds": round(seconds, 1)}
    code = Code.FINE if over else Code.NOT_AS_WANTED
    session.console.show(Answer(data, (text(said),), code))
    return code


def pick_pod(session: Session, cluster: Cluster, namespace: str) -> Pod:
    """The named pod, or one of the named tier: the last by name of those that are ready. Raises CliError."""
    name, tier = session.option("pod"), session.option("tier")
    if name:
        pod = parse.parse_pod(cluster.get(paths.core("pods", namespace, name)))
        if pod.component != v.COMPONENT_ENGINE:
            raise CliError(f"pod {name} is no engine pod of a tier", Code.USAGE)
        return pod
    if not tier:
        raise CliError("name a pod, or a tier with --tier", Code.USAGE)
    selector = f"{v.LABEL_COMPONENT}={v.COMPONENT_ENGINE},{v.LABEL_TIER}={tier}"
    pods = [parse.parse_pod(one) for one in cluster.list(paths.core("pods", namespace), selector=selector)]
    ready = sorted((pod for pod in pods if pod.ready()), key=lambda pod: pod.meta.name)
    if not ready:
        raise NotFound(f"tier {tier} has no ready pod in namespace {namespace}", step=f"kubectl npc why tier/{tier}")
    return ready[-1]


def plan_engine(cluster: Cluster, pod: Pod) -> Drill:
    """Kill the engine's processes; kubelet starts the container again, the agent brings its adapters back."""
    namespace, name = pod.meta.namespace, pod.meta.name
    before = _restarts(pod)

    def over() -> bool:
        try:
            seen = parse.parse_pod(cluster.get(paths.core("pods", namespace, name)))
        except NotFound:
            return False
        return _restarts(seen) > before and seen.ready()

    return Drill(
        says=f"this kills the engine in pod {name} of namespace {namespace}, with the lines that run on it",
        act=lambda: cluster.execute(namespace, name, v.CONTAINER_ENGINE, KILL),
        over=over,
        expects=f"the engine has started again, its adapters are proven anew and pod {name} is ready",
    )


def plan_pod(cluster: Cluster, pod: Pod) -> Drill:
    """Delete a pod; its lines drain, and its Deployment makes another one."""
    namespace, name, tier = pod.meta.namespace, pod.meta.name, pod.tier
    selector = f"{v.LABEL_COMPONENT}={v.COMPONENT_ENGINE},{v.LABEL_TIER}={tier}"

    def ready() -> set[str]:
        pods = [parse.parse_pod(one) for one in cluster.list(paths.core("pods", namespace), selector=selector)]
        return {one.meta.uid for one in pods if one.ready()}

    before = ready()

    def over() -> bool:
        now = ready()
        return pod.meta.uid not in now and len(now) >= len(before)

    return Drill(
        says=f"this deletes pod {name} of tier {tier} in namespace {namespace}; running lines have its grace period",
        act=lambda: cluster.delete(paths.core("pods", namespace, name), uid=pod.meta.uid),
        over=over,
        expects=f"tier {tier} has {len(before)} ready pods again, without {name}",
    )


def plan_leader(cluster: Cluster, namespace: str) -> Drill:
    """Delete the operator's leading pod; the other replica takes over."""
    lease = _lease(cluster, namespace)
    # The identity is the pod's name and a part of the process's own.
    name = lease.holder.rpartition("_")[0]
    if not name:
        raise NotFound(f"nobody leads: the Lease {v.LEASE} in namespace {namespace} has no holder")
    pod = parse.parse_pod(cluster.get(paths.core("pods", namespace, name)))

    def over() -> bool:
        return _lease(cluster, namespace).holder not in ("", lease.holder)

    return Drill(
        says=f"this deletes pod {name} in namespace {namespace}, which leads; what runs goes on serving",
        act=lambda: cluster.delete(paths.core("pods", namespace, name), uid=pod.meta.uid),
        over=over,
        expects="another replica leads",
    )


def _lease(cluster: Cluster, namespace: str) -> Lease:
    try:
        return parse.parse_lease(cluster.get(paths.lease(namespace)))
    except NotFound:
        raise NotFound(
            f"there is no Lease {v.LEASE} in namespace {namespace}", step="name it with --operator-namespace"
        ) from None


def _restarts(pod: Pod) -> int:
    found = pod.container(v.CONTAINER_ENGINE)
    return found.restarts if found is not None else 0
