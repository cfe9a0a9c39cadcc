"""Keeps a voice from flapping with its tier: what went down a level comes back only after the better level has been
able for a while.

The better level is able while a pod could be asked there. It must be so for 2 s: an agent's word and a new table reach
every gateway within one, so a pod that only passes through does not count. Each time that it breaks down again within
a minute of having spoken the time doubles, to 30 s at most; no voice waits longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

FIRST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A level that spoke for so long without breaking down begins with FIRST_SECONDS again."""

LATE_LINES: Final = 3
"""Lines in a row whose first token did not come in time before a tier is held: one alone may have been a hard one."""


class _Hold:
    __slots__ = ("able_since", "down", "seconds", "spoke_since")

    def __init__(self) -> None:
        self.down = False
        self.able_since: float | None = None
        self.seconds = FIRST_SECONDS
        self.spoke_since: float | None = None
        """Since when it has answered again; None until it does."""


class Holds:
    """The levels that are held, of one event loop. Times are loop time; a key is whatever names a level."""

    __slots__ = ("_able", "_late", "held")

    def __init__(self, able: Callable[[Hashable], bool]) -> None:
        """`able` says whether a level could be asked now."""
        self._able = able
        self.held: dict[Hashable, _Hold] = {}
        """What is or was held lately: a line looks no further while that is empty."""
        self._late: dict[Hashable, int] = {}

    def go_down(self, key: Hashable, now: float) -> None:
        """The level could not be asked, or not in time."""
        hold = self.held.get(key)
        if hold is None:
            hold = self.held[key] = _Hold()
        elif hold.spoke_since is not None:
            steady = now - hold.spoke_since >= STEADY_SECONDS
            hold.seconds = FIRST_SECONDS if steady else min(LONGEST_SECONDS, hold.seconds * 2)
        hold.down = True
        hold.spoke_since = None
        hold.able_since = now if self._able(key) else None

    def is_held(self, key: Hashable, now: float) -> bool:
        """Whether lines pass the level over."""
        hold = self.held.get(key)
        if hold is None or not hold.down:
            return False
        if hold.able_since is None:
            return True
        if now - hold.able_since < hold.seconds:
            return True
        hold.down = False
        return False

    def speak(self, key: Hashable, now: float) -> None:
        """The level has answered a line."""
        hold = self.held.get(key)
        if hold is None or hold.down:
            return
        if hold.spoke_since is None:
            hold.spoke_since = now
        elif now - hold.spoke_since >= STEADY_SECONDS:
            del self.held[key]

    def look(self, now: float) -> None:
        """Pods came or went: see which held levels are able."""
        for key, hold in self.held.items():
            if hold.down:
                if not self._able(key):
                    hold.able_since = None
                elif hold.able_since is None:
                    hold.able_since = now

    def forget(self, is_known: Callable[[Hashable], bool]) -> None:
        """Drop the levels that are no more."""
        for key in [key for key in self.held if not is_known(key)]:
            del self.held[key]
        for key in [key for key in self._late if not is_known(key)]:
            del self._late[key]

    def note_late(self, key: Hashable, now: float) -> None:
        """A line was given up on this level because its first token did not come in time."""
        late = self._late.get(key, 0) + 1
        self._late[key] = late
        if late >= LATE_LINES:
            self._late[key] = 0
            self.go_down(key, now)

    def note_in_time(self, key: Hashable) -> None:
        """A first token came in time."""
        if self._late.get(key):
            self._late[key] = 0
