"""Which line is said, and in what form."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, dechunk
from npc_runtime.gateway.scripted import pick_line, stream_chunks, whole_body

LINES = ("one", "two of them", "three  spaces", "four")


def ask(text: object, *, npc: bytes | None = b"npc-1", archetype: str = "vampire") -> str:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "x"}, {"role": "user", "content": text}]
    return pick_line(LINES, archetype=archetype, npc=npc, messages=messages)


def test_the_same_question_gets_the_same_line_on_every_gateway_and_release() -> None:
    """Pinned, because a retry may reach another gateway in the middle of an upgrade."""
    assert [ask(f"question {number}") for number in range(6)] == PINNED


PINNED = ["one", "two of them", "two of them", "two of them", "one", "two of them"]


def test_the_line_depends_on_who_speaks_and_on_what_was_said_last() -> None:
    assert {ask(f"question {number}") for number in range(60)} == set(LINES)
    assert {ask("same", npc=f"npc-{number}".encode()) for number in range(60)} == set(LINES)
    assert {ask("same", archetype=f"kind-{number}") for number in range(60)} == set(LINES)
    history = [{"role": "user", "content": "question 0"}, {"role": "assistant", "content": "earlier"}]
    again = [*history, {"role": "user", "content": "question 2"}]
    assert pick_line(LINES, archetype="vampire", npc=b"npc-1", messages=again) == ask("question 2")


def test_words_in_parts_and_no_words_at_all_have_a_line_too() -> None:
    assert ask([{"type": "text", "text": "hello"}]) in LINES
    assert ask(None) in LINES
    assert pick_line(LINES, archetype="vampire", npc=None, messages=[{"role": "system", "content": "x"}]) in LINES


def events(chunks: bytes) -> list[Any]:
    framing = ChunkedAnswer()
    assert framing.feed(chunks) == chunks
    assert framing.said_done
    *data, done = [part.removeprefix("data: ") for part in dechunk(chunks).decode().split("\n\n") if part]
    assert done == "[DONE]"
    return [json.loads(each) for each in data]


@given(st.text(min_size=1, max_size=200))
def test_every_line_comes_out_of_the_stream_as_it_was_written(line: str) -> None:
    chunks = events(stream_chunks(line, {}))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == line
    assert json.loads(whole_body(line, {}))["choices"][0]["message"]["content"] == line


def test_as_many_choices_come_as_were_asked_for() -> None:
    whole = json.loads(whole_body("one", {"n": 3}))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    finished = [event["choices"][0] for event in events(stream_chunks("one", {"n": 3}))]
    assert [choice["index"] for choice in finished if choice["finish_reason"] == "stop"] == [0, 1, 2]
    for odd in (0, -1, 10**9, "many", None):
        assert len(json.loads(whole_body("one", {"n": odd}))["choices"]) == 1
