"""Which nodes with spot pods of a tier began to go of late, and when: what the decision about on-demand pods counts.

One node is one interruption, however many of its pods it takes and however often it is said. Written into the tier's
status, because the pods that could tell are gone soon.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from npc_operator.domain.interruption.notices import Kind, Notice, name_of
from npc_operator.domain.interruption.record import Record

SAME_SECONDS = 600.0
"""A node of this name that begins to go again so long after the last time is another machine: names come again."""
MAX_NODES = 256
"""Nodes remembered; of more, those that began last. A storm is long under way by then."""
MAX_BOOK = 60_000
"""Characters of a written book: below what the status field takes. One with the longest names loses its oldest."""

TAKEN = frozenset((Kind.TERMINATION, Kind.INTERRUPTION, Kind.SCHEDULED, Kind.NODE_LOST))
"""What is said of nodes that their cloud takes away, as far as nobody says that it is a drain."""


def taken_since(notices: Iterable[Notice], record: Record | None) -> float | None:
    """Since when a pod's node is being taken away, in Unix seconds; None where it is not.

    A drain is planned, and waits for replacements: it says nothing about the market, and a roll of all nodes is no
    storm, although each pod ends in a deletion and each node in being out of reach. Of a pod alone, a deployment that
    is made smaller speaks, too. `record` is what was written before this look: what began as a cordon or a
    recommendation is an interruption from the moment that somebody says so.
    """
    said = [notice for notice in notices if notice.pod_uid is None]
    kinds = {notice.kind for notice in said}
    if not kinds & TAKEN or (Kind.DRAIN in kinds and Kind.INTERRUPTION not in kinds):
        return None
    if record is not None and record.kind in TAKEN:
        return record.begun
    return min(notice.seen for notice in said if notice.kind in TAKEN)


@dataclass(frozen=True, slots=True)
class NodeBook:
    """When each node began to go, in Unix seconds."""

    at: Mapping[str, float] = field(default_factory=dict)

    def noted(self, node: str, at: float) -> NodeBook:
        """The book with one more word about a node in it."""
        known = self.at.get(node)
        if known is not None and at < known + SAME_SECONDS:
            return self
        return NodeBook({**self.at, node: at})

    def since(self, horizon: float) -> NodeBook:
        """The book without what is older, and not larger than it may be."""
        kept = sorted(((at, node) for node, at in self.at.items() if at >= horizon), reverse=True)[:MAX_NODES]
        if len(kept) == len(self.at):
            return self
        return NodeBook({node: at for at, node in reversed(kept)})

    def times(self) -> tuple[float, ...]:
        """When they began to go, oldest first."""
        return tuple(sorted(self.at.values()))

    def write(self) -> str:
        """JSON for a status field; empty for an empty book."""
        newest = sorted(self.at.items(), key=lambda item: (item[1], item[0]))
        while newest:
            text = json.dumps({node: round(at, 3) for node, at in newest}, separators=(",", ":"))
            if len(text) <= MAX_BOOK:
                return text
            newest = newest[len(newest) // 4 + 1 :]
        return ""


def read_nodes(text: str) -> NodeBook:
    """What `write` wrote; what cannot be understood is left out."""
    if not text or len(text) > MAX_BOOK:
        return NodeBook()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return NodeBook()
    if not isinstance(found, dict):
        return NodeBook()
    return NodeBook({node: float(at) for node, at in found.items() if name_of(node) and _is_time(at)})


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e12 < value < 1e12 and math.isfinite(value)
