"""What an interruption cost: lines lost, re-routed and downgraded, and for how long fewer pods were ready than wanted.

Counted for a tier, from the first notice until the tier is whole again and nobody leaves any more; waves that overlap
are one interruption, because a lost line cannot be told apart by them. Lines come as counters that grow since each
gateway's start, so what is added is differences. A gateway that is first heard of in the middle counts from there: what
it counted before may be days old, and at most the moment of its start is missed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

MAX_GATEWAYS = 128
_MAX_LEDGER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines of one tier as one gateway counted them since it began."""

    lost: int = 0
    """Ended by an error after they had begun, or with none to answer them."""
    rerouted: int = 0
    """Begun anew on another pod before the client had a byte."""
    downgraded: int = 0
    """Answered by less than their tier's own adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a tier."""

    at: float
    gateways: Mapping[str, Counts]
    """By gateway and boot. One that is not heard of is left out: it keeps what it had."""
    ready: int
    target: int
    leaving: int
    """Pods that something is said of and that end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One interruption so far. Written into the tier's status, so that it survives the operator."""

    since: float
    at: float
    below: bool
    last: Mapping[str, Counts] = field(default_factory=dict)
    lost: int = 0
    rerouted: int = 0
    downgraded: int = 0
    seconds_below_target: float = 0.0
    over: bool = False

    def write(self) -> str:
        """JSON for a status field."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def words(self) -> str:
        """For an Event."""
        return (
            f"{self.lost} lines lost, {self.rerouted} re-routed, {self.downgraded} downgraded, "
            f"{self.seconds_below_target:.0f} s below target"
        )


def account(ledger: Ledger | None, sample: Sample) -> Ledger | None:
    """The ledger with one more sample in it; None while there is nothing to account for. One that is over stays as it
    is until the next pod leaves."""
    if ledger is None or ledger.over:
        return _begin(sample) if sample.leaving > 0 else ledger
    passed = max(0.0, sample.at - ledger.at)
    totals = [ledger.lost, ledger.rerouted, ledger.downgraded]
    last = dict(ledger.last)
    for boot, counts in sample.gateways.items():
        before = last.get(boot, counts)
        for index, name in enumerate(("lost", "rerouted", "downgraded")):
            totals[index] += max(0, getattr(counts, name) - getattr(before, name))
        last[boot] = counts
    below = sample.ready < sample.target
    return replace(
        ledger,
        at=max(ledger.at, sample.at),
        below=below,
        last=dict(list(last.items())[-MAX_GATEWAYS:]),
        lost=totals[0],
        rerouted=totals[1],
        downgraded=totals[2],
        seconds_below_target=ledger.seconds_below_target + (passed if ledger.below else 0.0),
        over=sample.leaving == 0 and not below,
    )


def _begin(sample: Sample) -> Ledger:
    return Ledger(
        since=sample.at,
        at=sample.at,
        below=sample.ready < sample.target,
        last=dict(list(sample.gateways.items())[-MAX_GATEWAYS:]),
    )


def read_ledger(text: str) -> Ledger | None:
    """What `write` wrote; None for anything else: the interruption is then accounted for from now on."""
    if not text or len(text) > _MAX_LEDGER:
        return None
    try:
        found = json.loads(text)
        return _ledger(found) if isinstance(found, dict) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _ledger(found: Mapping[str, object]) -> Ledger:
    last = found["last"]
    if not isinstance(last, dict):
        raise TypeError("last")
    return Ledger(
        since=_number(found["since"]),
        at=_number(found["at"]),
        below=found["below"] is True,
        last={str(boot): Counts(**{key: _whole(value) for key, value in told.items()}) for boot, told in last.items()},
        lost=_whole(found["lost"]),
        rerouted=_whole(found["rerouted"]),
        downgraded=_whole(found["downgraded"]),
        seconds_below_target=_number(found["seconds_below_target"]),
        over=found["over"] is True,
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise ValueError("number")
    if not math.isfinite(value):
        raise ValueError("number")
    return float(value)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("count")
    return value
