"""The fuzzer's corpus, replayed without a fuzzer: every input that was ever of interest keeps to the rules.

Each is also sent cut at other places than it says, and shortened, so a change has to be right for more than what was
found once. `make fuzz` looks for new ones.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from npc_runtime.gateway.http.engine_answer import ChunkedAnswer
from npc_runtime.gateway.question import Question
from tests.fuzz.checks import CHECKS, check_answer, check_request
from tests.fuzz.world import World

CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus"
INPUTS = sorted(path for name in CHECKS for path in (CORPUS / name).iterdir())


@pytest.fixture
def plane() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus_breaks_nothing_however_it_is_cut(plane: World, path: Path) -> None:
    data = path.read_bytes()
    check = CHECKS[path.parent.name]
    for size in (data[0], 0, 1, 2, 13):
        check(plane, bytes((size,)) + data[1:])
    for end in range(1, len(data), max(1, len(data) // 24)):
        check(plane, data[:end])


def test_a_check_sees_what_rides_behind_a_request(plane: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Question, "write", lambda *_: b"Content-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n")
    with pytest.raises(AssertionError, match="something rides behind"):
        check_request(plane, (CORPUS / "requests" / "valid").read_bytes())


def test_a_check_sees_a_broken_stream_that_passes_for_whole(plane: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChunkedAnswer, "said_done", property(lambda _: True))
    with pytest.raises(AssertionError, match="passes for whole"):
        check_answer(plane, (CORPUS / "answers" / "not-done").read_bytes())


def test_no_input_makes_memory_grow(plane: World) -> None:
    inputs = [(CHECKS[path.parent.name], path.read_bytes()) for path in INPUTS]

    def everything() -> None:
        for check, data in inputs:
            check(plane, data)

    everything()  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        everything()
        gc.collect()
        first, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            everything()
        gc.collect()
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last - first < 64 << 10
    assert plane.service.connections == 0
