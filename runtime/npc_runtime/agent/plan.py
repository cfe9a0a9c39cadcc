"""What to do next, as a pure function of what is known.

Each rule looks at one adapter alone, in order of importance, and gives at most one step; bounds are applied at the end.
So one adapter's trouble never stands in another's way, and the same facts always give the same steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..wire import DesiredAdapter
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

# What failed to be inspected is fetched anew: both wait for the same time, or a full disk would be a busy loop.
_DISK_STAGES = frozenset({Stage.FETCH, Stage.INSPECT})

_IMPORTANCE = {"Critical": 0, "Normal": 1, "Ambient": 2}


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
    """Steps to start now, entries to refuse, names that begin to drain, and when to look again at the latest (None:
    when something changes).
    """

    steps: tuple[Step, ...]
    refused: tuple[Refuse, ...]
    drain: tuple[str, ...]
    wake_at: float | None


def decide(facts: Facts) -> Plan:
    """The next steps towards the desired set."""
    if facts.desired is None:
        return Plan((), (), (), None)
    wanted = {adapter.served_name: adapter for adapter in facts.desired}
    refused = tuple(_refusals(facts, wanted))
    hopeless = {item.name for item in refused}
    steps: list[Step] = []
    wakes: list[float] = []
    for adapter in sorted(facts.desired, key=lambda adapter: _IMPORTANCE[adapter.importance]):
        if adapter.served_name in hopeless or adapter.served_name in facts.busy:
            continue
        failure = current_failure(facts, adapter)
        stage = _next_stage(facts, adapter, failure)
        if stage is None:
            continue
        not_before = _not_before(facts, adapter.served_name, stage, failure)
        if not_before > facts.now:
            wakes.append(not_before)
            continue
        steps.append(Step(stage, adapter.served_name))
    drain, unload, drain_wakes = _drains(facts, wanted)
    steps.extend(unload)
    return Plan(
        steps=tuple(_bounded(facts, steps)),
        refused=refused,
        drain=drain,
        wake_at=min([*wakes, *drain_wakes], default=None),
    )


def current_failure(facts: Facts, adapter: DesiredAdapter) -> Failure | None:
    """The last failure, if it still means anything: for this entry and, in engine stages, this engine process."""
    failure = facts.failures.get(adapter.served_name)
    if failure is None or failure.wanted != identity(adapter):
        return None
    if failure.instance and failure.instance != facts.engine.instance:
        return None
    return failure


def backoff(attempts: int, jitter: float) -> float:
    """Seconds until the next try after `attempts` failed ones; `jitter` in [0, 1) spreads them by up to a quarter."""
    return min(BACKOFF_LAST, BACKOFF_FIRST * 2.0 ** min(attempts - 1, 10)) * (1 + jitter / 4)


def _refusals(facts: Facts, wanted: Mapping[str, DesiredAdapter]) -> Iterable[Refuse]:
    """Entries that contradict what is there: another's bytes under the name, or a rank nobody may have. What is proven
    stays so whatever is declared later: lines run on it.
    """
    for name, adapter in wanted.items():
        folder = facts.disk.get(adapter.digest)
        listed = facts.engine.listed.get(name)
        if listed is not None and name not in facts.busy and listed != _path(facts, adapter):
            yield Refuse(name, Reason.NAME_CLASH, f"the engine serves other bytes under this name, from {listed}")
        elif folder is not None and folder.max_rank > min(adapter.rank, facts.max_rank) and not facts.proven(name):
            limit = min(adapter.rank, facts.max_rank)
            yield Refuse(
                name, Reason.RANK_TOO_HIGH, f"rank {folder.max_rank}, at most {limit} is declared or served here"
            )


def _next_stage(facts: Facts, adapter: DesiredAdapter, failure: Failure | None) -> Stage | None:
    """What this adapter needs next; None when it has all, can get no further now, or is refused."""
    name = adapter.served_name
    if failure is not None and failure.permanent:
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
        return facts.unload_after.get(name, 0.0)
    if failure is None or (failure.stage in _DISK_STAGES) != (stage in _DISK_STAGES):
        return 0.0
    return failure.retry_at


def _drains(facts: Facts, wanted: Mapping[str, DesiredAdapter]) -> tuple[tuple[str, ...], list[Step], list[float]]:
    """Names that begin to drain, unloads that are due, and when the others may be."""
    begin: list[str] = []
    unload: list[Step] = []
    wakes: list[float] = []
    for name, path in facts.engine.listed.items():
        if name in wanted or not path.startswith(facts.owned) or name in facts.busy:
            continue
        since = facts.draining_since.get(name)
        if since is None:
            begin.append(name)
            wakes.append(facts.now + DRAIN_GRACE_SECONDS)
            continue
        quiet_at = since + DRAIN_GRACE_SECONDS
        silent = facts.busy_names is not None and name not in facts.busy_names
        due = quiet_at if silent else max(since + facts.drain_seconds, quiet_at)
        due = max(due, facts.unload_after.get(name, 0.0))
        if due <= facts.now:
            unload.append(Step(Stage.UNLOAD, name))
        else:
            wakes.append(due)
    return tuple(begin), unload, wakes


def _bounded(facts: Facts, steps: Iterable[Step]) -> Iterable[Step]:
    """As many steps of each kind as may run beside those that do; one fetch or inspection per digest."""
    running = Counter(facts.busy.values())
    digests = {adapter.served_name: adapter.digest for adapter in facts.desired or ()}
    taken: set[str] = set(facts.busy_digests)
    for step in steps:
        if running[step.stage] >= BOUNDS[step.stage]:
            continue
        if step.stage in {Stage.FETCH, Stage.INSPECT}:
            if digests[step.name] in taken:
                continue
            taken.add(digests[step.name])
        running[step.stage] += 1
        yield step


def _path(facts: Facts, adapter: DesiredAdapter) -> str:
    return f"{facts.owned}{adapter.digest.removeprefix('sha256:')}"
