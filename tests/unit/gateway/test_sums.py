"""Counters of several event loops, as Prometheus sees them."""

from __future__ import annotations

from npc_runtime.gateway.errors import Reason
from npc_runtime.gateway.plane import Counts
from npc_runtime.gateway.sums import Said, Sums, say


def worker(pid: int, *, answers: int, in_flight: int = 0, dropped: int = 0, connections: int = 0) -> Said:
    counts = Counts(connections=connections, dropped_lines=dropped, ejections={"gold": dropped}, waiting={"gold": 1})
    series = counts.metrics.series("vampire", "gold")
    series.answers[200] = answers
    series.errors[Reason.ENGINE_FAILED] = answers
    series.in_flight = in_flight
    series.duration.observe(0.1)
    return say(pid, counts)


def told(counts: Counts) -> tuple[int, int, int, int]:
    series = counts.metrics.series("vampire", "gold")
    return series.answers.get(200, 0), series.in_flight, counts.dropped_lines, counts.connections


def test_counters_do_not_fall_when_a_worker_ends_and_gauges_do() -> None:
    sums = Sums()
    first = worker(1, answers=10, in_flight=2, dropped=1, connections=5)
    second = worker(2, answers=20, in_flight=3, dropped=2, connections=7)
    assert told(sums.hear([first, second], {1, 2})) == (30, 5, 3, 12)
    assert told(sums.hear([second], {2})) == (30, 3, 3, 7)
    both = sums.hear([second, worker(3, answers=1)], {2, 3})
    assert told(both) == (31, 3, 3, 7)
    assert (both.ejections, both.waiting) == ({"gold": 3}, {"gold": 2})
    assert sum(both.metrics.series("vampire", "gold").duration.counts) == 3


def test_a_worker_that_lives_and_is_late_with_its_answer_takes_nothing_away() -> None:
    sums = Sums()
    sums.hear([worker(1, answers=10), worker(2, answers=20)], {1, 2})
    assert told(sums.hear([worker(1, answers=11)], {1, 2}))[0] == 31


def test_what_gone_workers_counted_of_archetypes_that_left_is_forgotten() -> None:
    sums = Sums()
    sums.hear([worker(1, answers=10)], {1})
    sums.hear([], set())
    sums.keep_only({("zombie", "gold")})
    assert told(sums.hear([], set()))[0] == 0
