"""What a benchmark found, and how it is shown: three runs, their median and spread, beside the bar and the peer. Pure.

A bar is met when the median of the runs is within it; where the worst run is not, the table says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit of DESIGN 7: at most (or, with `least`, at least) so much of the figure's unit."""

    limit: float
    least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def text(self, unit: str) -> str:
        return f"{'>=' if self.least else '<='} {number(self.limit)} {unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    row: str
    what: str
    unit: str
    runs: tuple[float, ...]
    bar: Bar | None = None
    peer: str = ""
    """What others reach, as measured for this project on the same kind of machine."""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def verdict(self) -> str:
        """Whether the bar is met: yes, median (the worst run is beyond), no, or nothing without a bar."""
        if self.bar is None:
            return ""
        if not self.bar.holds(self.median):
            return "no"
        return "yes" if all(self.bar.holds(value) for value in self.runs) else "median"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "met": self.verdict()}


HEADS = ("row", "what", "runs", "median", "spread", "bar", "others", "met")


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure as the table's cells."""
    runs = " ".join(number(value) for value in figure.runs)
    spread = f"{number(min(figure.runs))}-{number(max(figure.runs))}"
    bar = "" if figure.bar is None else figure.bar.text(figure.unit)
    median = f"{number(figure.median)} {figure.unit}".rstrip()
    return (figure.row, figure.what, runs, median, spread, bar, figure.peer, figure.verdict())


def render_table(figures: Sequence[Figure]) -> str:
    """Markdown that reads well in a terminal, too: columns of even width, notes below."""
    lines = [HEADS, *(cells(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]

    def row(line: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    notes = [f"- {figure.row}, {figure.what}: {figure.note}" for figure in figures if figure.note]
    table = [row(lines[0]), rule, *(row(line) for line in lines[1:])]
    return "\n".join([*table, *(["", *notes] if notes else [])])


def percentile(values: Iterable[float], share: float) -> float:
    """Nearest rank: the least value that at least `share` of all do not exceed. Raises ValueError without values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile of nothing")
    # Rounding first, or 0.07 * 100 = 7.000000000000001 would take the eighth.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[min(len(ordered), max(1, rank)) - 1]


def number(value: float) -> str:
    """Three significant digits without an exponent, whole numbers whole."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
