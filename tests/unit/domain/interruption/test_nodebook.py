"""Nodes that began to go of late: each once, bounded, and readable by whoever leads next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.interruption.nodebook import MAX_BOOK, MAX_NODES, SAME_SECONDS, NodeBook, read_nodes


def test_a_node_is_one_interruption_however_often_it_is_said_and_another_one_when_its_name_comes_again() -> None:
    book = NodeBook().noted("a", 100.0).noted("a", 130.0).noted("a", 90.0)
    assert book.times() == (100.0,)
    assert book.noted("b", 120.0).times() == (100.0, 120.0)
    assert book.noted("a", 100.0 + SAME_SECONDS).times() == (100.0 + SAME_SECONDS,)


def test_what_is_old_goes_and_of_too_many_the_oldest() -> None:
    book = NodeBook({f"n{number}": float(number) for number in range(MAX_NODES + 50)})
    assert book.since(0.0).times()[0] == 50.0
    assert book.since(MAX_NODES + 40.0).times() == tuple(float(n) for n in range(MAX_NODES + 40, MAX_NODES + 50))
    small = NodeBook({"a": 5.0})
    assert small.since(1.0) is small


@given(st.dictionaries(st.text("abc-", min_size=1, max_size=8), st.floats(0, 4e9).map(lambda at: round(at, 3))))
def test_what_is_written_is_read_again(at: dict[str, float]) -> None:
    assert read_nodes(NodeBook(at).write()).at == at


def test_the_longest_names_still_fit_into_the_status() -> None:
    book = NodeBook({f"{number:0>253}": 1_790_000_000.123 + number for number in range(MAX_NODES)})
    text = book.write()
    assert 0 < len(text) <= MAX_BOOK
    assert max(read_nodes(text).at) == f"{MAX_NODES - 1:0>253}"


@given(st.text() | st.binary().map(repr) | st.just("[" * 50_000) | st.just('{"a":"b","c":true,"d":1e999,"e":1}'))
def test_nothing_that_stands_there_breaks_it(text: str) -> None:
    assert all(isinstance(at, float) for at in read_nodes(text).times())
