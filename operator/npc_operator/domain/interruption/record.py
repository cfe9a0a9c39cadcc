"""How far the interruption of one pod has come, as it is kept in the annotation `npcfleet.dev/interruption` of that
pod: small JSON, so that an operator that starts anew, or another one, goes on where the last one was.

What cannot be read counts as nothing: the interruption begins anew from what is said now, which costs time and no line.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields

from npc_operator.domain.interruption.notices import Kind

MAX_RECORD = 1024
"""Characters. What is written has less than half of it."""
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Times are Unix seconds, None for what has not happened."""

    kind: Kind
    """The strongest that was said."""
    since: float
    """The first notice was seen."""
    raised: float | None = None
    """What was said first did not press (a cordon, a recommendation, maintenance some day), and what counts now was
    said first at this time."""
    deadline: float | None = None
    """The node goes then, by this operator's clock."""
    held_until: float | None = None
    """It counts until then although nobody repeats it."""
    replaced: float | None = None
    """A replacement was asked for."""
    unrouted: float | None = None
    """New lines go elsewhere."""
    covered: float | None = None
    """All adapters of the pod are resident elsewhere."""
    drained: float | None = None
    """No line ran any more."""
    evicted: float | None = None
    """The eviction was asked for."""

    @property
    def begun(self) -> float:
        """When what counts now was first said."""
        return self.since if self.raised is None else self.raised

    def write(self) -> str:
        """For the annotation; the same record is always the same text."""
        told: dict[str, object] = {"v": VERSION, "kind": self.kind.value}
        # A wave writes thousands of these, many times: dataclasses.asdict would copy each of them in depth.
        for name in _WRITTEN:
            at = getattr(self, name)
            if at is not None:
                told[name] = round(at, 3)
        return json.dumps(told, separators=(",", ":"))


def is_marked(record: Record | None) -> bool:
    """Whether a pod with this note is also marked as one that costs little to end: both are one write, as soon as the
    pod is replaced or takes no new line."""
    return record is not None and (record.replaced is not None or record.unrouted is not None)


_WRITTEN = tuple(item.name for item in fields(Record) if item.name != "kind")
_TIMES = tuple(name for name in _WRITTEN if name != "since")


def read_record(text: str | None) -> Record | None:
    """What `write` wrote; None for anything else."""
    if not text or len(text) > MAX_RECORD:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("v") != VERSION:
        return None
    try:
        kind = Kind(str(found.get("kind")))
    except ValueError:
        return None
    since = _time(found.get("since"))
    if since is None:
        return None
    return Record(kind=kind, since=since, **{name: _time(found.get(name)) for name in _TIMES})


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        return None
    return float(value) if math.isfinite(value) else None
