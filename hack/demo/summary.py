"""What a load under a change of bytes has shown, as figures and as verdicts. Pure: a tally in, lines out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hack.stack.load import TAKEN_SECONDS, Line, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A change of bytes under load. Times are seconds after the change was applied."""

    archetype: str
    old: str
    new: str
    applied: float
    """time.monotonic() of the apply."""
    status_seconds: float
    """Until the status said that the new digest has all traffic and is proven everywhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the summary."""

    what: str
    figure: str


def faults(tally: Tally, expected: Mapping[tuple[str, str], str], swap: Swap) -> list[str]:
    """What is not as it should be; empty when everything is."""
    found = line_faults(tally, expected, applied=swap.applied, whom=_whom)
    answered = tally.by_digest()
    found += [
        f"no line of {swap.archetype} was answered by {digest}, so the swap was not seen under load"
        for digest in (swap.old, swap.new)
        if not answered[digest]
    ]
    late = [line for line in _of(tally, swap) if line.digest == swap.old and line.started > _last_moment(swap)]
    found += [
        f"{_whom(line)}: answered by the old digest after all traffic was said to be on the new one" for line in late
    ]
    return found


def line_faults(
    tally: Tally, expected: Mapping[tuple[str, str], str], *, applied: float, whom: Callable[[Line], str]
) -> list[str]:
    """What no change of bytes excuses: lines that failed, that are not what their digest says, or of another tier.
    `applied`: time.monotonic() of the change.
    """
    found = [f"{whom(line)}, {line.started - applied:.2f} s after the apply: {line.failure}" for line in tally.failures]
    found += [
        f"{whom(line)}: answered {line.text!r} under {line.digest or 'no digest'}, which is not what that adapter says"
        for line in tally.mixed(expected)
    ]
    found += [
        f"{whom(line)}: served by tier {line.tier or '(none)'}"
        for line in tally.lines
        if not line.failure and line.ask.tier and line.tier != line.ask.tier
    ]
    return found


def rows(tally: Tally, swap: Swap, version: Callable[[str], str]) -> Sequence[Row]:
    """The figures of the summary; `version` names a digest."""
    lines = tally.lines
    took = sorted(line.ended - line.intended for line in lines if not line.failure)
    by_version = Counter(version(line.digest) for line in lines if not line.failure)
    first, last = tally.first_with(swap.new), tally.last_without(swap.new, swap.archetype)
    return [
        Row("streaming requests", str(len(lines))),
        Row("failures", str(len(tally.failures))),
        *(Row(f"answered by {name}", str(count)) for name, count in sorted(by_version.items())),
        Row("latency p50 / p99", f"{_quantile(took, 0.5)} / {_quantile(took, 0.99)}"),
        Row("apply -> 100% (status)", f"{swap.status_seconds:.2f} s"),
        Row("apply -> first line of the new voice", _after(first, swap)),
        Row("apply -> last line that still got the old one", _after(last, swap)),
    ]


def _last_moment(swap: Swap) -> float:
    """When the old digest may start its last line."""
    return swap.applied + swap.status_seconds + TAKEN_SECONDS


def _of(tally: Tally, swap: Swap) -> list[Line]:
    return [line for line in tally.lines if line.ask.archetype == swap.archetype and not line.failure]


def _after(line: Line | None, swap: Swap) -> str:
    return "none" if line is None else f"{line.started - swap.applied:.2f} s"


def _quantile(ordered: Sequence[float], share: float) -> str:
    if not ordered:
        return "-"
    return f"{1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.0f} ms"


def _whom(line: Line) -> str:
    return f"{line.ask.archetype} on {line.ask.tier or 'the default tier'}"
