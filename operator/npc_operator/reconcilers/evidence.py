"""What the gateways saw of every candidate, added up over all of them and over those that are gone.

A gateway counts from the moment it first saw a pair of digests in one attempt, and begins at 0 again when its process
does. So a run is one process with one pair; when another run takes its place, or its pod is gone, what it said last is
kept in the sum. Nothing is kept longer than its adapter has that candidate. The answers of a step are counted from what
was known when the step began; what was counted before a gateway was first heard belongs to no step, because nobody can
say when it was. What is said of another attempt than the present one says nothing of this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from npc_operator.domain.analysis.evidence import Evidence, Side
from npc_operator.domain.facts import Adapter, GatewayFact, Pod
from npc_operator.loop.store import Change, Store
from npc_runtime.wire import AnswerCounts, RolloutReport

Mark = tuple[str, int]
"""Which step a candidate is in: when it began (RFC 3339, empty before the first), and its number."""
Place = tuple[str, str, str, str]
"""Namespace, archetype, tier, digest of the candidate."""

LISTENING_SECONDS = 30.0
"""How long a gateway process must have been heard before its lowest NPC counts: the first that speaks to one that has
just started may be any, and a share that was raised to it would be nearly everybody."""

_SIDE = ("requests", "probes", "errors", "truncated", "empty", "mismatched")
_TIMES = ("pairs", "slower", "timed", "over_limit")
_NOTHING = (0,) * (2 * len(_SIDE) + len(_TIMES))
_CANDIDATE_REQUESTS = 0
_STABLE_REQUESTS = len(_SIDE)
Tally = tuple[int, ...]


@dataclass(slots=True)
class _Run:
    """One gateway process with one pair of digests."""

    uid: str
    boot_id: str
    stable: str
    begin: Tally
    """What it had counted for an earlier rollout of the same pair."""
    last: Tally
    at_step: int
    """Answers of the candidate that it had counted when the present step began."""
    lowest: int | None = None
    npcs: int = 0
    since: float | None = None
    """When this leader first looked at it (monotonic seconds)."""

    def counted(self) -> Tally:
        return _less(self.last, self.begin)

    def look(self, now: float) -> float:
        """For how many seconds it has been looked at."""
        self.since = now if self.since is None else self.since
        return now - self.since

    def in_step(self) -> int:
        return self.last[_CANDIDATE_REQUESTS] - self.at_step


@dataclass(slots=True)
class _Case:
    """One candidate of one archetype on one tier."""

    attempt: int
    mark: Mark
    runs: dict[str, _Run] = field(default_factory=dict)
    """By gateway pod."""
    left: set[Mark] = field(default_factory=set)
    """Steps that are over."""
    past: Tally = _NOTHING
    """Of runs that ended."""
    past_in_step: int = 0
    npcs: int = 0
    """Of the run with the most: gateways hear the same characters, so theirs are no sum."""
    first_bad_ms: int | None = None
    withdrawn: str = ""

    def end(self, pod: str) -> None:
        run = self.runs.pop(pod, None)
        if run is not None:
            self.past = _plus(self.past, run.counted())
            self.past_in_step += run.in_step()
            self.npcs = max(self.npcs, run.npcs)

    def begin_step(self, mark: Mark) -> None:
        """News of a step that is over is late. Clocks do not say which that is: they differ, and are set back."""
        if mark == self.mark or mark in self.left:
            return
        self.left.add(self.mark)
        self.mark, self.past_in_step = mark, 0
        for run in self.runs.values():
            run.at_step = run.last[_CANDIDATE_REQUESTS]


class Ledger:
    """All present candidates. Reads the store once; is told of every change after that. Lives as long as one
    leadership."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cases: dict[Place, _Case] = {}
        for namespace, name, adapter in store.items(Adapter):
            self._on_adapter(Change(Adapter, namespace, name, None, adapter))

    def note(self, change: Change) -> None:
        """A fact changed."""
        if change.kind is Adapter:
            self._on_adapter(change)
        elif change.kind is GatewayFact and change.new is not None:
            self._on_gateway(change)
        elif change.kind is Pod and change.new is None:
            for place, case in self._cases.items():
                if place[0] == change.namespace:
                    case.end(change.name)

    def evidence(
        self,
        namespace: str,
        archetype: str,
        tier: str,
        candidate: str,
        *,
        now: float,
        mark: Mark | None = None,
        listening: float = LISTENING_SECONDS,
    ) -> Evidence:
        """Everything known of a candidate (a digest) until `now` (monotonic). `mark` is the step that the caller knows
        it to be in, where that may be news; a step that just began has no answers yet. `listening`: after how many
        seconds a gateway's lowest NPC counts."""
        case = self._cases.get((namespace, archetype, tier, candidate))
        if case is None:
            return Evidence()
        if mark is not None:
            case.begin_step(mark)
        total = case.past
        for run in case.runs.values():
            total = _plus(total, run.counted())
        heard = [run.lowest for run in case.runs.values() if run.look(now) >= listening and run.lowest is not None]
        times = dict(zip(_TIMES, total[2 * len(_SIDE) :], strict=True))
        return Evidence(
            candidate=Side(**dict(zip(_SIDE, total[: len(_SIDE)], strict=True))),
            stable=Side(**dict(zip(_SIDE, total[len(_SIDE) : 2 * len(_SIDE)], strict=True))),
            step_requests=case.past_in_step + sum(run.in_step() for run in case.runs.values()),
            first_bad_at=None if case.first_bad_ms is None else case.first_bad_ms / 1000,
            lowest_heard=min(heard, default=None),
            npcs=max([case.npcs, *(run.npcs for run in case.runs.values())]),
            withdrawn=case.withdrawn,
            **times,
        )

    def __len__(self) -> int:
        return len(self._cases)

    def _on_adapter(self, change: Change) -> None:
        before, after = dict(_candidates(change.namespace, change.old)), dict(_candidates(change.namespace, change.new))
        for place in before.keys() - after.keys():
            self._cases.pop(place, None)
        for place, (attempt, mark) in after.items():
            case = self._cases.get(place)
            if case is not None and case.attempt == attempt:
                case.begin_step(mark)
            else:
                self._open(place, attempt, mark, anew=change.old is not None)

    def _open(self, place: Place, attempt: int, mark: Mark, *, anew: bool) -> None:
        """`anew`: the candidate was just named, so whatever a gateway still says of it is of an earlier rollout."""
        case = self._cases[place] = _Case(attempt, mark)
        for name, fact in self._store.list(GatewayFact, place[0]).items():
            for report in fact.rollouts:
                if (report.archetype, report.tier, report.candidate, report.attempt) == (*place[1:], attempt):
                    said = _tally(report)
                    begin = said if anew else _NOTHING
                    run = _Run(fact.pod_uid, fact.boot_id, report.stable, begin, said, said[_CANDIDATE_REQUESTS])
                    case.runs[name] = run
                    if not anew:
                        _take_words(case, run, name, report)

    def _on_gateway(self, change: Change) -> None:
        fact: GatewayFact = change.new
        old: GatewayFact | None = change.old
        same_process = old is not None and (old.pod_uid, old.boot_id) == (fact.pod_uid, fact.boot_id)
        for report in fact.rollouts:
            case = self._cases.get((change.namespace, report.archetype, report.tier, report.candidate))
            if case is None or case.attempt != report.attempt:
                continue
            said = _tally(report)
            run = case.runs.get(change.name)
            if run is not None and not _goes_on(run, fact, report, said):
                case.end(change.name)
                run = None
            if run is None:
                # Of a process that was heard before it had anything to say of this pair, all of it is news.
                at_step = 0 if same_process else said[_CANDIDATE_REQUESTS]
                run = _Run(fact.pod_uid, fact.boot_id, report.stable, _NOTHING, said, at_step)
                case.runs[change.name] = run
            run.last = said
            _take_words(case, run, change.name, report)


def _candidates(namespace: str, adapter: Adapter | None) -> Iterator[tuple[Place, tuple[int, Mark]]]:
    """Every candidate with the attempt and the step that it is in."""
    for status in adapter.status.variants if adapter is not None else ():
        if adapter is not None and status.candidate is not None:
            step = status.rollout
            mark = ("", 0) if step is None else (step.since, step.step)
            yield (namespace, adapter.spec.archetype, status.tier, status.candidate.digest), (status.attempt, mark)


def _goes_on(run: _Run, fact: GatewayFact, report: RolloutReport, said: Tally) -> bool:
    """Whether a report is of the run that is known. Counts of one run never fall."""
    return (
        (run.uid, run.boot_id, run.stable) == (fact.pod_uid, fact.boot_id, report.stable)
        and said[_CANDIDATE_REQUESTS] >= run.last[_CANDIDATE_REQUESTS]
        and said[_STABLE_REQUESTS] >= run.last[_STABLE_REQUESTS]
    )


def _take_words(case: _Case, run: _Run, pod: str, report: RolloutReport) -> None:
    """What is no sum. That a gateway took the candidate off is never taken back: it was bad there."""
    run.lowest = report.lowest_heard
    run.npcs = report.npcs
    first = report.candidate_counts.first_bad_ms
    if first is not None and (case.first_bad_ms is None or first < case.first_bad_ms):
        case.first_bad_ms = first
    if report.withdrawn and not case.withdrawn:
        case.withdrawn = f"gateway {pod}: {report.withdrawn}"


def _tally(report: RolloutReport) -> Tally:
    return (
        *_side(report.candidate_counts),
        *_side(report.stable_counts),
        *(getattr(report, name) for name in _TIMES),
    )


def _side(counts: AnswerCounts) -> Tally:
    return tuple(getattr(counts, name) for name in _SIDE)


def _plus(one: Tally, other: Tally) -> Tally:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _less(one: Tally, other: Tally) -> Tally:
    return tuple(a - b for a, b in zip(one, other, strict=True))
