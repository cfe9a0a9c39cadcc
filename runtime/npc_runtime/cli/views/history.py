"""What was decided about the tiers of an adapter, newest last as in a log."""

from __future__ import annotations

from ..answers import Answer, Cell, Table, Tone
from ..explain.chain import clip
from ..facts import Adapter
from ..rollouts import Decision, short


def view_history(adapter: Adapter, *, tier: str) -> Answer:
    """The decisions of all tiers in the order of their times, or of one tier."""
    # Status has the newest first; a stable sort keeps that order's reverse for decisions of the same second.
    entries = [
        (state.tier, entry) for state in adapter.states if tier in ("", state.tier) for entry in reversed(state.history)
    ]
    entries.sort(key=lambda one: one[1].time)
    rows = tuple(_row(name, entry) for name, entry in entries)
    columns = ("TIME", "TIER", "DIGEST", "SHARE", "REASON", "NUMBERS", "BY")
    data = {
        "namespace": adapter.meta.namespace,
        "name": adapter.meta.name,
        "archetype": adapter.archetype,
        "history": [_data(name, entry) for name, entry in entries],
    }
    return Answer(data, (Table("", columns, rows, empty="nothing was decided yet"),))


def _row(tier: str, entry: Decision) -> tuple[Cell, ...]:
    tone = Tone.GOOD if entry.to_percent > entry.from_percent else Tone.PLAIN
    if entry.to_percent < entry.from_percent:
        tone = Tone.BAD
    return (
        Cell(entry.time),
        Cell(tier),
        Cell(short(entry.digest)),
        Cell(f"{entry.from_percent}% -> {entry.to_percent}%", tone),
        Cell(entry.reason),
        Cell(clip(entry.verdict)),
        Cell(entry.by),
    )


def _data(tier: str, entry: Decision) -> dict[str, object]:
    return {
        "time": entry.time,
        "tier": tier,
        "digest": entry.digest,
        "uri": entry.uri,
        "previous": entry.previous,
        "fromPercent": entry.from_percent,
        "toPercent": entry.to_percent,
        "reason": entry.reason,
        "verdict": entry.verdict,
        "by": entry.by,
    }
