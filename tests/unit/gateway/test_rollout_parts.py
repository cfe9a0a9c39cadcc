"""What is counted, compared and concluded of a candidate: pure parts."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime import wire
from npc_runtime.gateway.rollouts.answers import MAX_TEXT, Words
from npc_runtime.gateway.rollouts.guard import exceeds, why_withdrawn
from npc_runtime.gateway.rollouts.heard import SLOT_SECONDS, Heard
from npc_runtime.gateway.rollouts.observer import Outcome
from npc_runtime.gateway.rollouts.pairing import MAX_WAITING, WINDOW_SECONDS, Crowd, FirstToken, Pairs
from npc_runtime.gateway.rollouts.tally import Pair, Seen, Side
from npc_runtime.gateway.rollouts.together import Together
from npc_runtime.gateway.table import compile_table
from npc_runtime.patterns import BadPattern, compile_pattern
from tests.unit.gateway.tables import NEW, OLD, route_table

GUARDS = json.loads((Path(__file__).parents[2] / "support" / "vectors" / "guard.json").read_text())
HOUR = 12 * SLOT_SECONDS


# --- the guard


@pytest.mark.parametrize("vector", GUARDS, ids=lambda vector: f"{vector['bad']} of {vector['requests']}")
def test_the_guard_decides_as_the_vector_file_says(vector: dict[str, int]) -> None:
    guard = wire.Guard(max_error_percent=vector["maxErrorPercent"])
    assert exceeds(guard, requests=vector["requests"], bad=vector["bad"]) == vector["withdraw"]


def test_the_reason_of_a_withdrawal_is_in_numbers() -> None:
    counts = wire.AnswerCounts(requests=40, errors=20, empty=2)
    why = why_withdrawn(wire.Guard(max_error_percent=5), counts)
    assert why == "22 of 40 answers were bad (20 failed, 2 empty); allowed are 5%"
    assert why_withdrawn(None, counts) == ""


# --- who was heard


def test_nobody_heard_is_nobody() -> None:
    assert Heard().lowest(10.0) is None


def test_the_lowest_of_the_last_hour_is_told_and_an_older_one_is_not() -> None:
    heard = Heard()
    heard.note(5, 0.0)
    heard.note(900, 10.0)
    heard.note(70, SLOT_SECONDS + 1)
    assert heard.lowest(HOUR - 1) == 5
    assert heard.lowest(HOUR + 1) == 70
    assert heard.lowest(HOUR + SLOT_SECONDS + 2) is None


@given(st.lists(st.tuples(st.floats(0, 3 * HOUR), st.integers(0, 9_999)), min_size=1, max_size=60))
def test_what_is_heard_agrees_with_a_list_of_everything_within_one_slot(said: list[tuple[float, int]]) -> None:
    heard = Heard()
    said.sort()
    for at, place in said:
        heard.note(place, at)
    now = said[-1][0]
    found = heard.lowest(now)
    surely = min(place for at, place in said if at > now - HOUR + SLOT_SECONDS)
    perhaps = min(place for at, place in said if at >= now - HOUR)
    assert found is not None
    assert perhaps <= found <= surely


# --- first tokens


def first(seconds: float, at: float, *, pod: str = "p", place: int | None = 1) -> FirstToken:
    return FirstToken(seconds, pod, at, place)


def candidate(pairs: Pairs, token: FirstToken, *, warmup: int = 0, limit: float = 0.0) -> None:
    pairs.candidate(token, warmup=warmup, slower_percent=150, limit=limit)


@pytest.mark.parametrize(("seconds", "slower"), [(0.1, 0), (0.15, 0), (0.151, 1)])
def test_a_first_token_is_slower_above_the_percentage_of_its_control(seconds: float, slower: int) -> None:
    pairs = Pairs()
    pairs.control(first(0.1, 1.0), slower_percent=150)
    candidate(pairs, first(seconds, 2.0))
    assert (pairs.pairs, pairs.slower, pairs.timed) == (1, slower, 1)


def test_it_does_not_matter_who_comes_first() -> None:
    pairs = Pairs()
    candidate(pairs, first(0.3, 1.0))
    assert pairs.pairs == 0
    pairs.control(first(0.1, 2.0), slower_percent=150)
    assert (pairs.pairs, pairs.slower) == (1, 1)


def test_each_time_is_compared_once_with_the_nearest() -> None:
    pairs = Pairs()
    pairs.control(first(9.0, 1.0), slower_percent=150)
    pairs.control(first(0.1, 2.0), slower_percent=150)
    candidate(pairs, first(0.3, 3.0))
    assert (pairs.pairs, pairs.slower) == (1, 1)
    candidate(pairs, first(0.3, 3.0))
    assert (pairs.pairs, pairs.slower) == (2, 1)
    candidate(pairs, first(0.3, 3.0))
    assert pairs.pairs == 2


def test_other_pods_and_other_times_are_not_compared() -> None:
    pairs = Pairs()
    pairs.control(first(0.1, 1.0, pod="other"), slower_percent=150)
    pairs.control(first(0.1, 1.0), slower_percent=150)
    candidate(pairs, first(0.3, 1.1 + WINDOW_SECONDS))
    assert pairs.pairs == 0


def test_probes_are_compared_with_probes_alone() -> None:
    pairs = Pairs()
    pairs.control(first(0.1, 1.0), slower_percent=150)
    candidate(pairs, first(0.3, 1.0, place=None))
    assert pairs.pairs == 0
    pairs.control(first(0.1, 1.0, place=None), slower_percent=150)
    assert pairs.pairs == 1


def test_the_first_answers_on_each_pod_are_not_timed() -> None:
    pairs = Pairs()
    for number in range(3):
        candidate(pairs, first(5.0, number), warmup=2, limit=1.0)
    candidate(pairs, first(5.0, 3.0, pod="other"), warmup=2, limit=1.0)
    assert (pairs.timed, pairs.over_limit) == (1, 1)


def test_times_that_wait_for_a_partner_are_bounded() -> None:
    pairs = Pairs()
    for number in range(10 * MAX_WAITING):
        candidate(pairs, first(0.1, number / 1000))
    for number in range(10 * MAX_WAITING):
        pairs.control(first(0.1, 1.0 + number / 1000), slower_percent=150)
    assert pairs.pairs == MAX_WAITING


def test_a_crowd_is_worth_as_many_as_if_all_spoke_as_much() -> None:
    crowd = Crowd()
    assert crowd.size == 0
    for place in (1, 2, 3, 4):
        crowd.add(place)
    assert crowd.size == 4
    for _ in range(96):
        crowd.add(1)
    assert crowd.size == pytest.approx(100**2 / (97**2 + 3))


def test_npcs_are_those_of_the_side_that_has_fewer_and_a_probe_is_as_good_as_somebody_new() -> None:
    pairs = Pairs()
    for number in range(6):
        pairs.control(first(0.1, number, place=number), slower_percent=150)
        candidate(pairs, first(0.1, number, place=number % 2))
    assert pairs.npcs == 2
    probes = Pairs()
    for number in range(6):
        probes.control(first(0.1, number, place=None), slower_percent=150)
        candidate(probes, first(0.1, number, place=None))
    assert probes.npcs == 6


# --- counting


def test_an_answer_counts_in_one_way_only_and_the_first_bad_one_is_remembered() -> None:
    side = Side()
    for outcome in (Outcome.OK, Outcome.LATE, Outcome.CLIENT_GONE, Outcome.UNTOLD):
        side.count(outcome, probe=False)
    assert side.counts() == wire.AnswerCounts(requests=2)
    side.count(Outcome.OK, probe=True, mismatched=True)
    when = side.counts().first_bad_ms
    assert when is not None
    for outcome in (Outcome.ERROR, Outcome.TRUNCATED, Outcome.EMPTY):
        side.count(outcome, probe=False)
    assert side.counts() == wire.AnswerCounts(
        requests=6, probes=1, errors=1, truncated=1, empty=1, mismatched=1, first_bad_ms=when
    )


# --- the words of an answer


def event(**delta: object) -> bytes:
    payload = b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)


DONE = b"e\r\ndata: [DONE]\n\n\r\n"


def streamed(*pieces: bytes) -> Words:
    words = Words()
    for piece in pieces:
        words.read_stream(piece)
    return words


def test_streamed_words_are_joined_over_chunks_and_pieces() -> None:
    words = streamed(event(role="assistant") + event(content="blo"), event(content="od"), DONE)
    assert (words.text, words.empty, words.failed) == ("blood", False, False)


def test_an_event_that_is_cut_over_two_chunks_is_read() -> None:
    payload = b'data: {"choices":[{"delta":{"content":"whole"}}]}\r\n\r\n'
    pieces = [b"%x\r\n%b\r\n" % (len(part), part) for part in (payload[:20], payload[20:])]
    assert streamed(*pieces).text == "whole"


@pytest.mark.parametrize(
    ("body", "text", "empty"),
    [
        ({"choices": [{"message": {"content": "Good evening."}}]}, "Good evening.", False),
        ({"choices": [{"message": {"content": " \n"}}]}, " \n", True),
        ({"choices": [{"message": {"content": None}}]}, "", True),
        ({"choices": [{"message": {"content": None, "tool_calls": [{"id": "x"}]}}]}, "", False),
        (
            {
                "choices": [
                    {"index": 1, "message": {"content": "two"}},
                    {"index": 0, "message": {"content": "one"}},
                ]
            },
            "one\ntwo",
            False,
        ),
        ([1, 2], "", True),
        ({"choices": [None, 3, {"message": 4}]}, "", True),
        ({"choices": 7}, "", True),
    ],
)
def test_the_words_of_an_answer_in_one_piece(body: object, text: str, empty: bool) -> None:
    words = Words()
    words.read_body(orjson.dumps(body))
    assert (words.text, words.empty) == (text, empty)


def test_an_error_in_the_middle_of_a_stream_is_a_failure() -> None:
    payload = b'data: {"error": {"message": "out of memory"}}\n\n'
    assert streamed(event(content="I"), b"%x\r\n%b\r\n" % (len(payload), payload), DONE).failed


def test_only_so_much_of_a_long_answer_is_kept() -> None:
    words = streamed(*(event(content="x" * 1000) for _ in range(100)))
    assert len(words.text) == MAX_TEXT


@given(st.binary(max_size=400))
def test_whatever_an_engine_sends_is_read_without_a_fault(data: bytes) -> None:
    words = streamed(data, b"%x\r\n%b\r\n" % (len(data), data))
    words.read_body(data)
    assert isinstance(words.empty, bool)


def test_a_pattern_is_searched_in_linear_time_and_one_that_is_none_is_named() -> None:
    assert compile_pattern("(a+)+$").search("a" * 20_000 + "b") is None
    assert compile_pattern("(?i)as an ai").search("Well, As An AI I") is not None
    with pytest.raises(BadPattern, match="not an RE2 pattern"):
        compile_pattern("(")


# --- several event loops together


def trying(**rollout: object) -> wire.RouteTable:
    table = route_table(tiers=("gold",), targets=((OLD, 90), (NEW, 10)))
    settings = wire.AliasRollout.model_validate({"candidate_below": 1000, "control_below": 2000, **rollout})
    return table.model_copy(
        update={"aliases": tuple(alias.model_copy(update={"rollout": settings}) for alias in table.aliases)}
    )


PAIR = Pair("vampire", "gold", OLD, NEW)
GUARD = wire.Guard(max_error_percent=5)


def seen(*, requests: int = 0, errors: int = 0, **fields: object) -> Seen:
    counts = wire.AnswerCounts(requests=requests, errors=errors, first_bad_ms=1000 + errors if errors else None)
    return Seen.model_validate(
        {
            "archetype": "vampire",
            "tier": "gold",
            "stable": OLD,
            "candidate": NEW,
            "candidate_counts": counts,
            "stable_counts": wire.AnswerCounts(requests=10 * requests),
            **fields,
        }
    )


def test_counts_of_workers_are_added_up_also_of_those_that_are_gone() -> None:
    together = Together()
    together.apply(compile_table(trying()))
    together.hear([(1, [seen(requests=3, pairs=2, npcs=4)]), (2, [seen(requests=5, pairs=1, npcs=3)])], {1, 2})
    together.hear([(2, [seen(requests=6, pairs=1, npcs=3)]), (3, [seen(requests=1, lowest_heard=7)])], {2, 3})
    (total,) = together.seen()
    assert total.candidate_counts.requests == 10
    assert total.stable_counts.requests == 100
    assert (total.pairs, total.npcs, total.lowest_heard) == (3, 4, 7)


def test_few_bad_answers_in_each_worker_are_too_many_together() -> None:
    together = Together()
    together.apply(compile_table(trying(guard=GUARD)))
    assert together.hear([(1, [seen(requests=10, errors=4)])], {1}) == []
    ((pair, why),) = together.hear([(1, [seen(requests=10, errors=4)]), (2, [seen(requests=10, errors=5)])], {1, 2})
    assert pair == PAIR
    assert why.startswith("9 of 20 answers were bad")
    assert together.seen()[0].withdrawn == why
    assert together.seen()[0].candidate_counts.first_bad_ms == 1004
    assert together.hear([(1, [seen(requests=11, errors=5)])], {1, 2}) == []
    assert together.withdrawn == [(PAIR, why)]


def test_what_one_worker_took_off_is_taken_off_everywhere() -> None:
    together = Together()
    together.apply(compile_table(trying()))
    assert together.hear([(1, [seen(withdrawn="its own reasons")]), (2, [seen()])], {1, 2}) == [
        (PAIR, "its own reasons")
    ]


def test_another_attempt_is_not_off_and_counts_from_nothing_also_beside_a_worker_that_is_gone() -> None:
    together = Together()
    together.apply(compile_table(trying(attempt=1)))
    together.hear([(1, [seen(requests=9, attempt=1)]), (2, [seen(attempt=1, withdrawn="bad")])], {1, 2})
    assert together.seen()[0].withdrawn == "bad"
    together.apply(compile_table(route_table()))
    together.apply(compile_table(trying(attempt=2)))
    # The first worker died meanwhile; the second still answers with what it knew before this table.
    assert together.hear([(2, [seen(attempt=1, withdrawn="bad")])], {2}) == []
    assert together.withdrawn == []
    assert together.hear([(2, [seen(requests=4, attempt=2)])], {2}) == []
    (total,) = together.seen()
    assert (total.attempt, total.withdrawn, total.candidate_counts.requests) == (2, "", 4)


def test_counts_of_a_pair_that_left_are_forgotten() -> None:
    together = Together()
    together.apply(compile_table(trying()))
    together.hear([(1, [seen(requests=3)])], {1})
    together.hear([], set())
    together.apply(compile_table(route_table()))
    assert together.seen() == ()
    together.hear([(2, [seen(requests=4)])], {2})
    together.apply(compile_table(trying()))
    together.hear([(2, [seen(requests=4)])], {2})
    assert together.seen()[0].candidate_counts.requests == 4


def test_what_goes_to_the_operator_holds_the_wire_fields_alone() -> None:
    report = wire.GatewayReport(
        boot_id="b", revision=1, stamp=wire.Stamp(epoch=1, generation=1), rollouts=(seen(fallen=3, unjudged=2),)
    )
    sent = json.loads(report.to_bytes())["rollouts"][0]
    assert "fallen" not in sent
    assert wire.RolloutReport.model_validate(sent).candidate == NEW
