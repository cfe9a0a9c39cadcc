"""Progress of downloads as a status may tell it: coarsely, because every write of a status wakes all who watch it."""

from __future__ import annotations

STEP = 5
"""Percent; a status is no gauge."""


def coarse_share(done: int, total: int) -> int:
    """Percent of `total` bytes that are there, rounded down to whole steps; 0 while the total is not known."""
    return int(100 * done / total) // STEP * STEP if total else 0


def describe_bytes(done: int, total: int) -> str:
    """For people: `35% of 1.2 GB`."""
    if not total:
        return "size not known yet"
    amount = f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{max(1, round(total / 1e6))} MB"
    return f"{coarse_share(done, total)}% of {amount}"
