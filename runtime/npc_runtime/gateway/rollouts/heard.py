"""The lowest bucket among the NPCs that spoke within the last hour.

A tier may have three characters of an archetype, and then a tenth of the buckets is often nobody: the operator raises
a step's threshold to somebody who is there. Twelve minima of five minutes each stand for the hour, so memory does not
grow with characters, and what is counted is at most five minutes older than it should be.
"""

from __future__ import annotations

SLOT_SECONDS = 300.0
SLOTS = 12
_NOBODY = 1 << 30


class Heard:
    """The minima of one archetype on one tier. Times are of any clock that only grows, seconds."""

    __slots__ = ("_before", "_lowest", "_slot", "_until")

    def __init__(self) -> None:
        self._before: list[tuple[int, int]] = []
        """(slot, lowest bucket) of slots that are over and held somebody, oldest first."""
        self._slot = 0
        self._until = 0.0
        self._lowest = _NOBODY

    def note(self, place: int, now: float) -> None:
        """An NPC of this bucket spoke. On the way of every line: two comparisons, mostly."""
        if now >= self._until:
            self._turn(now)
        if place < self._lowest:
            self._lowest = place

    def lowest(self, now: float) -> int | None:
        """The lowest bucket heard within the hour, or None where nobody spoke."""
        if now >= self._until:
            self._turn(now)
        found = min((place for _, place in self._before), default=_NOBODY)
        found = min(found, self._lowest)
        return None if found == _NOBODY else found

    def _turn(self, now: float) -> None:
        slot = int(now // SLOT_SECONDS)
        if self._lowest != _NOBODY:
            self._before.append((self._slot, self._lowest))
        self._before = [(known, place) for known, place in self._before if known > slot - SLOTS]
        self._slot, self._until, self._lowest = slot, (slot + 1) * SLOT_SECONDS, _NOBODY
