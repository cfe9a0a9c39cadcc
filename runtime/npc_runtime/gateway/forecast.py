"""Whether a tier's next line would begin too late, told from its last ones: so that a line is answered by another level
while it is still in time, instead of after it was late.

Smoothed much as TCP smooths round trips (RFC 6298): a mean, and a mean deviation on top. Where little or nothing is
known, or only what was true a while ago, no line is foretold to be late: a tier that has just begun has its chance.
Everything is a few additions per line; times are seconds of any one clock.
"""

from __future__ import annotations

from typing import Final

WARM: Final = 8
"""First tokens before anything is foretold: the first ones after a start are slow, and say little."""

FRESH_SECONDS: Final = 10.0
"""What was heard longer ago says nothing of now."""

TRIAL_SECONDS: Final = 1.0
"""A tier whose empty slots were passed over for so long is asked by one line, which shows whether it got quicker."""

_UNHEARD: Final = 2.0
"""A first token that was not waited for would have taken longer than that: twice as long is as good a guess as any."""

_MEAN_WEIGHT: Final = 1 / 8
_DEVIATION_WEIGHT: Final = 1 / 4


class Forecast:
    """What is known of one tier's pace."""

    __slots__ = ("_asked_at", "_deviation", "_heard_at", "_is_passed_over", "_mean", "_seen", "_slot_seconds")

    def __init__(self) -> None:
        self._seen = 0
        self._mean = 0.0
        self._deviation = 0.0
        self._heard_at = 0.0
        self._slot_seconds = 0.0
        """For how long a line holds its slot, on average; 0: not known."""
        self._asked_at = 0.0
        self._is_passed_over = False
        """Whether lines were foretold to be late although there were slots for them."""

    def note_late(self, seconds: float, now: float) -> None:
        """A line's first token had not come so long after its pod was asked, and is waited for no longer."""
        self._note(seconds * _UNHEARD, now)

    def note_first_token(self, seconds: float, now: float) -> None:
        """A first token came so long after its pod was asked."""
        if self._is_passed_over:
            # The trial went well: what was known is over.
            self._is_passed_over = False
            self._seen = 0
        self._note(seconds, now)

    def _note(self, seconds: float, now: float) -> None:
        if now - self._heard_at > FRESH_SECONDS:
            self._seen = 0
        self._heard_at = now
        self._seen += 1
        if self._seen == 1:
            self._mean, self._deviation = seconds, 0.0
            return
        off = seconds - self._mean
        # Only what was slower counts, twice for the half that it is: a tier that gets quicker must not look unsteady.
        self._deviation += ((off * 2 if off > 0 else 0.0) - self._deviation) * _DEVIATION_WEIGHT
        self._mean += off * _MEAN_WEIGHT

    def note_slot(self, seconds: float) -> None:
        """A line held its slot for so long."""
        known = self._slot_seconds
        self._slot_seconds = known + (seconds - known) * _MEAN_WEIGHT if known else seconds

    def first_token(self, now: float) -> float:
        """Seconds from asking a pod within which most first tokens come; 0 where that is not known."""
        if self._seen < WARM or now - self._heard_at > FRESH_SECONDS:
            return 0.0
        return self._mean + self._deviation

    def is_late(self, limit: float, *, place: int, slots: int, now: float) -> bool:
        """Whether a line that is asked for now would have its first token later than `limit` seconds. `place` is its
        place in the queue for `slots` slots; 0: it has a slot at once."""
        expected = self.first_token(now)
        if place and expected:
            expected += place * self._slot_seconds / slots
        if expected <= limit:
            self._asked_at = now
            return False
        if not place:
            if now - self._asked_at >= TRIAL_SECONDS:
                self._asked_at = now
                return False
            self._is_passed_over = True
        return True


class Forecasts:
    """Those of all tiers, of one event loop."""

    def __init__(self) -> None:
        self._tiers: dict[str, Forecast] = {}

    def of(self, tier: str) -> Forecast:
        """The tier's own."""
        found = self._tiers.get(tier)
        if found is None:
            found = self._tiers[tier] = Forecast()
        return found

    def keep_only(self, tiers: frozenset[str]) -> None:
        """Forget tiers that are no more."""
        for name in [name for name in self._tiers if name not in tiers]:
            del self._tiers[name]
