"""Requests out of a client's bytes, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway.errors import Refused
from npc_runtime.gateway.http.parser import RequestHead
from npc_runtime.gateway.http.reader import RequestReader
from tests.unit.gateway.test_framing import CUTS, cut, frame

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
LIMIT = 1 << 12

BODIES = st.lists(st.tuples(st.binary(max_size=60), st.booleans()), min_size=1, max_size=5)


def written(body: bytes, *, chunked: bool) -> bytes:
    if chunked:
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (frame([body]) if body else b"") + b"0\r\n\r\n"
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_all(reader: RequestReader, pieces: list[bytes]) -> list[bytes]:
    """The bodies, in order."""
    bodies: list[bytes] = []
    head: RequestHead | None = None
    for piece in pieces:
        reader.buffer += piece
        while reader.buffer:
            if head is None:
                head = reader.read_head(LIMIT)
                if head is None:
                    break
                if head.has_body:
                    reader.open_body(head, LIMIT)
            body = reader.read_body()
            if body is None:
                break
            bodies.append(body)
            head = None
    if head is not None and not head.has_body:
        bodies.append(b"")
    return bodies


@given(bodies=BODIES, cuts=CUTS, between=st.booleans())
def test_requests_are_the_same_however_they_are_cut(
    bodies: list[tuple[bytes, bool]], cuts: list[int], between: bool
) -> None:
    sent = [written(body, chunked=chunked) for body, chunked in bodies]
    reader = RequestReader()
    assert read_all(reader, cut((b"\r\n" if between else b"").join(sent), cuts)) == [body for body, _ in bodies]
    assert reader.held == 0


@given(body=st.binary(min_size=1, max_size=60), cuts=CUTS, chunked=st.booleans())
def test_no_more_is_held_than_has_arrived_and_nothing_once_it_is_dropped(
    body: bytes, cuts: list[int], chunked: bool
) -> None:
    reader = RequestReader()
    unfinished = written(body, chunked=chunked)[:-1]
    assert read_all(reader, cut(unfinished, cuts)) == []
    assert reader.held <= len(unfinished)
    reader.clear()
    assert reader.held == 0


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_nobody_wants_is_dropped_only_where_its_end_is_known(chunked: bool) -> None:
    reader = RequestReader()
    reader.buffer = written(b"{}", chunked=chunked) + b"GET"
    head = reader.read_head(LIMIT)
    assert head is not None
    rest = reader.buffer
    assert reader.skip_body(head) is not chunked
    assert reader.buffer == (rest if chunked else b"GET")


def test_a_body_that_is_not_all_here_is_not_dropped() -> None:
    reader = RequestReader()
    reader.buffer = written(b"{}", chunked=False)[:-1]
    head = reader.read_head(LIMIT)
    assert head is not None
    assert not reader.skip_body(head)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_over_its_limit_is_refused_whole_or_not(end: bytes) -> None:
    reader = RequestReader()
    reader.buffer = HEAD + b"X: " + b"x" * LIMIT + end
    with pytest.raises(Refused) as refused:
        reader.read_head(LIMIT)
    assert refused.value.fault.status == 431
