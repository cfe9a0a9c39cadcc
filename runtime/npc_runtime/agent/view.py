"""What the agent tells others, as pure functions of what it knows: a phase per adapter, residency, readiness."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from ..wire import AdapterPhase, AdapterReport, DesiredAdapter
from .errors import Reason
from .facts import Facts, Failure, Stage
from .plan import (
    Refuse,
    current_failure,
    draining_names,
    is_hopeless,
    is_stuck,
    leaving_names,
    slot_is_free,
    unload_failure,
)

SETTLED_ATTEMPTS = 3
"""Failed tries after which an adapter no longer holds the pod's first readiness back: one bad adapter must not block a
tier.
"""

_WORKING = {
    Stage.FETCH: AdapterPhase.FETCHING,
    Stage.INSPECT: AdapterPhase.INSPECTING,
    Stage.LOAD: AdapterPhase.LOADING,
    Stage.PROBE: AdapterPhase.PROBING,
}


def adapter_reports(facts: Facts, refused: tuple[Refuse, ...]) -> tuple[AdapterReport, ...]:
    """One report per desired adapter and per one that drains, sorted by name."""
    hopeless = {item.name: item for item in refused}
    queue = ""
    if not slot_is_free(facts):
        queue = f"waits for a slot of the engine: {len(leaving_names(facts))} that drain hold theirs"
    reports = [_desired(facts, adapter, hopeless.get(adapter.served_name), queue) for adapter in facts.desired or ()]
    reports += [_draining(facts, name) for name in draining_names(facts)]
    return tuple(sorted(reports, key=lambda report: report.served_name))


def resident_names(reports: tuple[AdapterReport, ...]) -> tuple[str, ...]:
    """Names that may get new lines: desired and proven by the present engine process."""
    return tuple(report.served_name for report in reports if report.phase is AdapterPhase.RESIDENT)


def settled(reports: tuple[AdapterReport, ...], serving: Collection[str] = ()) -> bool:
    """Whether every desired adapter is proven or refused for good, or has failed often enough not to be waited for.

    What traffic goes to is always waited for: a rolling update must not replace a proven pod by an empty one because
    the source is away for a while.
    """
    return all(
        report.phase in {AdapterPhase.RESIDENT, AdapterPhase.REFUSED, AdapterPhase.DRAINING}
        or (report.attempts >= SETTLED_ATTEMPTS and report.served_name not in serving)
        for report in reports
    )


def slots_used(facts: Facts) -> int:
    """Adapters the engine holds or is about to: stable, candidate and draining alike."""
    held = {name for name, path in facts.engine.listed.items() if path.startswith(facts.owned)}
    return len(held | {name for name, stage in facts.busy.items() if stage is Stage.LOAD})


def _desired(facts: Facts, adapter: DesiredAdapter, refuse: Refuse | None, queue: str) -> AdapterReport:
    name = adapter.served_name
    failure = current_failure(facts, adapter)
    progress = facts.progress.get(name)
    phase, reason, message, since = AdapterPhase.QUEUED, "", "", None
    if failure is not None and failure.reason is Reason.IDENTITY_LOST:
        phase, reason, message = AdapterPhase.REFUSED, failure.reason, failure.message
    elif refuse is not None:
        phase, reason, message = AdapterPhase.REFUSED, refuse.reason, refuse.message
    elif failure is not None and is_hopeless(facts, name, failure):
        phase, reason, message = AdapterPhase.REFUSED, failure.reason, failure.message
    elif facts.proven(name):
        phase, since = AdapterPhase.RESIDENT, facts.proofs[name].at_ms
        message = _of_resident(facts, adapter, failure)
    elif name in facts.busy and facts.busy[name] in _WORKING:
        phase = _WORKING[facts.busy[name]]
    elif failure is not None:
        phase, reason, message = AdapterPhase.RETRYING, failure.reason, failure.message
    elif name in facts.credentials_lost and adapter.digest not in facts.disk and adapter.digest not in facts.staged:
        phase, reason = AdapterPhase.RETRYING, Reason.CREDENTIALS_MISSING
        message = "the agent restarted and waits for the operator to push the credentials again"
    elif facts.busy.get(name) is Stage.UNLOAD:
        message = "is still being taken off the engine, and is loaded anew after that"
    elif queue and facts.engine.ready and adapter.digest in facts.disk and name not in facts.engine.listed:
        message = queue
    return _report(
        name,
        adapter.archetype,
        adapter.digest,
        phase,
        reason,
        message,
        progress.done if progress else 0,
        progress.total if progress else 0,
        failure.attempts if failure is not None else 0,
        since,
        known.checked if (known := facts.identity_of(name)) is not None else 0,
    )


def _of_resident(facts: Facts, adapter: DesiredAdapter, failure: Failure | None) -> str:
    """What is to be said of a proven adapter: what its inspection or its identity leaves open."""
    folder = facts.disk.get(adapter.digest)
    known = facts.identity_of(adapter.served_name)
    words = [folder.note if folder is not None else ""]
    if known is not None and adapter.identity_check:
        words += [known.at_load.note if known.at_load is not None else "", known.trouble]
    if failure is not None:
        words.append(f"{failure.reason}: {failure.message}")
    return "; ".join(filter(None, words))


def _draining(facts: Facts, name: str) -> AdapterReport:
    proof = facts.proofs.get(name)
    path = facts.engine.listed[name]
    failure = unload_failure(facts, name)
    message = failure.message if failure is not None else ""
    if is_stuck(facts, name):
        message += "; its slot is not waited for any more"
    return _report(
        name,
        name.rpartition("--")[0] or name,
        f"sha256:{path.removeprefix(facts.owned)}",
        AdapterPhase.DRAINING,
        failure.reason if failure is not None else "",
        message,
        0,
        0,
        failure.attempts if failure is not None else 0,
        proof.at_ms if proof is not None and proof.instance == facts.engine.instance else None,
        0,
    )


@lru_cache(maxsize=8192)
def _report(
    served_name: str,
    archetype: str,
    digest: str,
    phase: AdapterPhase,
    reason: str,
    message: str,
    done_bytes: int,
    total_bytes: int,
    attempts: int,
    resident_since_ms: int | None,
    identity_checked: int,
) -> AdapterReport:
    """The same report object for the same content: of hundreds of adapters all but one are as they were
    a moment ago, and building and comparing them all for each change would be most of the agent's work.
    """
    return AdapterReport(
        served_name=served_name,
        archetype=archetype,
        digest=digest,
        phase=phase,
        reason=reason,
        message=message,
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        attempts=attempts,
        resident_since_ms=resident_since_ms,
        identity_checked=identity_checked,
    )
