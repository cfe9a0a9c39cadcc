"""When a node that may be taken soon may have a replacement: once per ten minutes, whatever is said of it and by how
many.

A replacement for a node at risk can land on a node at risk; each such step costs an engine start. So the node that was
left is remembered for longer than any burst of recommendations lasts. The book is written into the tier's status, so
that it outlives the operator and the pods it speaks of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from npc_operator.domain.interruption.notices import name_of

REPLACEMENT_SECONDS = 600.0
MAX_NODES = 256
"""Nodes remembered; of more, those replaced last."""
MAX_BOOK = 96 * 1024
"""Characters that a written book can have, with names as long as Kubernetes allows."""


@dataclass(frozen=True, slots=True)
class Replacements:
    """When each node was last replaced because of a recommendation, in Unix seconds."""

    at: Mapping[str, float] = field(default_factory=dict)

    def next_at(self, node: str, now: float) -> float:
        """When this node may have a replacement; not after `now` if it may have one at once."""
        last = self.at.get(node)
        if last is None:
            return now
        # A clock that was set back must not make a node wait for longer than the rule.
        return min(last, now) + REPLACEMENT_SECONDS

    def granted(self, node: str, now: float) -> Replacements:
        """The book with a replacement of this node in it, and without what no longer matters."""
        return Replacements(_newest({**self.current(now).at, node: now}))

    def known(self, node: str, at: float) -> Replacements:
        """The book with a replacement in it that was found written elsewhere."""
        if not node or self.at.get(node, -math.inf) >= at:
            return self
        return Replacements({**self.at, node: at})

    def current(self, now: float) -> Replacements:
        """The book without what no longer matters."""
        kept = {node: at for node, at in self.at.items() if now - at < REPLACEMENT_SECONDS}
        return self if len(kept) == len(self.at) else Replacements(kept)

    def write(self) -> str:
        """JSON for a status field. Of more than MAX_NODES, what is left out stands at the pods (`known`)."""
        return json.dumps({node: round(at, 3) for node, at in _newest(self.at).items()}, separators=(",", ":"))


def read_replacements(text: str) -> Replacements:
    """What `write` wrote; what cannot be understood is left out."""
    if len(text) > MAX_BOOK:
        return Replacements()
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return Replacements()
    if not isinstance(found, dict):
        return Replacements()
    return Replacements({node: float(at) for node, at in found.items() if name_of(node) and _is_time(at)})


def _newest(at: Mapping[str, float]) -> dict[str, float]:
    """Those that were replaced last, by name."""
    return {node: at[node] for node in sorted(sorted(at, key=lambda node: (at[node], node))[-MAX_NODES:])}


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e12 < value < 1e12 and math.isfinite(value)
