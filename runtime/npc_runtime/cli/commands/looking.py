"""status, why, matrix, diff and history: commands that only look."""

from __future__ import annotations

from collections.abc import Callable

from ..answers import Answer, Code
from ..clients.agents import ask_agents, read_access
from ..explain.chain import clip
from ..explain.target import TargetError, explain, explain_namespace, find_target
from ..facts import World
from ..observe import observe_glance
from ..ports import CliError, Cluster, NoCluster, NotFound
from ..views.history import view_history
from ..views.residency import Heard, engine_pods, view_diff, view_matrix
from ..views.status import is_empty, view_status
from ..views.why import view_why
from .finding import find_adapter
from .session import Session


def run_status(session: Session) -> Code:
    """Regions, tiers and adapters; with --watch again whenever something changed."""
    cluster = session.connect()
    everywhere = bool(session.option("all_namespaces"))
    namespaces = [""] if everywhere else [session.namespace(cluster)]

    def look() -> Answer:
        worlds = observe_glance(cluster, namespaces, operator_namespace=session.option("operator_namespace"))
        return view_status(worlds, now=session.now(), everywhere=everywhere)

    answer = look()
    if is_empty(answer):
        where = "anywhere" if everywhere else f"in namespace {namespaces[0]}"
        session.console.note(f"there are no regions, tiers or adapters {where}")
    if not session.option("watch"):
        session.console.show(answer)
        return Code.FINE
    return _watch(session, look, answer)


def _watch(session: Session, look: Callable[[], Answer], answer: Answer) -> Code:
    """Shown again when the data differ; a terminal's ages go on meanwhile. Ends with Ctrl-C alone: whoever watches an
    incident must not lose the picture because the API server was away for a moment.
    """
    shown: object = None
    away = False
    while True:
        if not away and (answer.data != shown or session.console.is_terminal()):
            session.console.show_again(answer)
            shown = answer.data
        session.sleep(session.option("every"))
        try:
            answer = look()
        except NoCluster as error:
            if not away:
                session.console.note(f"what is shown is old, and it is tried again: {error}")
            away = True
        else:
            if away:
                session.console.note("the cluster answers again")
            away = False


def run_why(session: Session) -> Code:
    """The chain of causes of one object, or of the whole namespace."""
    cluster = session.connect()
    world = session.world(cluster)
    now = session.now()
    if session.option("target"):
        try:
            target = find_target(session.option("target"), world)
        except TargetError as error:
            raise CliError(
                str(error),
                Code.USAGE if error.ambiguous else Code.NOT_FOUND,
                step="" if error.ambiguous else f"kubectl npc status -n {world.namespace}",
            ) from None
        explanation = explain(target, world, now)
    else:
        explanation = explain_namespace(world, now)
    answer = view_why(explanation, unread=world.unread, now=now)
    session.console.show(answer)
    return answer.code


def run_history(session: Session) -> Code:
    """What was decided about an adapter, newest last."""
    cluster = session.connect()
    _, adapter = find_adapter(cluster, session.namespace(cluster), session.option("adapter"))
    tier = session.option("tier")
    if tier and adapter.state(tier) is None:
        tiers = ", ".join(one.tier for one in adapter.states) or "none"
        raise NotFound(f"the status of {adapter.meta.name} speaks of no tier {tier}; of these it does: {tiers}")
    session.console.show(view_history(adapter, tier=tier))
    return Code.FINE


def run_matrix(session: Session) -> Code:
    """What each engine pod holds, by its agent's own word."""
    cluster = session.connect()
    world = session.world(cluster)
    tier, archetype = session.option("tier"), session.option("archetype")
    heard = hear(cluster, world, tier=tier)
    require_archetype(world, heard, archetype)
    answer = view_matrix(world, heard, archetype=archetype, tier=tier, now=session.now())
    session.console.show(answer)
    return answer.code


def run_diff(session: Session) -> Code:
    """Where pods hold something else than specs want."""
    cluster = session.connect()
    world = session.world(cluster)
    tier, archetype = session.option("tier"), session.option("archetype")
    heard = hear(cluster, world, tier=tier)
    require_archetype(world, heard, archetype)
    answer = view_diff(world, heard, archetype=archetype, tier=tier)
    session.console.show(answer)
    return answer.code


def hear(cluster: Cluster, world: World, *, tier: str = "") -> tuple[Heard, ...]:
    """Ask the agents of the namespace's engine pods, several at once."""
    if tier and world.tier(tier) is None:
        raise NotFound(f"there is no GpuTier {tier} in namespace {world.namespace}", step="kubectl get gput")
    for one in world.unread:
        if one.what == "pods" and one.refused:
            raise CliError(one.why, Code.FORBIDDEN, step=f"kubectl auth can-i list pods -n {world.namespace}")
        if one.what == "pods":
            raise NoCluster(one.why, step="kubectl cluster-info")
    pods = engine_pods(world, [one for one in world.tiers if tier in ("", one.meta.name)])
    if not pods:
        return ()
    reports = ask_agents(cluster, read_access(cluster, world.namespace), pods)
    heard = []
    for pod in pods:
        report = reports[pod.meta.name]
        if isinstance(report, CliError):
            heard.append(Heard(pod, None, clip(str(report))))
        else:
            heard.append(Heard(pod, report))
    return tuple(heard)


def require_archetype(world: World, heard: tuple[Heard, ...], archetype: str) -> None:
    """A name that is mistyped must not look like one that is nowhere. Raises NotFound."""
    held = {report.archetype for one in heard if one.report is not None for report in one.report.adapters}
    if archetype and archetype not in held | {one.archetype for one in world.adapters}:
        raise NotFound(
            f"there is no archetype {archetype} in namespace {world.namespace}",
            step=f"kubectl npc status -n {world.namespace}",
        )
