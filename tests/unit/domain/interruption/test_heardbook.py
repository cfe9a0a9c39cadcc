"""What queues said of a suspended tier's machines: written, read again, and never more than the status takes."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.api.interruption import InterruptionStatus
from npc_operator.domain.interruption.heardbook import MAX_BOOK, is_heard, read_heard, write_heard
from npc_operator.domain.interruption.notices import Kind, Notice, Source


def said(instance: str = "i-1", kind: Kind = Kind.INTERRUPTION, seen: float = 5.0, end: float | None = 125.0) -> Notice:
    return Notice(
        source=Source.EVENT_BRIDGE, kind=kind, node=None, instance=instance, pod_uid=None, seen=seen, deadline=end
    )


def test_what_is_written_is_read_again_once_for_each_thing_that_is_said() -> None:
    again = said(seen=9.0, end=140.0)
    other = said(kind=Kind.REBALANCE, seen=3.0, end=None)
    book = write_heard([again, said(), other])
    assert read_heard(book) == (other, said())
    assert is_heard(book, again)
    assert not is_heard(book, said("i-2"))
    assert write_heard([]) == ""
    assert read_heard("") == ()


def test_an_end_that_was_brought_forward_is_heard_once_that_is_written() -> None:
    far, near = (said(kind=Kind.SCHEDULED, end=end) for end in (500_000.0, 900.0))
    book = write_heard([far])
    assert not is_heard(book, near)
    book = write_heard([far, replace(near, seen=9.0)])
    assert read_heard(book) == (near,)
    assert is_heard(book, near)
    assert is_heard(book, far)


def test_a_full_book_keeps_what_it_has_and_takes_nothing_new() -> None:
    many = [said(f"{number:0>253}", seen=float(number)) for number in range(400)]
    book = write_heard(many)
    kept = read_heard(book)
    assert 150 < len(kept) < 400
    assert list(kept) == many[: len(kept)]
    assert len(book) <= MAX_BOOK
    assert write_heard([*many, said("new", seen=1e9)]) == book
    InterruptionStatus(heard=book)


def test_a_thousand_machines_of_ec2_fit() -> None:
    many = [said(f"i-{number:017x}", seen=1_790_000_000.123 + number, end=1_790_000_120.5) for number in range(800)]
    assert len(read_heard(write_heard(many))) == 800


@given(
    st.text()
    | st.just("[" * 50_000)
    | st.lists(st.lists(st.none() | st.text() | st.floats() | st.booleans() | st.just("Drain"), max_size=5)).map(
        json.dumps
    )
)
def test_nothing_that_stands_there_breaks_it(text: str) -> None:
    for notice in read_heard(text):
        assert write_heard([replace(notice)])
