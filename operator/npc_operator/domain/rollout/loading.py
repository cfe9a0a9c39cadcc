"""What pods have and what they lack: who holds a move, what it waits for, and what serves meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from npc_operator.api.archetypeadapter import Revision, VariantStatus
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, join_messages
from npc_operator.domain.engines import Engine
from npc_operator.domain.holdings import Held
from npc_operator.domain.progress import coarse_share, describe_bytes
from npc_operator.domain.rollout.facts import RolloutFacts, State
from npc_runtime.wire import AdapterPhase, served_name


def pick_adopted(facts: RolloutFacts) -> Revision | None:
    """Of the digests that pods serve although no status knows them, the one on most pods; the spec's own takes the
    ordinary way.

    Where every pod has both the spec's own and another one, nobody can say which of them was stable: a rollout in steps
    goes from the other one, which is only slower if that was wrong.
    """
    resident = Counter(report.digest for _, report in facts.serving if report.phase is AdapterPhase.RESIDENT)
    for digest in (facts.wanted.digest, *facts.quarantined, *_never_served(facts.status)):
        resident.pop(digest, None)
    if not resident:
        return None
    digest = max(resident, key=lambda one: (resident[one], one))
    in_steps = facts.rollout.strategy == "Canary" and facts.all_have(digest)
    if facts.all_have(facts.wanted.digest) and not in_steps:
        return None
    known = {entry.digest: entry.uri for entry in (facts.status.history if facts.status else ())}
    return Revision(digest=digest, uri=known.get(digest, ""), rank=facts.wanted.rank)


def _never_served(status: VariantStatus | None) -> Iterator[str]:
    """Digests of which a status that was not lost tells that they were being brought in and became nothing."""
    if status is None:
        return
    if status.candidate is not None:
        yield status.candidate.digest
    newest = {entry.digest: entry.reason for entry in reversed(status.history)}
    yield from (digest for digest, reason in newest.items() if reason == reasons.CANCELLED)


def find_blocking_pod(facts: RolloutFacts, since: float, now: float) -> tuple[Finding | None, float | None]:
    """The pod that holds the move for good or for too long, and the next time at which that has to be asked again."""
    name, timeout = facts.name(facts.wanted.digest), facts.rollout.load_timeout_seconds
    refused: list[tuple[str, str]] = []
    late: list[tuple[str, str]] = []
    deadlines: list[float] = []
    for engine in facts.engines:
        report = engine.report(name)
        if report is not None and report.phase is AdapterPhase.REFUSED:
            refused.append((report.reason or reasons.LOAD_TIMEOUT, f"pod {engine.pod.name}: {quote(report)}"))
        elif not engine.proven(name):
            due = max(since, engine.ready_since()) + timeout
            if due <= now:
                late.append((reasons.LOAD_TIMEOUT, f"pod {engine.pod.name}: {_why_late(engine, report)}"))
            else:
                deadlines.append(due)
    found = refused or late
    if not found:
        return None, min(deadlines, default=None)
    advice = "correct the source or the digest" if refused else f"not proven within {timeout} s"
    message = f"tier {facts.tier}: {join_messages(text for _, text in found)} ({advice}; the stable digest serves on)"
    return Finding(found[0][0], message), min(deadlines, default=None)


def _why_late(engine: Engine, report: Held | None) -> str:
    if engine.agent is None or not engine.agent.reachable:
        return "its agent is not heard"
    if report is None:
        return "its agent has not begun with it"
    return quote(report) if report.reason else ": ".join(filter(None, (f"still {report.phase.value}", report.message)))


def quote(report: Held) -> str:
    """An agent's own words; it may have given no reason, or nothing beside it."""
    return ": ".join(filter(None, (report.reason, report.message))) or report.phase.value


def describe_progress(facts: RolloutFacts, digest: str = "") -> Finding:
    """What a digest, the wanted one unless another is named, waits for on its way onto the pods."""
    if not facts.engines:
        return Finding(reasons.NO_READY_ENGINE, f"tier {facts.tier}: no pod has a ready engine yet")
    name = facts.name(digest or facts.wanted.digest)
    unheard = [engine.pod.name for engine in facts.engines if engine.agent is None]
    if unheard:
        return Finding(
            reasons.AGENT_UNKNOWN, f"tier {facts.tier}: the agent of {join_messages(unheard)} has not been heard yet"
        )
    retrying = [
        f"pod {engine.pod.name}: {quote(report)}"
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


def describe_serving(facts: RolloutFacts, state: State) -> tuple[bool | None, Finding]:
    """Whether what should serve is proven on every pod that counts."""
    stable = state.stable
    if stable is None:
        return False, facts.fault or facts.left_out or facts.waiting or facts.queued or describe_progress(facts)
    if facts.left_out is not None:
        return False, facts.left_out
    if state.stands_in():
        return False, describe_progress(facts, stable.digest)
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
