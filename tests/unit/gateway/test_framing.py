"""Where requests and answers end, however the network cuts them."""

from __future__ import annotations

import contextlib
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway.errors import Refused
from npc_runtime.gateway.http.engine_answer import BrokenAnswer, ChunkedAnswer, dechunk, parse_engine_head
from npc_runtime.gateway.http.parser import ChunkedBody, parse_head

PARTS = st.lists(st.binary(min_size=1, max_size=80), max_size=8)
CUTS = st.lists(st.integers(0, 1000), max_size=12)


def frame(parts: list[bytes], *, extension: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in cuts})
    edges = [0, *places, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


@given(parts=PARTS, cuts=CUTS, after=st.binary(max_size=20))
def test_a_chunked_request_body_is_the_same_however_it_is_cut(
    parts: list[bytes], cuts: list[int], after: bytes
) -> None:
    body = ChunkedBody(10_000)
    rest = b""
    for piece in cut(frame(parts) + b"0\r\n\r\n" + after, cuts):
        rest += body.feed(piece) if not body.done else piece
    assert body.done
    assert body.body() == b"".join(parts)
    assert rest == after


@given(parts=PARTS, cuts=CUTS)
def test_a_chunked_answer_comes_out_byte_for_byte_and_only_whole_chunks(parts: list[bytes], cuts: list[int]) -> None:
    answer = ChunkedAnswer()
    stream = frame(parts)
    passed = b""
    for piece in cut(stream + b"0\r\n\r\n", cuts):
        passed += answer.feed(piece)
        assert dechunk(passed) == b"".join(parts)[: len(dechunk(passed))]
    assert answer.done
    assert passed == stream


@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_decoders_do_anything_but_decode_or_refuse(data: bytes) -> None:
    body = ChunkedBody(100)
    status = 0
    try:
        body.feed(data)
    except Refused as refused:
        status = refused.fault.status
    assert status in (0, 400, 413)
    answer = ChunkedAnswer()
    with contextlib.suppress(BrokenAnswer):
        assert data.startswith(answer.feed(data))


@given(data=st.binary(max_size=300))
def test_no_bytes_make_the_head_parsers_do_anything_but_parse_or_refuse(data: bytes) -> None:
    for head in (data, b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n" + data + b"\r\n\r\n"):
        status = 0
        try:
            assert parse_head(head).path.startswith((b"/", b"*"))
        except Refused as refused:
            status = refused.fault.status
        assert status in (0, 400, 414, 417, 501, 505)
    with contextlib.suppress(BrokenAnswer):
        parse_engine_head(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n")


def test_a_body_over_its_limit_is_refused_before_it_has_arrived() -> None:
    body = ChunkedBody(10)
    with pytest.raises(Refused) as refused:
        body.feed(b"b\r\n")
    assert refused.value.fault.status == 413


def test_the_limit_counts_all_chunks_together() -> None:
    body = ChunkedBody(10)
    body.feed(frame([b"12345", b"12345"]))
    with pytest.raises(Refused):
        body.feed(frame([b"1"]))


def test_a_body_in_tiny_chunks_takes_no_more_memory_than_one_in_large_ones() -> None:
    body = ChunkedBody(1 << 20)
    packet = frame([b"xx"] * 1000)
    tracemalloc.start()
    try:
        for _ in range(32):
            body.feed(packet)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.body() == b"x" * 64_000
    assert held < 2 * 64_000


def test_chunk_extensions_are_read_over() -> None:
    body = ChunkedBody(10)
    body.feed(frame([b"abc"], extension=b';name="value"') + b"0\r\n\r\n")
    assert body.body() == b"abc"


@pytest.mark.parametrize("size", [5, 63, 64, 65, 500])
@pytest.mark.parametrize("done", [True, False])
def test_a_stream_knows_whether_it_said_done(size: int, done: bool) -> None:
    answer = ChunkedAnswer()
    stream = frame([b"data: " + b"x" * size + b"\n\n"]) + (frame([b"data: [DONE]\n\n"]) if done else b"")
    for byte in stream:
        answer.feed(bytes((byte,)))
    assert answer.said_done is done
    assert answer.between_events


def test_a_character_that_says_done_does_not_end_the_stream() -> None:
    answer = ChunkedAnswer()
    answer.feed(frame([b'data: {"content": "data: [DONE]"}\n\n']))
    assert not answer.said_done


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_an_answer_without_a_known_end_is_broken(head: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        parse_engine_head(head)


def test_an_upgrade_that_is_not_taken_is_an_ordinary_request() -> None:
    head = parse_head(b"GET /v1/models HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (head.method, head.path, head.keep_alive) == (b"GET", b"/v1/models", True)


def test_a_query_is_not_part_of_the_path() -> None:
    assert parse_head(b"GET /v1/models?x=/../y HTTP/1.1\r\nHost: g\r\n\r\n").path == b"/v1/models"
