"""Moving one tier's traffic for one voice from the stable digest to the candidate, all at once.

The candidate loads beside the stable digest on every pod with a ready engine; only when all of them have proven it does
it become stable. A pod that cannot get it holds the move and is named, and the old digest serves on. Everything is
decided from what is observed now, so a new leader goes on where the last one stopped; if the status was lost, what the
agents serve is stable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from npc_operator.api.archetypeadapter import HistoryEntry, Revision, VariantStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, clip, join_messages, parse_rfc3339, rfc3339
from npc_operator.domain.engines import Engine
from npc_operator.domain.holdings import Held
from npc_operator.domain.progress import coarse_share, describe_bytes
from npc_runtime.wire import AdapterPhase, served_name

HISTORY = 10
"""Entries of history kept per variant (the schema's bound)."""


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """Everything the decision about one variant looks at."""

    archetype: str
    tier: str
    wanted: Revision
    """What the spec names."""
    status: VariantStatus | None
    engines: Sequence[Engine]
    """Pods of the tier whose engine counts as ready."""
    serving: Sequence[tuple[str, Held]] = ()
    """(pod, report) of every adapter of this archetype that is on those pods; looked at only while there is no stable
    digest.
    """
    fault: Finding | None = None
    """Why the spec's digest must not be brought in; what is stable goes on."""
    left_out: Finding | None = None
    """Why nothing of the voice has a slot, so that what is stable leaves the routes and the pods."""
    waiting: Finding | None = None
    """Why it cannot be brought in before a person does something."""
    queued: Finding | None = None
    """Why it cannot be brought in yet, which ends by itself."""
    unread: Finding | None = None
    """What was not looked at yet: the digests stay as they are, nothing is begun."""
    load_timeout_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Decision:
    """What one variant's status becomes, and what there is to say about it."""

    status: VariantStatus
    ready: bool | None
    why: Finding
    reconciling: Finding | None = None
    stalled: Finding | None = None
    moved_from: str | None = None
    """The digest that was stable before, if traffic moves now; empty for the first."""
    requeue_after: float | None = None


def decide_rollout(facts: RolloutFacts, now: float) -> Decision:
    """The next state of one variant."""
    before = facts.status or VariantStatus(tier=facts.tier)
    stable, history = before.stable, before.history
    if stable is None and (adopted := pick_adopted(facts)) is not None:
        stable = adopted
        history = _remember(history, adopted, "", reasons.ADOPTED, now)
    if facts.fault is not None:
        return _settle(facts, before, stable=stable, candidate=None, history=history, stalled=facts.fault)
    if stable is not None and stable.digest == facts.wanted.digest:
        # The same bytes: only where they come from may have changed.
        return _settle(facts, before, stable=facts.wanted, candidate=None, history=history)
    if stable is not None and served_name(facts.archetype, stable.digest) == served_name(
        facts.archetype, facts.wanted.digest
    ):
        clash = Finding(
            reasons.SERVED_NAME_CLASH,
            f"digest {facts.wanted.digest} begins like the stable {stable.digest}; change any byte of the adapter",
        )
        return _settle(facts, before, stable=stable, candidate=None, history=history, stalled=clash)
    if facts.unread is not None:
        # A new leader has read nothing at first; what the last one had under way is neither dropped nor begun again.
        return _settle(
            facts,
            before,
            stable=stable,
            candidate=before.candidate,
            history=history,
            since=parse_rfc3339(before.candidate_since),
            reconciling=facts.unread,
        )
    same = before.candidate is not None and before.candidate.digest == facts.wanted.digest
    since = (parse_rfc3339(before.candidate_since) if same else None) or now
    if facts.left_out or facts.waiting or facts.queued:
        # Without `since`: what has no slot is not late, and its time begins when it has one.
        return _settle(
            facts,
            before,
            stable=stable,
            candidate=facts.wanted,
            history=history,
            stalled=facts.waiting,
            reconciling=facts.queued,
        )
    return _advance(facts, before, stable, history, since, now)


def pick_adopted(facts: RolloutFacts) -> Revision | None:
    """Of the digests that pods serve although no status knows them, the one on most pods; the spec's own takes the
    ordinary way.
    """
    resident = Counter(report.digest for _, report in facts.serving if report.phase is AdapterPhase.RESIDENT)
    resident.pop(facts.wanted.digest, None)
    if not resident or _all_have(facts, facts.wanted.digest):
        return None
    digest = max(resident, key=lambda one: (resident[one], one))
    known = {entry.digest: entry.uri for entry in (facts.status.history if facts.status else ())}
    return Revision(digest=digest, uri=known.get(digest, ""), rank=facts.wanted.rank)


def _all_have(facts: RolloutFacts, digest: str) -> bool:
    name = served_name(facts.archetype, digest)
    return bool(facts.engines) and all(engine.proven(name) for engine in facts.engines)


def _advance(
    facts: RolloutFacts,
    before: VariantStatus,
    stable: Revision | None,
    history: tuple[HistoryEntry, ...],
    since: float,
    now: float,
) -> Decision:
    """A candidate is on its way: move, hold or wait."""
    wanted = facts.wanted
    if _all_have(facts, wanted.digest):
        previous = stable.digest if stable is not None else ""
        reason = reasons.MOVED if previous else reasons.FIRST
        return _settle(
            facts,
            before,
            stable=wanted,
            candidate=None,
            history=_remember(history, wanted, previous, reason, now),
            moved_from=previous,
        )
    held, deadline = find_holder(facts, since, now)
    return _settle(
        facts,
        before,
        stable=stable,
        candidate=wanted,
        history=history,
        since=since,
        stalled=held,
        reconciling=describe_progress(facts),
        requeue_after=None if deadline is None else max(0.0, deadline - now),
    )


def find_holder(facts: RolloutFacts, since: float, now: float) -> tuple[Finding | None, float | None]:
    """The pod that holds the move for good or for too long, and the next time at which that has to be asked again."""
    name = served_name(facts.archetype, facts.wanted.digest)
    refused: list[tuple[str, str]] = []
    late: list[tuple[str, str]] = []
    deadlines: list[float] = []
    for engine in facts.engines:
        report = engine.report(name)
        if report is not None and report.phase is AdapterPhase.REFUSED:
            refused.append((report.reason or reasons.LOAD_TIMEOUT, f"pod {engine.pod.name}: {_quote(report)}"))
        elif not engine.proven(name):
            due = max(since, engine.ready_since()) + facts.load_timeout_seconds
            if due <= now:
                late.append((reasons.LOAD_TIMEOUT, f"pod {engine.pod.name}: {_why_late(engine, report)}"))
            else:
                deadlines.append(due)
    found = refused or late
    if not found:
        return None, min(deadlines, default=None)
    advice = "correct the source or the digest" if refused else f"not proven within {facts.load_timeout_seconds} s"
    message = f"tier {facts.tier}: {join_messages(text for _, text in found)} ({advice}; the stable digest serves on)"
    return Finding(found[0][0], message), min(deadlines, default=None)


def _why_late(engine: Engine, report: Held | None) -> str:
    if engine.agent is None or not engine.agent.reachable:
        return "its agent is not heard"
    if report is None:
        return "its agent has not begun with it"
    return _quote(report) if report.reason else ": ".join(filter(None, (f"still {report.phase.value}", report.message)))


def _quote(report: Held) -> str:
    """An agent's own words; it may have given no reason, or nothing beside it."""
    return ": ".join(filter(None, (report.reason, report.message))) or report.phase.value


def describe_progress(facts: RolloutFacts) -> Finding:
    """What the candidate waits for."""
    if not facts.engines:
        return Finding(reasons.NO_READY_ENGINE, f"tier {facts.tier}: no pod has a ready engine yet")
    name = served_name(facts.archetype, facts.wanted.digest)
    unheard = [engine.pod.name for engine in facts.engines if engine.agent is None]
    if unheard:
        return Finding(
            reasons.AGENT_UNKNOWN, f"tier {facts.tier}: the agent of {join_messages(unheard)} has not been heard yet"
        )
    retrying = [
        f"pod {engine.pod.name}: {_quote(report)}"
        for engine in facts.engines
        if (report := engine.report(name)) is not None and report.phase is AdapterPhase.RETRYING
    ]
    if retrying:
        return Finding(reasons.RETRYING, f"tier {facts.tier}: {join_messages(retrying)}")
    proven = sum(engine.proven(name) for engine in facts.engines)
    fetching = [
        (coarse_share(report.done_bytes, report.total_bytes), engine.pod.name, report)
        for engine in facts.engines
        if (report := engine.report(name)) is not None and report.phase is AdapterPhase.FETCHING
    ]
    text = f"tier {facts.tier}: {name} is proven on {proven} of {len(facts.engines)} pods"
    if fetching:
        _, pod, report = min(fetching, key=lambda one: one[:2])
        text += f"; pod {pod} fetches it: {describe_bytes(report.done_bytes, report.total_bytes)}"
    return Finding(reasons.LOADING, text)


def _settle(
    facts: RolloutFacts,
    before: VariantStatus,
    *,
    stable: Revision | None,
    candidate: Revision | None,
    history: tuple[HistoryEntry, ...],
    since: float | None = None,
    stalled: Finding | None = None,
    reconciling: Finding | None = None,
    moved_from: str | None = None,
    requeue_after: float | None = None,
) -> Decision:
    """Count, and say what serves."""
    stalled = stalled if facts.left_out is None or facts.fault is not None else facts.left_out
    newest = candidate or stable or facts.wanted
    newest_name = served_name(facts.archetype, newest.digest)
    ready, why = _what_serves(facts, stable)
    if ready is not True and reconciling is None and stalled is None and stable is not None:
        reconciling = why
    said = stalled or reconciling or (why if ready is not True else None)
    status = VariantStatus(
        tier=facts.tier,
        stable=stable,
        candidate=candidate,
        candidate_since="" if candidate is None or since is None else _same_time(before, since),
        percent=100 if stable is not None and stable.digest == facts.wanted.digest and not facts.left_out else 0,
        resident_replicas=sum(engine.proven(newest_name) for engine in facts.engines),
        wanted_replicas=len(facts.engines),
        reason=said.reason if said is not None else reasons.SERVING,
        message=clip(said.message, 1024) if said is not None else "",
        history=history,
    )
    return Decision(status, ready, why, reconciling, stalled, moved_from, requeue_after)


def _same_time(before: VariantStatus, since: float) -> str:
    # Whole seconds are written, so the text already there is kept instead of being rounded again.
    return before.candidate_since if parse_rfc3339(before.candidate_since) == since else rfc3339(since)


def _what_serves(facts: RolloutFacts, stable: Revision | None) -> tuple[bool | None, Finding]:
    """Whether the stable digest is proven on every pod that counts."""
    if stable is None:
        return False, facts.fault or facts.left_out or facts.waiting or facts.queued or describe_progress(facts)
    if facts.left_out is not None:
        return False, facts.left_out
    if not facts.engines:
        return False, Finding(reasons.NO_READY_ENGINE, f"tier {facts.tier}: no pod has a ready engine")
    name = served_name(facts.archetype, stable.digest)
    # A pod that has just joined is unready until its adapters are proven: until then it takes nothing away from what
    # serves.
    serving = [engine for engine in facts.engines if engine.pod.ready or engine.proven(name)]
    missing = [
        engine.pod.name for engine in serving or facts.engines if engine.agent is not None and not engine.proven(name)
    ]
    if missing:
        return False, Finding(reasons.LOADING, f"tier {facts.tier}: {name} is not proven on {join_messages(missing)}")
    unheard = [engine.pod.name for engine in serving if engine.agent is None]
    if len(unheard) == len(serving):
        message = f"tier {facts.tier}: the agent of {join_messages(unheard)} has not been heard yet"
        return None, Finding(reasons.AGENT_UNKNOWN, message)
    return True, Finding(reasons.SERVING, f"tier {facts.tier}: {name} is proven on every ready pod")


def _remember(
    history: tuple[HistoryEntry, ...], stable: Revision, previous: str, reason: str, now: float
) -> tuple[HistoryEntry, ...]:
    entry = HistoryEntry(time=rfc3339(now), digest=stable.digest, uri=stable.uri, previous=previous, reason=reason)
    return (entry, *history)[:HISTORY]


def freeze(facts: RolloutFacts, by: str) -> Decision:
    """Suspended `by` the voice itself, its tier or its region: the digests stay, only the counts follow what is
    observed."""
    before = facts.status or VariantStatus(tier=facts.tier)
    return _settle(
        facts,
        before,
        stable=before.stable,
        candidate=before.candidate,
        history=before.history,
        since=parse_rfc3339(before.candidate_since),
        stalled=Finding(
            reasons.SUSPENDED, f"spec.suspend of {by} is true: what is resident serves on, nothing changes"
        ),
    )
