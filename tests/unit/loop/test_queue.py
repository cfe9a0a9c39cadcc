"""The keyed queue: dedup, one at a time, gathering, lanes, backoff and its readings."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.loop.queue import BACKOFF_MOST_SECONDS, GATHER_SECONDS, QUIET_SECONDS, KeyedQueue, Lane, Share
from tests.support.fake_clock import FakeClock, run_virtual, settle


def queue_of(clock: FakeClock, *, jitter: float = 0.0) -> KeyedQueue[str]:
    return KeyedQueue(clock, jitter=lambda: jitter)


def drain(queue: KeyedQueue[str]) -> list[str]:
    taken = []
    while (key := queue.take()) is not None:
        taken.append(key)
    return taken


def run(queue: KeyedQueue[str], key: str) -> None:
    """One complete run of a key that is ready."""
    assert queue.take() == key
    queue.done(key)


def test_a_quiet_key_runs_at_once() -> None:
    queue = queue_of(FakeClock())
    queue.add("a")
    assert queue.take() == "a"


def test_a_key_marked_many_times_runs_once() -> None:
    queue = queue_of(FakeClock())
    for _ in range(1000):
        queue.add("a")
    assert drain(queue) == ["a"]


def test_a_key_marked_while_it_runs_runs_once_more_and_not_beside_itself() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("a")
    clock.advance(10)
    assert queue.take() is None
    queue.done("a")
    clock.advance(GATHER_SECONDS)
    assert drain(queue) == ["a"]


def test_events_of_a_key_that_just_ran_are_gathered_into_one_run() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    run(queue, "a")
    for _ in range(3):
        queue.add("a")
        assert queue.take() is None
        clock.advance(QUIET_SECONDS / 2)
    clock.advance(QUIET_SECONDS)
    assert drain(queue) == ["a"]


def test_gathering_ends_after_a_fifth_of_a_second_however_many_events_come() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    run(queue, "a")
    began = clock.monotonic()
    queue.add("a")
    while queue.take() is None:
        clock.advance(0.010)
        queue.add("a")
    assert GATHER_SECONDS <= clock.monotonic() - began <= GATHER_SECONDS + 0.011


def test_gathering_counts_from_the_first_event_even_if_it_came_during_the_run() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    clock.advance(1.0)
    queue.done("a")
    assert queue.take() == "a"


def test_a_key_is_quiet_again_after_fifty_milliseconds() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    run(queue, "a")
    clock.advance(QUIET_SECONDS + 0.001)
    queue.add("a")
    assert queue.take() == "a"


def test_an_interruption_never_waits() -> None:
    queue = queue_of(FakeClock())
    queue.add("a")
    run(queue, "a")
    queue.add("a")
    queue.add("a", Lane.INTERRUPT)
    assert drain(queue) == ["a"]


def test_urgent_keys_overtake_and_a_look_to_be_sure_comes_last() -> None:
    queue = queue_of(FakeClock())
    queue.add("look", Lane.BACKGROUND)
    queue.add("change", Lane.NORMAL)
    queue.add("order", Lane.URGENT)
    queue.add("interruption", Lane.INTERRUPT)
    assert drain(queue) == ["interruption", "order", "change", "look"]


def test_a_waiting_key_that_becomes_urgent_moves_ahead_and_never_back() -> None:
    queue = queue_of(FakeClock())
    queue.add("a", Lane.BACKGROUND)
    queue.add("b", Lane.NORMAL)
    queue.add("a", Lane.URGENT)
    queue.add("a", Lane.BACKGROUND)
    assert drain(queue) == ["a", "b"]


def test_within_a_lane_it_is_first_come_first_served() -> None:
    queue = queue_of(FakeClock())
    for key in "abc":
        queue.add(key)
    queue.add("a")
    assert drain(queue) == ["a", "b", "c"]


def sharing(clock: FakeClock, most: int) -> KeyedQueue[str]:
    """Keys that begin with p are orders to pods."""
    return KeyedQueue(clock, jitter=lambda: 0.0, share=Share(lambda key: key.startswith("p"), most=most))


def test_keys_that_wait_for_many_leave_hands_for_the_others_whatever_their_lane() -> None:
    queue = sharing(FakeClock(), most=2)
    for key, lane in (("p1", Lane.URGENT), ("p2", Lane.URGENT), ("p3", Lane.URGENT), ("tier", Lane.NORMAL)):
        queue.add(key, lane)
    queue.add("p0", Lane.BACKGROUND)
    assert drain(queue) == ["p1", "p2", "tier"]
    queue.add("interruption", Lane.INTERRUPT)
    assert drain(queue) == ["interruption"]
    queue.done("tier")
    assert drain(queue) == []
    queue.done("p1")
    assert drain(queue) == ["p3"]
    queue.done("p2")
    queue.done("p3")
    assert drain(queue) == ["p0"]


def test_keys_of_a_share_that_has_room_and_others_are_first_come_first_served() -> None:
    queue = sharing(FakeClock(), most=3)
    for key in ("p1", "a", "p2", "b", "p3", "c"):
        queue.add(key)
    assert drain(queue) == ["p1", "a", "p2", "b", "p3", "c"]


def test_thousands_of_keys_behind_a_full_share_are_not_looked_through_for_each_other_key() -> None:
    asked: list[str] = []

    def belongs(key: str) -> bool:
        asked.append(key)
        return key.startswith("p")

    queue = KeyedQueue[str](FakeClock(), jitter=lambda: 0.0, share=Share(belongs, most=1))
    for number in range(500):
        queue.add(f"p{number}", Lane.URGENT)
    assert queue.take() == "p0"
    asked.clear()
    queue.add("tier")
    assert (queue.take(), queue.take()) == ("tier", None)
    assert len(asked) < 20


def test_whoever_waits_for_a_key_hears_that_one_of_many_may_run_again() -> None:
    async def scenario(clock: FakeClock) -> None:
        queue = sharing(clock, most=1)
        queue.add("p1")
        queue.add("p2")
        assert await queue.get() == "p1"
        waiting = asyncio.create_task(queue.get())
        await settle()
        assert not waiting.done()
        queue.done("p1")
        assert await waiting == "p2"

    run_virtual(scenario)


def test_a_delayed_key_runs_when_it_is_due_and_not_before() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add_after("a", 5)
    clock.advance(4.9)
    assert queue.take() is None
    clock.advance(0.2)
    assert queue.take() == "a"


def test_a_run_before_the_delay_ends_takes_the_delay_with_it() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add_after("a", 5)
    queue.add("a")
    run(queue, "a")
    clock.advance(60)
    assert queue.take() is None


def test_a_newer_delay_replaces_the_older_one() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add_after("a", 5)
    queue.add_after("a", 10)
    clock.advance(6)
    assert queue.take() is None
    clock.advance(5)
    assert queue.take() == "a"


def test_the_backoff_of_a_failing_key_doubles_to_its_limit_and_is_forgotten_after_a_success() -> None:
    queue = queue_of(FakeClock())
    assert [queue.backoff("a") for _ in range(7)] == [1, 2, 4, 8, 16, 24, 24]
    assert queue.backoff("b") == 1
    queue.forgive("a")
    assert queue.backoff("a") == 1


def test_the_jitter_of_a_backoff_stays_within_one_and_thirty_seconds() -> None:
    low, high = queue_of(FakeClock(), jitter=0.0), queue_of(FakeClock(), jitter=0.999)
    for _ in range(10):
        assert 1.0 <= low.backoff("a") <= high.backoff("a") <= BACKOFF_MOST_SECONDS


def test_an_event_runs_a_failing_key_without_waiting_for_its_backoff() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add("a")
    assert queue.take() == "a"
    queue.backoff("a")
    queue.done("a")
    clock.advance(QUIET_SECONDS + 0.001)
    queue.add("a")
    assert queue.take() == "a"
    assert queue.failures("a") == 1


def test_depth_and_age_speak_of_what_waits_for_a_reason() -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    queue.add_after("later", 60)
    assert (queue.depth(), queue.oldest_seconds(), queue.running()) == (0, 0.0, 0)
    queue.add("a")
    clock.advance(2)
    queue.add("b")
    clock.advance(1)
    assert (queue.depth(), queue.oldest_seconds(), queue.running()) == (2, 3.0, 0)
    assert queue.take() == "a"
    assert (queue.depth(), queue.oldest_seconds(), queue.running()) == (1, 1.0, 1)


def test_waiting_for_a_key_ends_with_a_mark_or_with_a_timer() -> None:
    async def scenario(clock: FakeClock) -> tuple[str, float, str]:
        queue = queue_of(clock)
        queue.add_after("later", 30)
        asyncio.get_running_loop().call_later(5, queue.add, "now")
        began = clock.monotonic()
        first = await queue.get()
        after = clock.monotonic() - began
        return first, after, await queue.get()

    assert run_virtual(scenario) == ("now", 5.0, "later")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc"), st.sampled_from(list(Lane))),
            st.tuples(st.just("take"), st.just(""), st.just(Lane.NORMAL)),
            st.tuples(st.just("done"), st.sampled_from("abc"), st.just(Lane.NORMAL)),
            st.tuples(st.just("wait"), st.just(""), st.just(Lane.NORMAL)),
        ),
        max_size=60,
    )
)
def test_no_mark_is_ever_lost_and_no_key_runs_beside_itself(steps: list[tuple[str, str, Lane]]) -> None:
    clock = FakeClock()
    queue = queue_of(clock)
    marked: set[str] = set()
    running: set[str] = set()
    for step, key, lane in steps:
        if step == "add":
            queue.add(key, lane)
            marked.add(key)
        elif step == "take":
            taken = queue.take()
            if taken is not None:
                assert taken not in running
                assert taken in marked
                running.add(taken)
                marked.discard(taken)
        elif step == "done" and key in running:
            running.discard(key)
            queue.done(key)
        else:
            clock.advance(0.03)
        assert queue.depth() == len(marked)
    for key in sorted(running):
        queue.done(key)
    clock.advance(GATHER_SECONDS)
    assert set(drain(queue)) == marked
