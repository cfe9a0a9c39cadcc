"""When a pod is left out, for how long, and how it comes back."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway.ejection import FAILURES, LONGEST_SECONDS, Standing, note_failure

START = 1000.0


def fail(pod: Standing, tier: list[Standing], *, now: float = START, reached: bool = True, times: int = 1) -> bool:
    """Whether the last of so many failures ejected the pod."""
    return [note_failure(pod, reached=reached, now=now, tier=tier) for _ in range(times)][-1]


def test_a_pod_that_cannot_be_reached_is_left_out_at_once() -> None:
    pods = [Standing(), Standing()]
    assert fail(pods[0], pods, reached=False)
    assert pods[0].ejected_until == START + 1


def test_failed_answers_eject_only_in_a_row() -> None:
    pods = [Standing(), Standing()]
    assert not fail(pods[0], pods, times=FAILURES - 1)
    pods[0].succeed(START)
    assert not fail(pods[0], pods, times=FAILURES - 1)
    assert fail(pods[0], pods)


def test_failed_answers_never_take_more_than_half_of_a_tier() -> None:
    for size, most in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2)):
        pods = [Standing() for _ in range(size)]
        for pod in pods:
            fail(pod, pods, times=FAILURES)
        assert sum(pod.is_ejected for pod in pods) == most


def test_pods_that_cannot_be_reached_are_left_out_however_many_they_are() -> None:
    """They carry nothing either way, and are still asked when no other is left."""
    pods = [Standing() for _ in range(4)]
    for pod in pods:
        fail(pod, pods, reached=False)
    assert all(pod.is_ejected for pod in pods)


def test_the_failures_of_lines_that_were_under_way_add_nothing() -> None:
    pods = [Standing(), Standing()]
    fail(pods[0], pods, reached=False)
    assert not fail(pods[0], pods, reached=False, now=START + 0.5, times=20)
    assert pods[0].ejected_until == START + 1


def test_only_one_line_is_the_trial_and_its_success_brings_the_pod_back() -> None:
    pods = [Standing(), Standing()]
    fail(pods[0], pods, reached=False)
    assert not pods[0].begin_trial(START + 0.9)
    assert pods[0].begin_trial(START + 1.0)
    assert not pods[0].begin_trial(START + 1.0)
    assert pods[0].ejected_until == inf
    pods[0].succeed(START + 1.1)
    assert not pods[0].is_ejected


def test_a_trial_that_told_nothing_leaves_the_next_line_one() -> None:
    pods = [Standing(), Standing()]
    fail(pods[0], pods, reached=False)
    assert pods[0].begin_trial(START + 2)
    pods[0].drop_trial(START + 3)
    assert pods[0].begin_trial(START + 3)


def test_each_failed_trial_doubles_the_time_to_thirty_seconds() -> None:
    pods = [Standing(), Standing()]
    now, times = START, []
    fail(pods[0], pods, reached=False, now=now)
    for _ in range(7):
        times.append(pods[0].ejected_until - now)
        now = pods[0].ejected_until
        assert pods[0].begin_trial(now)
        assert fail(pods[0], pods, now=now)
    assert times == [1, 2, 4, 8, 16, LONGEST_SECONDS, LONGEST_SECONDS]


def test_a_pod_that_was_well_for_a_minute_begins_with_a_second_again() -> None:
    pods = [Standing(), Standing()]
    fail(pods[0], pods, reached=False)
    pods[0].begin_trial(START + 1)
    pods[0].succeed(START + 1)
    fail(pods[0], pods, reached=False, now=START + 30)
    assert pods[0].ejected_until == START + 32, "soon again: twice as long"
    pods[0].begin_trial(START + 32)
    pods[0].succeed(START + 32)
    fail(pods[0], pods, reached=False, now=START + 100)
    assert pods[0].ejected_until == START + 101


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.floats(0, 5)), max_size=60))
def test_a_pod_is_never_left_out_for_longer_than_thirty_seconds(steps: list[tuple[int, bool, float]]) -> None:
    pods = [Standing() for _ in range(5)]
    now = START
    for index, succeeds, passed in steps:
        now += passed
        pod = pods[index]
        if pod.is_ejected:
            pod.begin_trial(now)
        if succeeds:
            pod.succeed(now)
        else:
            note_failure(pod, reached=True, now=now, tier=pods)
        assert all(each.ejected_until in (0.0, inf) or each.ejected_until <= now + LONGEST_SECONDS for each in pods)
        assert sum(each.is_ejected for each in pods) <= 2
