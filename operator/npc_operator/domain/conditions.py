"""Conditions as kstatus, kubectl wait, Flux and Argo CD read them.

Ready speaks of what serves now and is always there; Reconciling (something is changing) and Stalled (a person is
needed) are there only while they are true. lastTransitionTime moves only when the status flips, so that looking again
at an unchanged world changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from npc_operator.api.meta import Condition

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
QUARANTINED = "Quarantined"
"""There while quarantinedDigests names anything: what that affects."""

MESSAGE_LIMIT = 2048
NEWBORN_SECONDS = 10.0
"""How long after its creation an object may refer to others that are not there yet: installers apply kinds one after
the other, and what is only a matter of order must not call for a person."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say: a reason for programs and a message for people, with what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the three standard conditions should say."""

    ready: bool | None
    """None = unknown."""
    why: Finding
    reconciling: Finding | None = None
    stalled: Finding | None = None


def rfc3339(now: float) -> str:
    """Unix seconds as RFC 3339 in UTC, whole seconds (metav1.Time's precision)."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float | None:
    """Unix seconds, or None if `text` is empty or not a time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def newborn_seconds(created: str, now: float) -> float:
    """How much longer an object counts as just created; 0 if it does not (or nobody knows)."""
    since = parse_rfc3339(created)
    return 0.0 if since is None else max(0.0, since + NEWBORN_SECONDS - now)


def clip(text: str, limit: int) -> str:
    """`text`, cut with an ellipsis where it is longer than the schema allows."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def join_messages(messages: Iterable[str], limit: int = 3) -> str:
    """The first few messages and how many more there are: a status must not grow with the fleet."""
    all_messages = list(dict.fromkeys(messages))
    shown = "; ".join(all_messages[:limit])
    return shown if len(all_messages) <= limit else f"{shown}; and {len(all_messages) - limit} more"


def build_conditions(
    summary: Summary,
    previous: Sequence[Condition],
    *,
    generation: int,
    now: float,
    quarantined: Finding | None = None,
    more: Sequence[tuple[str, str, Finding]] = (),
) -> tuple[Condition, ...]:
    """The conditions to publish, keeping the transition times of those whose status stays. `more` are others of the
    kind, as (type, status, finding)."""
    status = "Unknown" if summary.ready is None else ("True" if summary.ready else "False")
    wanted: list[tuple[str, str, Finding]] = [(READY, status, summary.why)]
    # Never both: kstatus asks for Reconciling first, so whoever waits by it would wait for what only a person can mend.
    if summary.stalled is not None:
        wanted.append((STALLED, "True", summary.stalled))
    elif summary.reconciling is not None:
        wanted.append((RECONCILING, "True", summary.reconciling))
    if quarantined is not None:
        wanted.append((QUARANTINED, "True", quarantined))
    wanted.extend(more)
    before = {condition.type: condition for condition in previous}
    built = []
    for kind, value, finding in wanted:
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == value else rfc3339(now)
        built.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": value,
                    "reason": clip(finding.reason, 256),
                    "message": clip(finding.message, MESSAGE_LIMIT),
                    "lastTransitionTime": since,
                    "observedGeneration": generation,
                }
            )
        )
    return tuple(built)


def condition(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of one type, if it is there."""
    return next((one for one in conditions if one.type == kind), None)


def holds(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether a condition is there and True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"
