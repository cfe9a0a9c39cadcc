"""Lines that would be late leave before they are, in virtual time: a tier of slots, lines that hold them, a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime import wire
from npc_runtime.gateway.admission import Admission
from npc_runtime.gateway.forecast import FRESH_SECONDS, TRIAL_SECONDS, WARM, Forecast, Forecasts
from npc_runtime.gateway.levels import Level, Rung
from npc_runtime.gateway.stay import Entry, Stay
from tests.unit.gateway.tables import route_table
from tests.unit.gateway.virtual import VirtualLoop

LIMIT = 0.8
SLOTS = 4


@dataclass
class Came:
    """What became of one line."""

    at: float
    answered: float | None = None
    """Seconds until its first token on this tier."""
    left: float | None = None
    """Seconds until it went down a level."""
    asked: bool = False


@dataclass
class Tier:
    """One tier with slots and a limit, and lines that come to it."""

    first_token: Callable[[float], float]
    """Seconds from asking to the first token, by the time at which is asked."""
    holds: Callable[[], float] = lambda: 1.0
    """Seconds from the first token to the end."""
    slots: int = SLOTS
    queue: int = 1000
    lines: list[Came] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = VirtualLoop()
        self.admission = Admission(lambda _: 1)
        self.forecasts = Forecasts()
        routes = wire.TierRoutes(name="gold", quality="Gold", slots=self.slots, queue=self.queue)
        self.admission.apply(route_table().model_copy(update={"tiers": (routes,)}), workers=1)
        self.rung = Rung(Level.ADAPTER, "gold", routes, "vampire", None, None, b"", LIMIT, 0.0)

    def come(self) -> None:
        """One line, now."""
        guest = Guest(self, Came(self.clock.now))
        self.lines.append(guest.line)
        guest.come()

    def run(self, seconds: float, *, rate: float, dice: random.Random) -> list[Came]:
        """Lines as a Poisson stream for so long; those that came."""
        before, end, at = len(self.lines), self.clock.now + seconds, self.clock.now
        while (at := at + dice.expovariate(rate)) < end:
            self.clock.run_until(at)
            self.come()
        self.clock.run_until(end)
        return self.lines[before:]


class Guest:
    """One line on the tier, and the engine that answers it. Implements `stay.Guest`."""

    def __init__(self, tier: Tier, line: Came) -> None:
        self.tier = tier
        self.line = line
        self.asked_at = 0.0
        self.stay = Stay(
            self,
            admission=tier.admission,
            forecasts=tier.forecasts,
            loop=tier.clock.loop,
            importance="Normal",
        )

    def come(self) -> None:
        entry = self.stay.enter(self.tier.rung, is_last=False)
        if entry is Entry.ASK:
            self.on_slot()
        elif entry is not Entry.WAIT:
            self.line.left = 0.0

    def on_slot(self) -> None:
        self.line.asked, self.asked_at = True, self.tier.clock.now
        seconds = self.tier.first_token(self.asked_at)
        self.tier.clock.call_later(seconds, self.speak, seconds)

    def speak(self, seconds: float) -> None:
        if self.line.left is None:
            self.stay.speak(seconds)
            self.stay.watch(object, self.on_late)
            self.line.answered = self.tier.clock.now - self.line.at
            self.tier.clock.call_later(self.tier.holds(), self.stay.end)

    def on_shed(self) -> None:
        self.on_late()

    def on_late(self) -> None:
        if self.line.asked:
            self.stay.miss(self.tier.clock.now - self.asked_at)
        self.line.left = self.tier.clock.now - self.line.at
        self.stay.end()


def test_a_tier_with_room_downgrades_nobody() -> None:
    dice = random.Random(1)
    tier = Tier(lambda _: dice.uniform(0.1, 0.3), holds=lambda: dice.uniform(0.5, 1.5), slots=8)
    assert [line for line in tier.run(300, rate=2.0, dice=dice) if line.left is not None] == []


def test_a_cold_tier_is_given_its_chance_and_downgrades_nobody() -> None:
    """The first tokens after a start come at the last moment, and lines queue behind them."""
    dice = random.Random(2)
    tier = Tier(lambda now: 0.75 if now < 5 else 0.2, holds=lambda: 0.5)
    assert [line for line in tier.run(60, rate=2.0, dice=dice) if line.left is not None] == []


def test_nothing_is_foretold_of_a_tier_that_was_not_heard_for_a_while() -> None:
    forecast = Forecast()
    for _ in range(WARM):
        forecast.note_first_token(2 * LIMIT, 1.0)
    assert forecast.first_token(1.0) > LIMIT
    assert forecast.first_token(1.0 + FRESH_SECONDS + 0.1) == 0.0
    forecast.note_first_token(0.1, 20.0)
    assert forecast.first_token(20.0) == 0.0, "it has to get warm again"


def test_a_tier_whose_every_line_is_given_up_at_the_limit_is_foretold_to_be_late() -> None:
    """Nobody knows how late they would have been, only that they were."""
    forecast = Forecast()
    for second in range(50):
        forecast.note_late(LIMIT, float(second))
    forecast.is_late(10 * LIMIT, place=0, slots=1, now=49.0)
    assert forecast.is_late(LIMIT, place=0, slots=1, now=49.1)


def test_under_twice_what_it_can_answer_no_line_is_late_and_most_leave_at_once() -> None:
    dice = random.Random(3)
    tier = Tier(lambda _: dice.uniform(0.1, 0.3), holds=lambda: dice.uniform(0.5, 1.1))
    tier.run(20, rate=2.0 * SLOTS, dice=dice)
    lines = tier.run(200, rate=2.0 * SLOTS, dice=dice)
    answered = [line.answered for line in lines if line.answered is not None]
    left = [line.left for line in lines if line.left is not None]
    assert max(answered) <= LIMIT
    assert len(answered) >= 0.9 * 200 * SLOTS, "no slot stays empty for fear of being late"
    assert sum(seconds == 0.0 for seconds in left) >= 0.6 * len(left)
    asked = [line.left for line in lines if line.left is not None and line.asked]
    assert len(asked) <= 0.02 * len(lines), "hardly an engine worked for a line that left"
    unasked = [line.left for line in lines if line.left is not None and not line.asked]
    assert max(unasked) < LIMIT - 0.1, "the next level has time left"


def test_without_the_forecast_the_same_lines_would_leave_only_when_they_are_late() -> None:
    """What the test before measures, with nothing known: lines wait for the whole limit."""
    dice = random.Random(3)
    tier = Tier(lambda _: dice.uniform(0.1, 0.3), holds=lambda: dice.uniform(0.5, 1.1))
    tier.forecasts.of = lambda tier: Forecast()  # type: ignore[method-assign]
    lines = tier.run(200, rate=2.0 * SLOTS, dice=dice)
    left = [line.left for line in lines if line.left is not None]
    assert min(left) == pytest.approx(LIMIT)


def test_an_engine_that_got_slow_is_asked_by_one_line_a_second_until_it_is_quick_again() -> None:
    dice = random.Random(4)
    tier = Tier(lambda now: 3.0 if 30 <= now < 60 else 0.2, holds=lambda: 0.2, slots=100)
    assert all(line.left is None for line in tier.run(29, rate=20, dice=dice))
    tier.clock.run_until(30)
    slow = tier.run(30, rate=20, dice=dice)
    late = [line for line in slow if line.left]
    # Those that were on their way when it was found out, and the trials.
    assert len(late) <= 20 * LIMIT * 3 + 30 / TRIAL_SECONDS
    assert sum(line.left == 0.0 for line in slow) >= 0.8 * len(slow)
    tier.run(TRIAL_SECONDS + 1, rate=20, dice=dice)
    assert all(line.left is None for line in tier.run(30, rate=20, dice=dice))


def test_a_line_in_the_queue_leaves_when_its_pod_would_have_to_be_asked_at_the_latest() -> None:
    tier = Tier(lambda _: 0.3, holds=lambda: 0.0, slots=1)
    for _ in range(WARM):
        tier.come()
        tier.clock.run_until(tier.clock.now + 1)
    tier.holds = lambda: 60.0  # and now one that does not end
    tier.come()
    tier.clock.run_until(tier.clock.now + 0.5)
    tier.come()
    tier.clock.run_until(tier.clock.now + LIMIT)
    waited = tier.lines[-1].left
    assert waited is not None
    assert 0 < waited < LIMIT - 0.3 + 0.01


@given(
    first=st.floats(0.01, 3),
    hold=st.floats(0.01, 5),
    rate=st.floats(0.5, 30),
    slots=st.integers(1, 20),
    seed=st.integers(0, 1 << 16),
)
def test_no_line_is_ever_answered_late_or_left_without_an_end(
    first: float, hold: float, rate: float, slots: int, seed: int
) -> None:
    dice = random.Random(seed)
    tier = Tier(lambda _: dice.uniform(0.5, 1.5) * first, holds=lambda: dice.uniform(0.5, 1.5) * hold, slots=slots)
    tier.run(20, rate=rate, dice=dice)
    tier.clock.run_until(tier.clock.now + 30)
    for line in tier.lines:
        assert (line.answered is None) != (line.left is None)
        assert max(line.answered or 0.0, line.left or 0.0) <= LIMIT + 1e-9
    assert tier.admission.waiting() == {"gold": 0}


def test_tiers_that_are_no_more_are_forgotten() -> None:
    forecasts = Forecasts()
    gold = forecasts.of("gold")
    forecasts.of("bronze")
    forecasts.keep_only(frozenset({"gold"}))
    assert forecasts.of("gold") is gold
    assert len(forecasts._tiers) == 1
