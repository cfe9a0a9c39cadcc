"""A line's stay on one level of its ladder: the slot it holds or waits for, and the time it has until its first token.

A line that could not have its first token in time does not wait for that: it leaves as soon as it is foretold, when it
comes (`forecast`), or when the time is over in which its pod would have had to be asked.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final, Protocol

from npc_runtime.gateway.admission import FREE, Admission, State, Ticket
from npc_runtime.gateway.forecast import Forecast, Forecasts
from npc_runtime.gateway.levels import Rung
from npc_runtime.gateway.stall import StallWatch


class Entry(enum.Enum):
    """What a line may do on the level that it has come to."""

    ASK = enum.auto()
    WAIT = enum.auto()
    SHED = enum.auto()
    """There is no room for it."""
    LATE = enum.auto()
    """It would be late there."""


# On the way of every line: a global is a tenth of what a member of an enum costs.
_ASK: Final = Entry.ASK
_ADMITTED: Final = State.ADMITTED


class Guest(Protocol):
    """Who stays, and hears of what it waits for. Nothing is told after `Stay.end`."""

    def on_slot(self) -> None:
        """It has a slot now."""

    def on_shed(self) -> None:
        """Its place in the queue is somebody else's."""

    def on_late(self) -> None:
        """The level's time is over."""


class Stay:
    """One line's, level after level."""

    __slots__ = (
        "_admission",
        "_admitted_at",
        "_forecast",
        "_forecasts",
        "_guest",
        "_importance",
        "_loop",
        "_ticket",
        "_timer",
        "has_spoken",
        "rung",
    )

    def __init__(
        self,
        guest: Guest,
        admission: Admission,
        forecasts: Forecasts,
        loop: asyncio.AbstractEventLoop,
        importance: str,
    ) -> None:
        self._guest: Guest | None = guest
        self._admission = admission
        self._forecasts = forecasts
        self._loop = loop
        self._importance = importance
        self._ticket: Ticket = FREE
        self._timer: asyncio.TimerHandle | StallWatch | None = None
        self._forecast: Forecast | None = None
        self._admitted_at = 0.0
        self.rung: Rung | None = None
        """The level that was entered last."""
        self.has_spoken = False
        """Whether its first token came: from then on it cannot be late."""

    @property
    def is_waiting(self) -> bool:
        """Whether the line waits for a slot."""
        return self._ticket.state is State.WAITING

    def enter(self, rung: Rung, *, is_last: bool) -> Entry:
        """Come to a level. The last one is waited for: later than wished is better than an error."""
        if self.rung is not None:
            self.leave()
        self.rung = rung
        limit = rung.first_token_seconds
        if not limit:
            return self._take_slot(rung)
        now = self._loop.time()
        forecast = self._forecast = self._forecasts.of(rung.tier)
        if is_last:
            return self._take_slot(rung)
        place, slots = self._admission.outlook(rung.tier, self._importance)
        if forecast.is_late(limit, place=place, slots=slots, now=now):
            return Entry.LATE
        entry = self._take_slot(rung)
        if entry is Entry.WAIT:
            rest = min(limit, forecast.first_token(now))
            self._timer = self._loop.call_later(limit - rest, self._end_wait, rest)
        elif entry is _ASK:
            self._timer = self._loop.call_later(limit, self._end_time)
        return entry

    def speak(self, seconds: float) -> bool:
        """Its first token came so long after its pod was asked; whether there was a limit on that."""
        forecast = self._forecast
        if forecast is not None:
            forecast.note_first_token(seconds, self._loop.time())
        return self._timer is not None

    def miss(self, seconds: float) -> None:
        """Its pod had that long for its first token, and will be given no more."""
        if self._forecast is not None:
            self._forecast.note_late(seconds, self._loop.time())

    def watch(self, progress: Callable[[], object], on_stall: Callable[[], None]) -> None:
        """The stream has begun: notice from now on if it stops, where the level has a limit on that."""
        self.has_spoken = True
        if self._timer is not None:
            self._stop_timer()
        if self.rung is not None and self.rung.stall_seconds:
            self._timer = StallWatch(self._loop, self.rung.stall_seconds, progress=progress, on_stall=on_stall)

    def limit_rest(self, on_late: Callable[[], None]) -> None:
        """Another pod is to go on: have `on_late` called if it has not in the time that the level gives a first token,
        or a pause."""
        if self._timer is not None:
            self._stop_timer()
        rung = self.rung
        seconds = 0.0 if rung is None else rung.first_token_seconds or rung.stall_seconds
        if seconds:
            self._timer = self._loop.call_later(seconds, on_late)

    def leave(self) -> None:
        """Give back what is held on the present level."""
        if self._timer is not None:
            self._stop_timer()
        ticket = self._ticket
        if ticket is not FREE:
            self._ticket = FREE
            if self._forecast is not None and ticket.state is _ADMITTED:
                self._forecast.note_slot(self._loop.time() - self._admitted_at)
            ticket.release()
        self._forecast = None

    def end(self) -> None:
        """Leave for good."""
        self.leave()
        self._guest = None

    def _take_slot(self, rung: Rung) -> Entry:
        ticket = self._ticket = self._admission.acquire(rung.tier, self._importance, self._let_in, self._shed)
        if ticket is FREE:
            return _ASK
        if ticket.state is _ADMITTED:
            self._admitted_at = self._loop.time()
            return _ASK
        return Entry.WAIT if ticket.state is State.WAITING else Entry.SHED

    def _let_in(self) -> None:
        self._admitted_at = self._loop.time()
        if self._guest is not None:
            self._guest.on_slot()

    def _shed(self) -> None:
        if self._guest is not None:
            self._guest.on_shed()

    def _end_wait(self, rest: float) -> None:
        """A pod that is asked only after this would most likely be late."""
        if not self.is_waiting and rest:
            self._timer = self._loop.call_later(rest, self._end_time)
        else:
            self._end_time()

    def _end_time(self) -> None:
        self._timer = None
        if self._guest is not None:
            self._guest.on_late()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
