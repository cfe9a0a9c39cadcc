"""Spot markets to play: which nodes a market would have given, when, and when it took them back.

A market is a fixed thing that no policy changes: zones of slots, and of each slot the times during which it can be
held. A node taken in a slot at time t is interrupted when the time it lies in ends. So every policy meets the same
interruptions, and an omniscient one knows what there is to know.

Made up (`make_market`): in each slot interruptions are a Poisson process, so the life of a spot node is exponential
with the given mean. Zone outages, on top: each zone is taken away with all its slots, a Poisson process too, for an
exponential time; one in ten such outages takes all zones.

So there is always room outside of outages: a slot whose node was interrupted can be taken again at once.

Recorded (`read_market`): a CSV (UTF-8, commas) with the header `seconds,zone,capacity`. From `seconds` after the
beginning on (a number, need not be whole), `zone` (any name) holds at most `capacity` of our nodes (a whole number, at
most 1000). Rows of a zone are in order of time, the first at 0; zones may be mixed, empty lines are skipped. Where the
capacity falls, the slots with the highest numbers are interrupted. The latest time in the file is the end of the
recording; what its rows say of the capacity is never used. Anything else is refused with its line. An example is in
docs/benchmarks.md.
"""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

HOUR = 3600.0
ZONES = ("a", "b", "c")
OUTAGE_EVERY = 48 * HOUR
"""Mean time between outages of one zone."""
OUTAGE_LENGTH = 1 * HOUR
"""Mean length of an outage."""
REGIONAL = 0.1
"""Share of the outages that take all zones."""
HEADER = ["seconds", "zone", "capacity"]
MOST_CAPACITY = 1000
"""Of a zone in a recording: more nodes than any tier here could hold. Each one is played."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Times during which one spot node can be held: [begin, end), in order."""

    begins: tuple[float, ...]
    ends: tuple[float, ...]

    def end(self, time: float) -> float | None:
        """When a node taken at `time` is interrupted; None if there is none to be had."""
        index = bisect_right(self.begins, time) - 1
        return self.ends[index] if index >= 0 and time < self.ends[index] else None

    def next_begin(self, time: float) -> float:
        """When one can be had after `time`; infinity if never again."""
        index = bisect_right(self.begins, time)
        return self.begins[index] if index < len(self.begins) else math.inf


@dataclass(frozen=True, slots=True)
class Market:
    """Zones of slots over `seconds`."""

    seconds: float
    zones: tuple[tuple[Slot, ...], ...]
    name: str = field(default="", compare=False)


def make_market(*, seed: int, seconds: float, slots: int, mean_life: float, outages: bool) -> Market:
    """A made-up market of three zones with `slots` slots each."""
    gone = _make_outages(random.Random(f"{seed} outages"), seconds) if outages else [[] for _ in ZONES]
    zones = []
    for number, zone in enumerate(ZONES):
        made = []
        for slot in range(slots):
            chance = random.Random(f"{seed} {zone} {slot}")
            cuts = []
            time = chance.expovariate(1 / mean_life)
            while time < seconds:
                cuts.append(time)
                time += chance.expovariate(1 / mean_life)
            made.append(_cut(cuts, gone[number], seconds))
        zones.append(tuple(made))
    return Market(seconds, tuple(zones), f"seed {seed}")


def _make_outages(chance: random.Random, seconds: float) -> list[list[tuple[float, float]]]:
    """Outages of each zone, merged and in order."""
    found: list[list[tuple[float, float]]] = [[] for _ in ZONES]
    for zone in range(len(ZONES)):
        time = chance.expovariate(1 / OUTAGE_EVERY)
        while time < seconds:
            outage = (time, min(seconds, time + chance.expovariate(1 / OUTAGE_LENGTH)))
            for struck in range(len(ZONES)) if chance.random() < REGIONAL else (zone,):
                found[struck].append(outage)
            time = outage[1] + chance.expovariate(1 / OUTAGE_EVERY)
    return [_merge(outages) for outages in found]


def _merge(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _cut(cuts: list[float], gone: list[tuple[float, float]], seconds: float) -> Slot:
    """The times between interruptions, less the outages."""
    edges = [0.0, *cuts, seconds]
    begins, ends = [], []
    for begin, end in pairwise(edges):
        at = begin
        for lost, back in gone:
            if back <= at or lost >= end:
                continue
            if lost > at:
                begins.append(at)
                ends.append(lost)
            at = max(at, back)
        if at < end:
            begins.append(at)
            ends.append(end)
    return Slot(tuple(begins), tuple(ends))


def read_market(path: Path) -> Market:
    """A recorded market. Raises OSError, or ValueError that names the file and the line if it is not as the module
    says."""
    rows: dict[str, list[tuple[float, int]]] = {}
    seconds = 0.0
    # What spreadsheets write begins with a byte order mark.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            if next(reader, None) != HEADER:
                raise ValueError(f"the header must be {','.join(HEADER)}")
            for row in filter(None, reader):
                time, zone, capacity = _read_row(row)
                known = rows.setdefault(zone, [])
                if not known and time != 0:
                    raise ValueError(f"the times of zone {zone!r} must begin at 0")
                if known and time <= known[-1][0]:
                    raise ValueError(f"the times of zone {zone!r} must rise")
                known.append((time, capacity))
                seconds = max(seconds, time)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: {error}") from error
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {max(1, reader.line_num)}: {error}") from error
    if seconds <= 0:
        raise ValueError(f"{path}: nothing is recorded")
    zones = []
    for zone in sorted(rows):
        steps = [*(step for step in rows[zone] if step[0] < seconds), (seconds, 0)]
        most = max(capacity for _, capacity in steps)
        zones.append(tuple(_slot_of(steps, slot) for slot in range(most)))
    return Market(seconds, tuple(zones), path.name)


def _read_row(row: list[str]) -> tuple[float, str, int]:
    if len(row) != len(HEADER):
        raise ValueError(f"{len(row)} values instead of {len(HEADER)}")
    time, zone, capacity = float(row[0]), row[1], int(row[2])
    if not (math.isfinite(time) and time >= 0):
        raise ValueError(f"seconds must be a number >= 0, not {row[0]}")
    if not zone.strip():
        raise ValueError("the zone has no name")
    if not 0 <= capacity <= MOST_CAPACITY:
        raise ValueError(f"capacity must be >= 0 and <= {MOST_CAPACITY}, not {capacity}")
    return time, zone, capacity


def _slot_of(steps: list[tuple[float, int]], slot: int) -> Slot:
    spans = [(at, end) for (at, capacity), (end, _) in pairwise(steps) if capacity > slot]
    merged = _merge(spans)
    return Slot(tuple(begin for begin, _ in merged), tuple(end for _, end in merged))
