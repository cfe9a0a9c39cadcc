"""Requests at the edges of what HTTP and JSON allow: each gets the one answer it deserves."""

from __future__ import annotations

import asyncio
import json

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, completion, eventually, raw
from tests.component.gateway.regions import World
from tests.component.gateway.words import OLD

NAME = wire.served_name("vampire", OLD)
HOST = b"Host: g\r\n"
AUTH = b"Authorization: Bearer game-key\r\n"
CLOSE = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + AUTH + lines + length + body


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("pieces", ["at once", "later", "cut in two"])
async def test_an_empty_line_after_a_body_is_no_request(rig: Rig, world: World, pieces: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    request = completion(stream=False)
    writer.write(request + b"\r\n" if pieces == "at once" else request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    if pieces == "later":
        writer.write(b"\r\n")
    if pieces == "cut in two":
        writer.write(b"\r")
        connection = next(iter(rig.service._connections))
        await eventually(lambda: not connection.is_idle)
        writer.write(b"\n")
    # Whatever it would have answered to the empty line came before this.
    writer.write(CLOSE)
    assert statuses(await asyncio.wait_for(reader.read(), 30)) == [404]
    writer.close()


async def test_an_empty_line_alone_keeps_the_connection_idle_and_not_half_a_request(rig: Rig, world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"\r\n")
    writer.write(CLOSE)
    assert statuses(await asyncio.wait_for(reader.read(), 30)) == [404]
    writer.close()


@pytest.mark.parametrize("lines", [1, 2, 3, 7000])
async def test_empty_lines_before_a_request_are_read_over_however_they_are_cut(
    rig: Rig, world: World, lines: int
) -> None:
    data = b"\r\n" * lines + CLOSE
    assert statuses(await raw(rig.port, data)) == [404]
    assert statuses(await raw(rig.port, *(data[at : at + 5] for at in range(0, len(data), 5)))) == [404]


@pytest.mark.parametrize(
    ("target", "status"), [("/v1/models", 405), ("/v1/chat/completions", 405), ("/openapi.json", 405), ("/no", 404)]
)
async def test_an_answer_to_head_has_no_body_that_the_next_answer_could_be_taken_for(
    rig: Rig, world: World, target: str, status: int
) -> None:
    head = b"HEAD %b HTTP/1.1\r\n" % target.encode() + HOST + AUTH + b"\r\n"
    first, _, rest = (await raw(rig.port, head + CLOSE)).partition(b"\r\n\r\n")
    assert statuses(first) == [status]
    assert int(first.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) > 0
    assert rest.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("order", [(b"close", b"keep-alive"), (b"keep-alive", b"close")])
async def test_a_client_that_says_close_in_any_of_its_headers_is_closed(
    rig: Rig, world: World, order: tuple[bytes, bytes]
) -> None:
    lines = b"".join(b"Connection: " + value + b"\r\n" for value in order)
    answer = await raw(rig.port, b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTH + lines + b"\r\n")
    assert statuses(answer) == [200]
    assert b"Connection: close\r\n" in answer


def nested(depth: int, *, lists: bool) -> bytes:
    inner = b"[" * depth + b"]" * depth if lists else b'{"a":' * depth + b"1" + b"}" * depth
    return b'{"model":"vampire","messages":[{"role":"user"}],"extra":' + inner + b"}"


@pytest.mark.parametrize("warm", [True, False], ids=["a kept connection", "a new connection"])
@pytest.mark.parametrize("lists", [True, False], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [260, 1000, 1023, 5000, 100_000])
async def test_json_too_deep_to_be_written_again_is_400_at_once(
    rig: Rig, world: World, engine: Engine, depth: int, lists: bool, warm: bool
) -> None:
    if warm:
        assert (await rig.say()).status == 200
    asked = engine.chats
    answer = await raw(rig.port, post(nested(depth, lists=lists)) + CLOSE)
    assert statuses(answer) == [400, 404]
    assert engine.chats == asked
    # Nothing is counted as running that is not.
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)
    text = await rig.metrics()
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 1.0' not in text


@pytest.mark.parametrize("depth", [10, 200])
async def test_json_of_a_sensible_depth_goes_through(rig: Rig, world: World, engine: Engine, depth: int) -> None:
    assert statuses(await raw(rig.port, post(nested(depth, lists=True)) + CLOSE)) == [200, 404]


NUMBERS = {
    "beyond a double": (b"1e400", None),
    "beyond a double in digits": (b"1" + b"0" * 400, None),
    "a hundred thousand digits": (b"9" * 100_000, None),
    "not a number": (b"NaN", None),
    "infinity": (b"Infinity", None),
    "hexadecimal": (b"0x10", None),
    "a leading zero": (b"01", None),
    "the largest that stays whole": (b"18446744073709551615", 18446744073709551615),
}


@pytest.mark.parametrize(("number", "becomes"), NUMBERS.values(), ids=NUMBERS.keys())
async def test_numbers_that_are_none_are_400_and_others_reach_the_engine_unchanged(
    rig: Rig, world: World, engine: Engine, number: bytes, becomes: int | None
) -> None:
    body = b'{"model":"vampire","messages":[{"role":"user"}],"max_tokens":' + number + b"}"
    answer = await raw(rig.port, post(body) + CLOSE)
    assert statuses(answer) == [400 if becomes is None else 200, 404]
    assert [asked.body["max_tokens"] for asked in engine.asked] == ([] if becomes is None else [becomes])


REPEATED = {
    "an archetype hidden behind another": (b'{"model":"ghoul","model":"vampire","messages":[{"role":"user"}]}', 200),
    "an archetype in front of another": (b'{"model":"vampire","model":"ghoul","messages":[{"role":"user"}]}', 404),
    "an archetype and no text": (b'{"model":"vampire","model":null,"messages":[{"role":"user"}]}', 400),
    "escaped the second time": (b'{"model":"ghoul","mod\\u0065l":"vampire","messages":[{"role":"user"}]}', 200),
}


@pytest.mark.parametrize(("body", "status"), REPEATED.values(), ids=REPEATED.keys())
async def test_of_repeated_keys_the_engine_sees_the_one_that_was_judged(
    rig: Rig, world: World, engine: Engine, body: bytes, status: int
) -> None:
    assert statuses(await raw(rig.port, post(body) + CLOSE)) == [status, 404]
    assert [asked.body["model"] for asked in engine.asked] == ([NAME] if status == 200 else [])


@pytest.mark.parametrize(
    "model", [None, True, 1, 1.5, [], {}, ["vampire"], {"a": 1}, "", "a" * 64, "vampire\x00", "Vampire", " vampire"]
)
async def test_a_model_that_is_no_archetype_is_refused(rig: Rig, world: World, engine: Engine, model: object) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
    (status, last) = statuses(await raw(rig.port, post(body) + CLOSE))
    assert (status in (400, 404), last) == (True, 404)
    assert engine.chats == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_stream_options_are_the_engines_to_judge(rig: Rig, world: World, engine: Engine, stream: bool) -> None:
    await rig.say(stream=stream, stream_options={"include_usage": True})
    assert engine.asked[0].body["stream_options"] == {"include_usage": True}
    assert engine.asked[0].body["stream"] is stream


TEXTS = {
    "half a surrogate": b'"\\ud800"',
    "bytes that are no UTF-8": b'"\xc3\x28"',
    "an overlong slash": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a raw control character": b'"\x01"',
    "a raw null": b'"\x00"',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_text_that_is_no_text_is_400(rig: Rig, world: World, engine: Engine, text: bytes) -> None:
    body = b'{"model":"vampire","messages":[{"role":"user","content":' + text + b"}]}"
    assert statuses(await raw(rig.port, post(body) + CLOSE)) == [400, 404]
    assert engine.chats == 0


async def test_a_body_that_is_mostly_framing_is_refused_before_it_is_read_to_its_end(rig: Rig, world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        writer.write(b"1;" + b"x" * 200 + b"\r\n{\r\n")
    # No end was sent: only the overhead can be why this is answered.
    assert statuses(await asyncio.wait_for(reader.read(), 30)) == [400]
    writer.transport.abort()


async def test_a_large_body_in_small_pieces_is_taken(rig: Rig, world: World, engine: Engine) -> None:
    body = json.dumps({"model": "vampire", "messages": [{"role": "user", "content": "x" * 900_000}]}).encode()
    request = post(body, b"Connection: close")
    pieces = [request[at : at + 1460] for at in range(0, len(request), 1460)]
    assert statuses(await raw(rig.port, *pieces)) == [200]
    assert len(engine.asked[0].body["messages"][0]["content"]) == 900_000
