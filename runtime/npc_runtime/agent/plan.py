"""What to do next, as a pure function of what is known.

Each rule looks at one adapter alone, in order of importance, and gives at most one step; bounds are applied at the end.
So one adapter's trouble never stands in another's way, and the same facts always give the same steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..wire import IMPORTANCE_ORDER, DesiredAdapter
from .errors import Reason
from .facts import Base, Facts, Failure, Stage, identity

BOUNDS: Mapping[Stage, int] = {Stage.FETCH: 4, Stage.INSPECT: 2, Stage.LOAD: 4, Stage.PROBE: 4, Stage.UNLOAD: 1}
"""Steps of one kind at a time. The engine does loads one by one, so a few on their way keep it busy; probes of what is
loaded already overlap with them.
"""

DRAIN_GRACE_SECONDS = 2.0
"""How long an adapter stays loaded after it left the routes: requests on their way when a gateway heard of it."""

BACKOFF_FIRST, BACKOFF_LAST = 1.0, 30.0
"""Seconds between tries: doubling from the first to the last, with jitter added by the caller."""

ENGINE_TRIES = 5
"""Failed loads of an adapter that passed inspection after which this engine process is not asked again: vLLM says 500
to permanent faults too.
"""

UNLOAD_TRIES = 3
"""Failed unloads of a name after which its slot is not waited for: one that the engine will not give up must not stop
every load of its pod. It is tried again, ever more rarely.
"""

# What failed to be inspected is fetched anew: both wait for the same time, or a full disk would be a busy loop.
_DISK_STAGES = frozenset({Stage.FETCH, Stage.INSPECT})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to start now for one served name."""

    stage: Stage
    name: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A desired entry that can be told to be impossible without trying."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to start now, steps that only wait for a place, entries to refuse, names that begin to drain, and when to
    look again at the latest (None: when something changes).
    """

    steps: tuple[Step, ...]
    waiting: tuple[Step, ...]
    refused: tuple[Refuse, ...]
    drain: tuple[str, ...]
    wake_at: float | None


def decide(facts: Facts) -> Plan:
    """The next steps towards the desired set."""
    if facts.desired is None:
        return Plan((), (), (), (), None)
    refused: list[Refuse] = []
    ready: list[Step] = []
    wakes: list[float] = []
    begin: list[str] = []
    for adapter in in_order(facts.desired):
        if refuse := _refusal(facts, adapter):
            refused.append(refuse)
        elif due := _due(facts, adapter):
            _sort_in(facts, adapter.served_name, due, ready, wakes)
    for name in draining_names(facts):
        if name in facts.busy:
            continue
        if name not in facts.draining_since:
            begin.append(name)
            wakes.append(facts.now + DRAIN_GRACE_SECONDS)
        else:
            _sort_in(facts, name, (Stage.UNLOAD, _drained_at(facts, name)), ready, wakes)
    steps, waiting = _bounded(facts, ready)
    return Plan(tuple(steps), tuple(waiting), tuple(refused), tuple(begin), min(wakes, default=None))


def next_step(facts: Facts, name: str, adapter: DesiredAdapter | None) -> Step | None:
    """What may start for one name now by the rules of `decide`, if a place is free; `adapter` is its desired entry,
    None when it has none.
    """
    if facts.desired is None or name in facts.busy:
        return None
    if adapter is None:
        path = facts.engine.listed.get(name, "")
        drained = path.startswith(facts.owned) and name in facts.draining_since
        return Step(Stage.UNLOAD, name) if drained and _drained_at(facts, name) <= facts.now else None
    if _refusal(facts, adapter):
        return None
    due = _due(facts, adapter)
    if due is None or due[1] > facts.now or (due[0] is Stage.LOAD and not slot_is_free(facts)):
        return None
    return Step(due[0], name)


def in_order(adapters: Iterable[DesiredAdapter]) -> list[DesiredAdapter]:
    """Who comes first where there is room for some only."""
    return sorted(adapters, key=lambda adapter: IMPORTANCE_ORDER[adapter.importance])


def slot_is_free(facts: Facts, *, loading: int | None = None) -> bool:
    """Whether one more adapter may be loaded beside what the engine holds and `loading` others (unset: those that are
    being loaded).

    What drains still holds its slot. An engine that is handed more than it has slots evicts whichever it likes, so a
    load waits for what is about to go; where nothing is, or the engine will not let it go, waiting would not help, and
    the report says that it is over.
    """
    if loading is None:
        loading = sum(stage is Stage.LOAD for stage in facts.busy.values())
    if len(facts.engine.listed) + loading < facts.slots:
        return True
    return not leaving_names(facts)


def draining_names(facts: Facts) -> tuple[str, ...]:
    """Ours in the engine, wanted by nobody."""
    if facts.desired is None:
        return ()
    wanted = {adapter.served_name for adapter in facts.desired}
    return tuple(
        name for name, path in facts.engine.listed.items() if name not in wanted and path.startswith(facts.owned)
    )


def leaving_names(facts: Facts) -> tuple[str, ...]:
    """What drains and can be expected to go: whose slots are worth waiting for."""
    return tuple(name for name in draining_names(facts) if not is_stuck(facts, name))


def is_stuck(facts: Facts, name: str) -> bool:
    """Whether the engine has failed to unload this so often that nobody waits for its slot."""
    failure = unload_failure(facts, name)
    return failure is not None and failure.attempts >= UNLOAD_TRIES


def unload_failure(facts: Facts, name: str) -> Failure | None:
    """The last failed unload of this name by the present engine process."""
    failure = facts.unload_failures.get(name)
    return failure if failure is not None and failure.instance == facts.engine.instance else None


def current_failure(facts: Facts, adapter: DesiredAdapter) -> Failure | None:
    """The last failure, if it still means anything: for this entry and, in engine stages, this engine process."""
    failure = facts.failures.get(adapter.served_name)
    if failure is None or failure.wanted != identity(adapter):
        return None
    if failure.instance and failure.instance != facts.engine.instance:
        return None
    return failure


def is_hopeless(facts: Facts, name: str, failure: Failure | None) -> bool:
    """Whether a failure is for good. What is proven serves on whatever becomes of its folder: its bytes are in the
    engine, and only they were asked for.
    """
    return failure is not None and failure.permanent and not (failure.stage in _DISK_STAGES and facts.proven(name))


def backoff(attempts: int, jitter: float) -> float:
    """Seconds until the next try after `attempts` failed ones; `jitter` in [0, 1) spreads them by up to a quarter."""
    return min(BACKOFF_LAST, BACKOFF_FIRST * 2.0 ** min(attempts - 1, 10)) * (1 + jitter / 4)


def _refusal(facts: Facts, adapter: DesiredAdapter) -> Refuse | None:
    """An entry that contradicts what is there: another's bytes under the name, or a rank nobody may have. What is
    proven stays so whatever is declared later: lines run on it.
    """
    name = adapter.served_name
    folder = facts.disk.get(adapter.digest)
    listed = facts.engine.listed.get(name)
    if listed is not None and name not in facts.busy and listed != _path(facts, adapter):
        return Refuse(name, Reason.NAME_CLASH, f"the engine serves other bytes under this name, from {listed}")
    if folder is not None and folder.max_rank > min(adapter.rank, facts.max_rank) and not facts.proven(name):
        limit = min(adapter.rank, facts.max_rank)
        return Refuse(name, Reason.RANK_TOO_HIGH, f"rank {folder.max_rank}, at most {limit} is declared or served here")
    return None


def _due(facts: Facts, adapter: DesiredAdapter) -> tuple[Stage, float] | None:
    """What this adapter needs next and from when on; None when there is nothing, or something is being done."""
    name = adapter.served_name
    if name in facts.busy:
        return None
    failure = current_failure(facts, adapter)
    stage = _next_stage(facts, adapter, failure)
    return None if stage is None else (stage, _not_before(facts, name, stage, failure))


def _sort_in(facts: Facts, name: str, due: tuple[Stage, float], ready: list[Step], wakes: list[float]) -> None:
    stage, not_before = due
    if not_before <= facts.now:
        ready.append(Step(stage, name))
    else:
        wakes.append(not_before)


def _next_stage(facts: Facts, adapter: DesiredAdapter, failure: Failure | None) -> Stage | None:
    """What this adapter needs next; None when it has all, can get no further now, or is refused."""
    name = adapter.served_name
    if is_hopeless(facts, name, failure):
        # What the engine holds of a refused adapter only takes its room.
        return Stage.UNLOAD if name in facts.engine.listed and facts.engine.ready else None
    if adapter.digest not in facts.disk:
        if adapter.digest in facts.busy_digests:
            return None
        if adapter.digest in facts.staged:
            return None if facts.base is Base.PENDING else Stage.INSPECT
        return None if name in facts.credentials_lost else Stage.FETCH
    if not facts.engine.ready or facts.proven(name):
        return None
    return Stage.PROBE if name in facts.engine.listed else Stage.LOAD


def _not_before(facts: Facts, name: str, stage: Stage, failure: Failure | None) -> float:
    if stage is Stage.UNLOAD:
        return _unload_not_before(facts, name)
    if failure is None or (failure.stage in _DISK_STAGES) != (stage in _DISK_STAGES):
        return 0.0
    return failure.retry_at


def _drained_at(facts: Facts, name: str) -> float:
    """When what drains may be unloaded: once no line runs, at the latest after the drain time."""
    since = facts.draining_since[name]
    quiet_at = since + DRAIN_GRACE_SECONDS
    silent = facts.busy_names is not None and name not in facts.busy_names
    due = quiet_at if silent else max(since + facts.drain_seconds, quiet_at)
    return max(due, _unload_not_before(facts, name))


def _unload_not_before(facts: Facts, name: str) -> float:
    failure = unload_failure(facts, name)
    return failure.retry_at if failure is not None else 0.0


def _bounded(facts: Facts, ready: Iterable[Step]) -> tuple[list[Step], list[Step]]:
    """As many steps of each kind as may run beside those that do, one fetch or inspection per digest; and the rest."""
    running = Counter(facts.busy.values())
    digests = {adapter.served_name: adapter.digest for adapter in facts.desired or ()}
    taken: set[str] = set(facts.busy_digests)
    steps: list[Step] = []
    waiting: list[Step] = []
    full = {stage for stage, bound in BOUNDS.items() if running[stage] >= bound}
    for step in ready:
        on_disk = step.stage in _DISK_STAGES
        if step.stage is Stage.LOAD and step.stage not in full and not slot_is_free(facts, loading=running[Stage.LOAD]):
            full.add(step.stage)
        if step.stage in full or (on_disk and digests[step.name] in taken):
            waiting.append(step)
            continue
        if on_disk:
            taken.add(digests[step.name])
        running[step.stage] += 1
        if running[step.stage] >= BOUNDS[step.stage]:
            full.add(step.stage)
        steps.append(step)
    return steps, waiting


def _path(facts: Facts, adapter: DesiredAdapter) -> str:
    return f"{facts.owned}{adapter.digest.removeprefix('sha256:')}"
