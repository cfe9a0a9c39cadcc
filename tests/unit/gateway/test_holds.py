"""How long a voice stays down after its level could not be asked."""

from __future__ import annotations

from collections.abc import Hashable

from npc_runtime.gateway.holds import FIRST_SECONDS, LATE_LINES, LONGEST_SECONDS, STEADY_SECONDS, Holds

KEY = ("gold", "vampire")


class Pods:
    """Whether there are any."""

    def __init__(self, *, there: bool = False) -> None:
        self.there = there
        self.holds = Holds(self.able)

    def able(self, key: Hashable) -> bool:
        return self.there

    def come(self, now: float) -> None:
        self.there = True
        self.holds.look(now)

    def go(self, now: float) -> None:
        self.there = False
        self.holds.look(now)


def test_nothing_is_held_before_anything_went_down() -> None:
    holds = Pods().holds
    assert not holds.held
    assert not holds.is_held(KEY, 0.0)


def test_a_level_is_held_until_it_was_able_for_two_seconds_and_no_longer() -> None:
    pods = Pods()
    pods.holds.go_down(KEY, 10.0)
    assert pods.holds.is_held(KEY, 100.0), "still not able"
    pods.come(100.0)
    assert pods.holds.is_held(KEY, 100.0 + FIRST_SECONDS - 0.1)
    assert not pods.holds.is_held(KEY, 100.0 + FIRST_SECONDS)


def test_a_tier_that_only_passes_through_does_not_count() -> None:
    pods = Pods()
    pods.holds.go_down(KEY, 10.0)
    pods.come(20.0)
    pods.go(21.0)
    pods.come(21.5)
    assert pods.holds.is_held(KEY, 22.5)
    assert not pods.holds.is_held(KEY, 23.5)


def test_pods_that_were_there_all_along_are_tried_again_after_two_seconds() -> None:
    pods = Pods(there=True)
    for began in (10.0, 12.0, 14.0):
        pods.holds.go_down(KEY, began)
        assert pods.holds.is_held(KEY, began + 1.9)
        assert not pods.holds.is_held(KEY, began + 2.0), "it never spoke between: no flap, no longer time"


def test_each_flap_doubles_the_time_to_thirty_seconds_and_steady_speech_makes_good() -> None:
    pods = Pods(there=True)
    now, times = 0.0, []
    for _ in range(7):
        pods.holds.go_down(KEY, now)
        began = now
        while pods.holds.is_held(KEY, now):
            now += 0.5
        times.append(now - began)
        pods.holds.speak(KEY, now)
        now += 1.0
    assert times == [2, 4, 8, 16, LONGEST_SECONDS, LONGEST_SECONDS, LONGEST_SECONDS]
    pods.holds.speak(KEY, now + STEADY_SECONDS)
    assert not pods.holds.held, "and it is forgotten"


def test_three_late_lines_in_a_row_hold_a_tier_and_one_in_time_between_does_not() -> None:
    pods = Pods(there=True)
    for _ in range(LATE_LINES - 1):
        pods.holds.note_late("gold", 1.0)
    pods.holds.note_in_time("gold")
    for _ in range(LATE_LINES - 1):
        pods.holds.note_late("gold", 2.0)
    assert not pods.holds.is_held("gold", 2.0)
    pods.holds.note_late("gold", 2.0)
    assert pods.holds.is_held("gold", 3.9)
    assert not pods.holds.is_held("gold", 4.0)


def test_levels_that_are_no_more_are_forgotten() -> None:
    pods = Pods()
    pods.holds.go_down(KEY, 1.0)
    pods.holds.note_late("silver", 1.0)
    pods.holds.forget(lambda key: False)
    assert not pods.holds.held
