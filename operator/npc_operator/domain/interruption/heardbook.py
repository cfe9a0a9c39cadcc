"""What queues said of machines whose pods belong to a suspended tier: written into that tier's status, because nothing
may be written at its pods, and a queue says it once.

A message is deleted once what it says is in the book. So a book that is full takes nothing new, and drops nothing that
it has: what is not in it stays on the queue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from npc_operator.domain.interruption.notices import Kind, Notice, Source, merge, name_of

MAX_BOOK = 60_000
"""Characters of a written book: below what the status field takes, and enough for a thousand machines."""
_SLACK_SECONDS = 0.01
"""A book keeps milliseconds."""


def write_heard(notices: Iterable[Notice]) -> str:
    """JSON for a status field; empty for an empty book. Of several that say the same, the first, with the earliest
    end."""
    said = merge(notice for notice in notices if notice.instance is not None)
    parts: list[str] = []
    length = 2
    for notice in sorted(said, key=lambda one: (one.seen, one.key)):
        deadline = None if notice.deadline is None else round(notice.deadline, 3)
        row = [notice.instance, notice.kind.value, round(notice.seen, 3), deadline]
        part = json.dumps(row, separators=(",", ":"))
        length += len(part) + 1
        if length > MAX_BOOK:
            break
        parts.append(part)
    return f"[{','.join(parts)}]" if parts else ""


def read_heard(text: str) -> tuple[Notice, ...]:
    """What `write_heard` wrote; what cannot be understood is left out."""
    if not text or len(text) > MAX_BOOK:
        return ()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(notice for row in found if (notice := _notice(row)) is not None)


def is_heard(text: str, notice: Notice) -> bool:
    """Whether a written book says what this notice says: an end no later than this one's."""
    end = notice.last_moment
    return any(
        one.key == notice.key and (end is None or (one.last_moment or 0.0) <= end + _SLACK_SECONDS)
        for one in read_heard(text)
    )


def _notice(row: object) -> Notice | None:
    if not isinstance(row, list) or len(row) != 4:
        return None
    instance, kind, seen, deadline = name_of(row[0]), row[1], _time(row[2]), _time(row[3])
    if instance is None or kind not in set(Kind) or seen is None or (deadline is None and row[3] is not None):
        return None
    return Notice(
        source=Source.EVENT_BRIDGE,
        kind=Kind(kind),
        node=None,
        instance=instance,
        pod_uid=None,
        seen=seen,
        deadline=deadline,
    )


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        return None
    return float(value) if math.isfinite(value) else None
