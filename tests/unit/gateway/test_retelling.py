"""Lines told in whole sentences: wherever the first engine breaks, nothing is repeated and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npc_runtime.gateway.retelling import MAX_HELD, MAX_TOLD, Retelling
from npc_runtime.gateway.sentences import last_end
from tests.unit.gateway.tellings import PROMPT_TOKENS, Heard, Speaker, chunk, hear, up_to

LINE = [
    " The",
    " night",
    " is",
    " long",
    ".",
    " Who",
    " goes",
    " there",
    "?",
    ' "',
    "I",
    '."',
    " Leave",
    " me",
    "!",
    "\n",
]
TOKENS = st.lists(
    st.sampled_from(
        [" the", " night", ".", "!", "?", '."', ". He", "...", "\n", ".\n\n", " ", "é", "夜。", " Mr", "3.5"]
    ),
    max_size=40,
)


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "stream": True, **fields}


def tell(first: Speaker, second: Speaker, place: float, **fields: Any) -> tuple[Heard, str, Retelling]:
    """A line whose first engine breaks at that part of its stream: what the client heard, and what of it before."""
    payload = asked(**fields)
    line = Retelling(payload)
    stream = first.stream(line.asking(payload))
    told = line.take(up_to(stream, round(place * len(stream))))
    before = hear(told).text
    if not line.said_done:
        if line.is_whole:
            told += line.finish()
        elif line.may_go_on and (rest := line.go_on(payload)) is not None:
            told += line.mark() + line.take(second.stream(line.asking(rest)))
    return hear(told), before, line


@given(tokens=TOKENS, place=st.floats(0, 1))
@example(tokens=LINE, place=0.5)
def test_wherever_the_engine_breaks_the_line_is_the_one_it_would_have_said(tokens: list[str], place: float) -> None:
    heard, before, line = tell(Speaker(tokens), Speaker(tokens, "two"), place)
    assert heard.text == "".join(tokens)
    assert heard.text.startswith(before)
    assert (heard.finish, heard.done, heard.roles) == ("stop", True, 1)
    assert len(heard.ids) == 1
    assert heard.marks == line.went_on


@given(tokens=TOKENS, place=st.floats(0, 1), cut=st.floats(0, 1))
def test_before_the_next_pod_goes_on_only_whole_sentences_were_told(
    tokens: list[str], place: float, cut: float
) -> None:
    text = "".join(tokens)
    stream = Speaker(tokens).stream(asked() | {"stream_options": {}})
    line = Retelling(asked())
    whole = up_to(stream, round(place * len(stream)))
    told = line.take(whole)
    assert text.startswith(line.told)
    if not line.is_whole:
        # What was told ends where a sentence does, and no later end was kept back.
        assert last_end(line.told + "\n") == len(line.told)
    assert hear(told).text == line.told


@given(tokens=TOKENS.filter(bool), place=st.floats(0, 1), limit=st.integers(1, 40), counts=st.booleans())
def test_the_bound_on_tokens_is_one_of_the_whole_line(
    tokens: list[str], place: float, limit: int, counts: bool
) -> None:
    heard, _, _ = tell(
        Speaker(tokens, counts=counts),
        Speaker(tokens, "two", counts=counts),
        place,
        max_tokens=limit,
        stream_options={"include_usage": True},
    )
    whole = "".join(tokens[:limit])
    assert whole.startswith(heard.text)
    assert heard.usage is None or heard.usage["completion_tokens"] <= limit
    if not any(last_end(token + "x") for token in tokens) and heard.done:
        assert heard.text == whole


@pytest.mark.parametrize("place", [number / 40 for number in range(41)])
def test_usage_counts_each_token_once_and_the_prompt_as_it_was_asked(place: float) -> None:
    heard, _, _ = tell(
        Speaker(LINE),
        Speaker(LINE, "two"),
        place,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    )
    total = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(LINE), "total_tokens": PROMPT_TOKENS + len(LINE)}
    assert heard.usage == total
    made = [each["completion_tokens"] for each in heard.counted]
    assert made == sorted(made)
    assert made[-1] == len(LINE)


def test_the_callers_own_request_is_left_as_it_is() -> None:
    payload = asked(stream_options={"include_usage": False})
    line = Retelling(payload)
    assert line.asking(payload)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert line.go_on(payload) == payload == asked(stream_options={"include_usage": False})


def test_usage_is_told_only_to_whom_it_is_asked_by() -> None:
    heard, _, line = tell(Speaker(LINE), Speaker(LINE, "two"), 0.5)
    assert line.went_on
    assert (heard.usage, heard.counted) == (None, [])


def test_sentences_are_told_as_soon_as_they_are_whole() -> None:
    line = Retelling(asked())
    stream = Speaker(LINE).stream(asked(stream_options={}))
    events = stream.split(b"\r\n")[1::2]
    steps = [hear(line.take(b"%x\r\n%b\r\n" % (len(event), event))).text for event in events]
    assert [step for step in steps if step] == [" The night is long.", " Who goes there?", ' "I."', " Leave me!\n"]
    assert steps[6] == " The night is long.", "told with the space after it, not only with the next word"


def test_the_beginning_is_given_to_the_next_pod_and_nothing_of_the_half_sentence() -> None:
    payload = asked(max_tokens=50, min_tokens=8)
    line = Retelling(payload)
    stream = Speaker(LINE).stream(payload)
    line.take(up_to(stream, stream.index(b" there")))
    rest = line.go_on(payload)
    assert rest is not None
    assert rest["messages"][-1] == {"role": "assistant", "content": " The night is long."}
    assert (rest["continue_final_message"], rest["add_generation_prompt"]) == (True, False)
    assert (rest["max_tokens"], rest["min_tokens"]) == (45, 3)
    assert payload["messages"] == [{"role": "user", "content": "Who?"}]


def test_before_the_first_sentence_is_whole_the_next_pod_is_asked_anew() -> None:
    payload = asked()
    line = Retelling(payload)
    stream = Speaker(LINE).stream(payload)
    line.take(up_to(stream, stream.index(b" is")))
    rest = line.go_on(payload)
    assert rest is not None
    assert rest["messages"] == payload["messages"]
    assert "continue_final_message" not in rest


def test_there_is_one_continuation_and_never_a_second() -> None:
    payload = asked()
    line = Retelling(payload)
    assert line.may_go_on
    line.go_on(payload)
    assert not line.may_go_on


def test_a_line_with_no_token_left_is_not_gone_on_with() -> None:
    payload = asked(max_tokens=5)
    line = Retelling(payload)
    for event in ({"content": " a"}, {"content": " b c d. E"}, {"content": " f"}):
        body = {"id": "x", "choices": [{"index": 0, "delta": event, "finish_reason": None}]}
        line.take(chunk(json.dumps(body | {"usage": {"completion_tokens": 5, "prompt_tokens": 1}}).encode()))
    assert line.told == " a b c d."
    assert line.go_on(payload) is None


@pytest.mark.parametrize(
    ("stop", "may"),
    [("?\nPlayer:", False), ("\nPlayer:", True), (["x", "here? I"], False), (["?"], True), ([3], True), (None, True)],
)
def test_a_stop_string_that_could_reach_over_the_break_forbids_going_on(stop: object, may: bool) -> None:
    payload = asked(stop=stop)
    line = Retelling(payload)
    stream = Speaker(LINE).stream(payload)
    line.take(up_to(stream, stream.index(b'"I"')))
    assert line.told.endswith("there?")
    assert line.may_go_on is may


@pytest.mark.parametrize("key", ["tool_calls", "reasoning", "reasoning_content", "function_call"])
def test_what_is_no_speech_is_told_at_once_and_never_gone_on_with(key: str) -> None:
    line = Retelling(asked())
    body = {"id": "x", "choices": [{"index": 0, "delta": {key: [{"name": "run"}]}, "finish_reason": None}]}
    assert b"run" in line.take(chunk(json.dumps(body).encode()))
    stream = Speaker(LINE).stream(asked(stream_options={}))
    line.take(up_to(stream, stream.index(b" goes")))
    assert not line.may_go_on


@pytest.mark.parametrize(
    "data",
    [b'{"error": {"message": "EngineDeadError", "code": 500}}', b"nonsense", b"[]", b'{"choices": 3}', b"{}"],
)
def test_an_error_in_the_stream_is_a_break_and_not_passed_on(data: bytes) -> None:
    payload = asked()
    line = Retelling(payload)
    told = line.take(chunk(data) + chunk(b"[DONE]"))
    assert line.failed
    assert not line.said_done
    assert hear(told).text == ""
    assert line.may_go_on


def test_a_line_too_long_to_be_begun_again_with_is_told_to_its_end_but_not_gone_on_with() -> None:
    tokens = [" word."] * (MAX_TOLD // 6 + 5)
    payload = asked()
    line = Retelling(payload)
    stream = Speaker(tokens).stream(payload)
    line.take(up_to(stream, stream.rindex(b"word")))
    assert not line.may_go_on
    assert len(line.told) > MAX_TOLD


def test_a_sentence_without_an_end_is_told_at_last_and_only_after_a_later_one_may_another_pod_go_on() -> None:
    tokens = [" word"] * (MAX_HELD // 5 + 1)
    payload = asked()
    line, later = Retelling(payload), Retelling(payload)
    stream = Speaker([*tokens, " end", ".", " And", " so"]).stream(payload)
    line.take(up_to(stream, stream.index(b" end")))
    assert len(line.told) > MAX_HELD
    assert not line.may_go_on
    later.take(up_to(stream, stream.index(b" so")))
    assert later.told.endswith(" end.")
    assert later.may_go_on


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Who goes there?", ""),
        ("Who goes there? ", "Who goes there?"),
        ('"Leave!" he', '"Leave!"'),
        ("It is 3.5 miles to Mr. Orlok's", ""),
        ("Dr. J. Seward waits. No. Go", "Dr. J. Seward waits. No."),
        ("Well... maybe", "Well..."),
        ("*sighs*\nGo", "*sighs*"),
        ("夜は長い。誰", "夜は長い。"),
        ("\n\n", ""),
        ("", ""),
    ],
)
def test_where_sentences_end(text: str, told: str) -> None:
    assert text[: last_end(text)] == told
