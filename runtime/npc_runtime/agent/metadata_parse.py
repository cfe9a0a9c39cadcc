"""What a machine's metadata service answers, as words about the machine's end. Pure; nothing here raises, and what
cannot be understood is no word, but counts as `Strange` so that it can be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["Termination", "Interruption", "Scheduled", "Rebalance"]
STRENGTH: tuple[Kind, ...] = ("Termination", "Interruption", "Scheduled", "Rebalance")

MAINTENANCE_NOTICE_SECONDS = 3600.0
"""Compute Engine says TERMINATE_ON_HOST_MAINTENANCE an hour before, to machines with GPUs."""
PREEMPTION_NOTICE_SECONDS = 30.0
"""Compute Engine stops a spot VM 30 s after it says so, unless the VM was made with a longer notice."""


@dataclass(frozen=True, slots=True)
class Word:
    """The machine goes away."""

    kind: Kind
    deadline: float | None = None
    """Unix seconds; None where no time is said."""


@dataclass(frozen=True, slots=True)
class Strange:
    """An answer that is none."""


Answer = Word | Strange | None


def strongest(words: Iterable[Word]) -> Word | None:
    """The one that counts: by kind, then the earliest."""
    far = float("inf")
    return min(
        words,
        key=lambda word: (STRENGTH.index(word.kind), far if word.deadline is None else word.deadline),
        default=None,
    )


def parse_spot_action(body: str) -> Answer:
    """EC2's spot/instance-action: {"action": "terminate", "time": "2026-08-01T05:42:00Z"}."""
    found = _object(body)
    if found is None or found.get("action") not in ("terminate", "stop", "hibernate"):
        return Strange()
    return Word("Interruption", _iso(found.get("time")))


def parse_rebalance(body: str) -> Answer:
    """EC2's events/recommendations/rebalance: {"noticeTime": "..."}."""
    found = _object(body)
    return Word("Rebalance") if found is not None and "noticeTime" in found else Strange()


def parse_scheduled(body: str) -> Answer:
    """EC2's events/maintenance/scheduled: a list of events, of which those that are active count."""
    found = _json(body)
    if not isinstance(found, list):
        return Strange()
    words = [
        Word("Scheduled", _date(event.get("NotBefore")))
        for event in found
        if isinstance(event, Mapping) and event.get("State") == "active"
    ]
    return strongest(words)


def parse_preempted(body: str, *, now: float) -> Answer:
    """Compute Engine's instance/preempted: TRUE or FALSE."""
    match body.strip().upper():
        case "TRUE":
            return Word("Interruption", now + PREEMPTION_NOTICE_SECONDS)
        case "FALSE":
            return None
        case _:
            return Strange()


def parse_maintenance(body: str, *, now: float) -> Answer:
    """Compute Engine's instance/maintenance-event. A machine that migrates loses nothing."""
    match body.strip().upper():
        case "TERMINATE_ON_HOST_MAINTENANCE":
            return Word("Scheduled", now + MAINTENANCE_NOTICE_SECONDS)
        case "NONE" | "MIGRATE_ON_HOST_MAINTENANCE":
            return None
        case _:
            return Strange()


def parse_events(body: str, *, machine: str, now: float) -> Answer:
    """Azure's scheduled events. They are told to every machine of a scale set, so only those that name this one count.

    A Freeze is a pause of seconds. `NotBefore` is empty once an event has started: then there is no time left.
    """
    found = _object(body)
    events = found.get("Events") if found is not None else None
    if not isinstance(events, list):
        return Strange()
    words: list[Word] = []
    for event in events:
        if not isinstance(event, Mapping) or not _is_about(event.get("Resources"), machine):
            continue
        kind = _AZURE.get(str(event.get("EventType")))
        status = event.get("EventStatus")
        if kind is None or status in ("Completed", "Canceled"):
            continue
        if status == "Advisory":
            words.append(Word("Rebalance"))
        elif status == "Started":
            words.append(Word(kind, now))
        else:
            words.append(Word(kind, _date(event.get("NotBefore")) or _iso(event.get("NotBefore"))))
    return strongest(words)


def parse_incarnation(body: str) -> str:
    """Azure's DocumentIncarnation: the same as before means that nothing changed. Empty if there is none."""
    found = _object(body)
    value = None if found is None else found.get("DocumentIncarnation")
    return str(value)[:64] if isinstance(value, int | str) else ""


_AZURE: Mapping[str, Kind] = {
    "Preempt": "Interruption",
    "Terminate": "Scheduled",
    "Redeploy": "Scheduled",
    "Reboot": "Scheduled",
    "SpotRebalanceRecommendation": "Rebalance",
}


def _is_about(resources: object, machine: str) -> bool:
    if not isinstance(resources, list):
        return False
    return any(isinstance(name, str) and name.lower() == machine.lower() for name in resources)


def _json(body: str) -> object:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found


def _object(body: str) -> Mapping[str, object] | None:
    found = _json(body)
    return found if isinstance(found, dict) else None


def _iso(value: object) -> float | None:
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        return _seconds(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        return None


def _date(value: object) -> float | None:
    if not isinstance(value, str) or not value or len(value) > 64:
        return None
    try:
        return _seconds(parsedate_to_datetime(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _seconds(parsed: datetime) -> float | None:
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    seconds = parsed.timestamp()
    return seconds if 0.0 <= seconds < 1e11 else None
