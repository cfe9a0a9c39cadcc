"""approve, rollback, quarantine, pause and resume: fields of specs, changed with the caller's own rights.

Each object is read, the change decided purely and written as one patch, which is refused if somebody was faster: then
it is read and decided again. What was changed is shown field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import parse, paths
from ..answers import Code
from ..changes.approving import plan_approval
from ..changes.digests import digests_of, match_digest
from ..changes.owners import MANAGER, Keeper, find_keeper
from ..changes.plan import Change, NotDone, Plan, said, with_notes
from ..changes.quarantining import plan_quarantine, plan_release
from ..changes.rolling_back import plan_rollback
from ..changes.suspending import plan_suspension
from ..facts import Adapter, Region
from ..ports import CliError, Cluster, Conflict, NotFound, Object
from ..views.changes import view_plan
from .finding import find_adapter, find_thing, look_around, read_adapters
from .session import Session

ATTEMPTS = 5
"""How often a change is decided anew when somebody else was faster."""


def run_approve(session: Session) -> Code:
    """spec.rollout.approvedDigest becomes the candidate, or a named digest."""
    cluster = session.connect()
    namespace = session.namespace(cluster)

    def make() -> Plan:
        raw, adapter = find_adapter(cluster, namespace, session.option("adapter"))
        around = look_around(session, cluster, namespace)
        return with_notes(plan_approval(raw, adapter, digest=session.option("digest"), around=around), around.unread)

    return carry_out(session, cluster, make)


def run_rollback(session: Session) -> Code:
    """An earlier digest comes back into the spec."""
    cluster = session.connect()
    namespace = session.namespace(cluster)

    def make() -> Plan:
        raw, adapter = find_adapter(cluster, namespace, session.option("adapter"))
        around = look_around(session, cluster, namespace)
        plan = plan_rollback(raw, adapter, tier=session.option("tier"), to=session.option("to"), around=around)
        return with_notes(plan, around.unread)

    return carry_out(session, cluster, make)


def run_quarantine(session: Session) -> Code:
    """A digest that nothing may use, or may use again."""
    if session.option("region") and session.option("adapter"):
        raise CliError("name an adapter or --region, not both", Code.USAGE)
    cluster = session.connect()
    return carry_out(session, cluster, lambda: _quarantine(session, cluster, session.namespace(cluster)))


def _quarantine(session: Session, cluster: Cluster, namespace: str) -> Plan:
    every = read_adapters(cluster, namespace)
    adapters = [one for _, one in every]
    region = _region(session, cluster, namespace)
    known = {digest for one in adapters for digest in digests_of(one)} | set(region[1].quarantined if region else ())
    digest = match_digest(session.option("digest"), known)
    raw: Object
    thing: Adapter | Region
    if session.option("region"):
        if region is None:
            raise NotFound(f"there is no NPCRegion in namespace {namespace}", step="kubectl get npcr -A")
        raw, thing = region
    elif session.option("adapter"):
        raw, thing = find_adapter(cluster, namespace, session.option("adapter"))
    else:
        raw, thing = _only_user(every, digest)
    if session.option("remove"):
        others = [one.meta.name for one in adapters if digest in one.quarantined]
        others += [f"region {region[1].meta.name}"] if region is not None and digest in region[1].quarantined else []
        own = f"region {thing.meta.name}" if isinstance(thing, Region) else thing.meta.name
        return plan_release(raw, thing, digest, [one for one in others if one != own])
    return plan_quarantine(raw, thing, digest, adapters if isinstance(thing, Region) else [thing])


def _only_user(every: Sequence[tuple[Object, Adapter]], digest: str) -> tuple[Object, Adapter]:
    """The one adapter that knows the digest: a list that names a stranger's digest protects nobody."""
    users = [(raw, one) for raw, one in every if digest in digests_of(one)]
    if len(users) == 1:
        return users[0]
    names = ", ".join(one.meta.name for _, one in users)
    found = f"{len(users)} adapters know {digest}: {names}" if users else f"no adapter here knows {digest}"
    raise NotDone(found, step="name the adapter, or --region for every voice of the region")


def run_pause(session: Session) -> Code:
    """Nothing changes any more; what serves goes on."""
    return _suspend(session, suspend=True)


def run_resume(session: Session) -> Code:
    """Changes go on."""
    return _suspend(session, suspend=False)


def _suspend(session: Session, *, suspend: bool) -> Code:
    cluster = session.connect()
    namespace = session.namespace(cluster)

    def make() -> Plan:
        found = find_thing(cluster, namespace, session.option("target"))
        return plan_suspension(found.raw, found.kind, found.target.thing, suspend=suspend)

    return carry_out(session, cluster, make)


def carry_out(session: Session, cluster: Cluster, make: Callable[[], Plan]) -> Code:
    """Decide, ask where players hear it at once and a person is there, write, and show what was changed.

    Raises CliError, also where a tool keeps a field.
    """
    dry_run = bool(session.option("dry_run"))
    agreed: tuple[Change, ...] = ()
    attempt = 1
    while True:
        plan = _decided(make)
        keeper = find_keeper(plan.target, plan.changes)
        if not plan.changes:
            break
        if keeper is not None and not session.option("anyway"):
            step = f"change it {keeper.where}; to do it here and now too: --anyway"
            raise CliError(_kept(plan, keeper), Code.REFUSED, step=step)
        if plan.question and not dry_run and agreed != plan.changes:
            _ask(session, plan)
            agreed = plan.changes
        path = paths.own(plan.kind, plan.namespace, plan.name)
        try:
            cluster.patch(path, plan.patch(), manager=MANAGER, dry_run=dry_run)
            break
        except Conflict:
            if attempt == ATTEMPTS:
                raise
            attempt += 1
    notes = (f"{_kept(plan, keeper)}: change it {keeper.where} too",) if keeper is not None else ()
    session.console.show(view_plan(plan, notes=notes, dry_run=dry_run))
    return Code.FINE


def _decided(make: Callable[[], Plan]) -> Plan:
    try:
        return make()
    except NotDone as refused:
        raise CliError(str(refused), refused.code, step=refused.step) from None


def _kept(plan: Plan, keeper: Keeper) -> str:
    fields = ", ".join(keeper.fields)
    verb, them = ("belongs", "it") if len(keeper.fields) == 1 else ("belong", "them")
    return f"{fields} of {plan.kind} {plan.name} {verb} to {keeper.manager}, which sets {them} again {keeper.when}"


def _ask(session: Session, plan: Plan) -> None:
    """Whoever pipes or scripts this has decided already; a person at a terminal is asked."""
    if session.option("yes") or not session.console.has_person():
        return
    for one in plan.changes:
        session.console.note(f"{plan.kind} {plan.name}: {one.name}: {said(one.before)} -> {said(one.after)}")
    session.console.note(plan.question)
    if not session.console.ask("do it?"):
        raise CliError("nothing was changed: nobody said yes", Code.DECLINED, step="answer y, or give --yes")


def _region(session: Session, cluster: Cluster, namespace: str) -> tuple[Object, Region] | None:
    try:
        raw = session.region(cluster, namespace)
    except NotFound:
        return None
    return raw, parse.parse_region(raw)
