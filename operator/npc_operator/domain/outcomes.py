"""How a reconcile can end: a closed union, so that every place that acts on it is checked for completeness with
assert_never.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """The world is as wanted. Look again after so many seconds (None: at the next resync)."""

    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something outside must happen first; an event will wake the key, `after` seconds is the safety net."""

    reason: str
    after: float


@dataclass(frozen=True, slots=True)
class Retry:
    """A call failed in a way that may pass: try again with the key's own backoff."""

    error: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """Only a change of the spec can help: nothing is tried until the object's generation moves."""

    reason: str


Outcome = Done | Wait | Retry | Terminal
