"""The data port speaks strict HTTP/1.1: what is ambiguous, oversized or slow never reaches an engine and never
hangs."""

from __future__ import annotations

import asyncio
import json
import random
import re

import pytest

from npc_runtime.gateway.http import limits
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, eventually, raw
from tests.component.gateway.regions import World

BODY = json.dumps({"model": "vampire", "messages": [{"role": "user", "content": "x"}]}).encode()
AUTH = b"Authorization: Bearer game-key\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: g\r\n"


def request(*headers: bytes, body: bytes = BODY, length: bool = True) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    if length:
        lines += b"Content-Length: %d\r\n" % len(body)
    return POST + HOST + AUTH + lines + b"\r\n" + body


def chunked(body: bytes, *, size: int = 7) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


MALFORMED = {
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"Host: g\n\n",
    "one bare line feed": POST + b"Host: g\nX: y\r\n\r\n",
    "a bare carriage return in a value": POST + b"Host: g\r\nX: a\rb\r\n\r\n",
    "no host": POST + AUTH + b"\r\n",
    "two hosts": POST + HOST + b"Host: other\r\n\r\n",
    "an empty-space host": POST + b"Host: a b\r\n\r\n",
    "two lengths that differ": POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "two lengths that agree": POST + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": POST + HOST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "length and chunked": POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a negative length": POST + HOST + b"Content-Length: -1\r\n\r\n",
    "a signed length": POST + HOST + b"Content-Length: +5\r\n\r\nabcde",
    "a hexadecimal length": POST + HOST + b"Content-Length: 0x5\r\n\r\nabcde",
    "an endless length": POST + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a folded header": POST + HOST + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": POST + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a space in a name": POST + HOST + b"X Y: 1\r\n\r\n",
    "no colon": POST + HOST + b"nonsense\r\n\r\n",
    "a null byte": POST + HOST + b"X: a\x00b\r\n\r\n",
    "an unknown method": b"FROB / HTTP/1.1\r\nHost: g\r\n\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\nHost: g\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: g\r\n\r\n",
    "no version": b"GET /\r\nHost: g\r\n\r\n",
    "an absolute target": b"GET http://other/v1/models HTTP/1.1\r\nHost: g\r\n\r\n",
    "a tunnel": b"CONNECT g:443 HTTP/1.1\r\nHost: g\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a repeated key": POST + HOST + AUTH + AUTH + b"Content-Length: 0\r\n\r\n",
    "a repeated tier": POST + HOST + AUTH + b"X-NPC-Tier: a\r\nX-NPC-Tier: b\r\nContent-Length: 0\r\n\r\n",
    "a malformed chunk size": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a signed chunk size": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n",
    "a prefixed chunk size": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
    "a huge chunk size": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a bare line feed after a chunk size": POST
    + HOST
    + AUTH
    + b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n",
    "a long chunk extension": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 300 + b"\r\n",
    "a line feed in a chunk extension": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nabcde\r\n",
    "trailers": POST + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX-NPC-Tier: a\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_malformed_is_refused_and_the_connection_closed(
    rig: Rig, world: World, engine: Engine, data: bytes
) -> None:
    # A second request rides along: smuggling would be its being answered.
    answer = await raw(rig.port, data + request())
    assert status_of(answer) in (400, 505), answer
    assert len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", answer)) == 1
    assert b"Connection: close" in answer
    assert b'"error"' in answer
    assert engine.chats == 0


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_malformed_is_refused_byte_by_byte_too(
    rig: Rig, world: World, engine: Engine, data: bytes
) -> None:
    answer = await raw(rig.port, *(data[at : at + 1] for at in range(len(data))))
    assert status_of(answer) in (400, 505), answer
    assert engine.chats == 0


async def test_other_codings_versions_and_expectations_have_their_own_status(rig: Rig, world: World) -> None:
    assert status_of(await raw(rig.port, POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n")) in (400, 501)
    assert status_of(await raw(rig.port, POST + HOST + b"Transfer-Encoding: identity\r\n\r\n")) in (400, 501)
    assert status_of(await raw(rig.port, b"GET /v1/models HTTP/1.0\r\nHost: g\r\n\r\n")) == 505
    assert status_of(await raw(rig.port, request(b"Expect: magic"))) == 417


async def test_too_long_is_told_by_what_is_too_long(rig: Rig, world: World, engine: Engine) -> None:
    world.limits = {"max_body_bytes": 1000, "max_header_bytes": 4096}
    await rig.push(world.table())
    assert status_of(await raw(rig.port, request(b"X: " + b"a" * 5000))) == 431
    assert status_of(await raw(rig.port, POST + HOST + b"X: " + b"a" * 100_000)) == 431
    assert status_of(await raw(rig.port, b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: g\r\n\r\n")) == 414
    assert status_of(await raw(rig.port, request(body=b"x" * 1001))) == 413
    assert (
        status_of(await raw(rig.port, request(b"Transfer-Encoding: chunked", body=chunked(b"x" * 1001), length=False)))
        == 413
    )
    assert engine.chats == 0


async def test_a_refusal_reaches_a_client_that_still_sends(rig: Rig, world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(POST + HOST + AUTH + b"Content-Length: 50000000\r\n\r\n")
    sending = asyncio.ensure_future(_send_for_ever(writer))
    answer = await reader.read(1 << 16)
    assert status_of(answer) == 413
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.transport.abort()


async def _send_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()
        await asyncio.sleep(0)


async def test_a_chunked_request_is_read_in_any_pieces(rig: Rig, world: World, engine: Engine) -> None:
    data = request(b"Transfer-Encoding: chunked", b"Connection: close", body=chunked(BODY), length=False)
    assert status_of(await raw(rig.port, data)) == 200
    assert status_of(await raw(rig.port, *(data[at : at + 1] for at in range(len(data))))) == 200
    assert [asked.body["messages"][0]["content"] for asked in engine.asked] == ["x", "x"]


async def test_pipelined_requests_are_answered_in_order_and_one_after_the_other(
    rig: Rig, world: World, engine: Engine
) -> None:
    engine.pause = 0.01
    models = b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"\r\n"
    close = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = await raw(rig.port, models + request() + models + request() + close)
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 200, 404]
    assert answer.index(b'"object":"list"') < answer.index(b"chat.completion") < answer.rindex(b'"object":"list"')
    assert engine.connections == 1


async def test_thousands_of_pipelined_requests_are_all_answered(rig: Rig, world: World) -> None:
    models = b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"\r\n"
    close = models.replace(AUTH, AUTH + b"Connection: close\r\n")
    answer = await raw(rig.port, models * 3000 + close, seconds=30)
    assert answer.count(b"HTTP/1.1 200 OK") == 3001


async def test_expect_100_continue_is_answered_before_the_body(rig: Rig, world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head, body = request(b"Expect: 100-continue", b"Connection: close").split(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert status_of(await asyncio.wait_for(reader.read(), 30)) == 200
    writer.close()


async def test_expect_100_continue_is_refused_before_the_body_without_a_key(rig: Rig, world: World) -> None:
    data = request(b"Expect: 100-continue").replace(AUTH, b"").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    answer = await raw(rig.port, data)
    assert status_of(answer) == 401
    assert b"100 Continue" not in answer


async def test_a_request_without_key_is_refused_without_waiting_for_its_body(rig: Rig, world: World) -> None:
    answer = await raw(rig.port, POST + HOST + b"Content-Length: 1000000\r\n\r\n")
    assert status_of(answer) == 401


async def test_what_does_not_exist_is_404_and_a_wrong_method_405(rig: Rig, world: World, engine: Engine) -> None:
    paths = ["/", "/v1/completions", "/v1/load_lora_adapter", "/metrics", "/v1/chat/completions/", "/v1//models"]
    for path in [*paths, "/invocations", "/v1/models/vampire", "/%2e%2e/v1/models", "*"]:
        data = b"GET %b HTTP/1.1\r\nHost: g\r\nConnection: close\r\n" % path.encode() + AUTH + b"\r\n"
        if path == "*":
            data = data.replace(b"GET", b"OPTIONS")
        answer = await raw(rig.port, data)
        assert status_of(answer) == 404, path
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_found"
    answer = await raw(rig.port, b"GET /v1/chat/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 405
    assert b"\r\nAllow: POST\r\n" in answer
    assert engine.chats == 0


BAD_BODIES: dict[str, tuple[bytes, str | None]] = {
    "not JSON": (b"{", None),
    "not an object": (b"[]", None),
    "no model": (b'{"messages":[{"role":"user"}]}', "model"),
    "a model that is no text": (b'{"model":7,"messages":[{"role":"user"}]}', "model"),
    "an endless model": (b'{"model":"' + b"a" * 64 + b'","messages":[{"role":"user"}]}', "model"),
    "no messages": (b'{"model":"vampire"}', "messages"),
    "empty messages": (b'{"model":"vampire","messages":[]}', "messages"),
    "a message without role": (b'{"model":"vampire","messages":[{}]}', "messages"),
    "an unknown role": (b'{"model":"vampire","messages":[{"role":"king"}]}', "messages"),
    "stream as text": (b'{"model":"vampire","stream":"yes","messages":[{"role":"user"}]}', "stream"),
    "nothing": (b"", None),
    "not UTF-8": (b'{"model":"\xff\xfe","messages":[]}', None),
    "deep": (b"[" * 5000 + b"]" * 5000, None),
}


@pytest.mark.parametrize(("body", "param"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_is_no_completion_is_400_and_the_connection_lives(
    rig: Rig, world: World, engine: Engine, body: bytes, param: str | None
) -> None:
    close = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = await raw(rig.port, request(body=body) + close)
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"400 ")
    assert json.loads(first.partition(b"\r\n\r\n")[2])["error"]["param"] == param
    assert second.startswith(b"404 ")
    assert engine.chats == 0


@pytest.mark.parametrize("name", ["X-NPC-Id", "X-Player-Id"])
@pytest.mark.parametrize("value", [b"", b"\xc3\xa9", b"a" * 257], ids=["empty", "not ASCII", "too long"])
async def test_an_id_that_could_not_be_logged_is_400(rig: Rig, world: World, name: str, value: bytes) -> None:
    answer = await raw(rig.port, request(name.encode() + b": " + value, b"Connection: close"))
    assert status_of(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["param"] == name


async def test_a_request_id_of_the_client_comes_back_and_a_bad_one_is_replaced(rig: Rig, world: World) -> None:
    assert (await rig.say(headers={"X-Request-Id": "abc-1"})).headers["X-Request-Id"] == "abc-1"
    assert (await rig.say(headers={"X-Request-Id": "a" * 200})).headers["X-Request-Id"] != "a" * 200


async def test_slow_senders_are_cut_off(rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.3)
    assert status_of(await raw(rig.port, request()[:-3])) == 408
    assert await raw(rig.port) == b""


async def test_a_head_that_drips_for_ever_is_cut_off_while_it_drips(
    rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(POST + HOST + b"X: ")

    async def drip() -> None:
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    # The deadline counts from the first byte, not from the last.
    assert status_of(await asyncio.wait_for(reader.read(1 << 16), 30)) == 408
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.transport.abort()


async def test_a_client_that_never_reads_its_answers_is_dropped(
    rig: Rig, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.3)
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1)
    writer.write((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 2000)
    await eventually(lambda: rig.service.connections == 1)
    await eventually(lambda: rig.service.connections == 0)
    writer.transport.abort()


async def test_more_connections_than_allowed_are_refused_plainly(rig: Rig, world: World) -> None:
    world.limits = {"max_connections": 2}
    await rig.push(world.table())
    first = await asyncio.open_connection("127.0.0.1", rig.port)
    second = await asyncio.open_connection("127.0.0.1", rig.port)
    await eventually(lambda: rig.service.connections == 2)
    assert status_of(await raw(rig.port)) == 503
    first[1].close()
    second[1].close()
    await eventually(lambda: rig.service.connections == 0)
    assert (await rig.say()).status == 200


async def test_connection_close_is_honoured_and_keep_alive_is_the_default(rig: Rig, world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for _ in range(3):
        writer.write(b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"]}")
    writer.write(b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"Connection: close\r\n\r\n")
    assert b"Connection: close" in await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def test_mutated_requests_are_answered_or_closed_and_leave_nothing_behind(
    rig: Rig, world: World, engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.2)
    dice = random.Random(7)
    seeds = [request(), request(b"Transfer-Encoding: chunked", body=chunked(BODY), length=False), *MALFORMED.values()]
    bits = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b":",
        b" ",
        b"0",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ]

    def mutate() -> bytes:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    del data[at : at + dice.randint(1, 5)]
                case 1:
                    data[at:at] = dice.choice(bits)
                case 2:
                    data[at] = dice.randrange(256)
                case _:
                    data[at:at] = dice.choice(seeds)[: dice.randint(1, 60)]
            if not data:
                break
        return bytes(data)

    async def one(data: bytes) -> bytes:
        cut = dice.randrange(len(data) + 1)
        try:
            return await raw(rig.port, data[:cut], data[cut:], seconds=30)
        except ConnectionResetError:
            return b""

    for _ in range(10):
        answers = await asyncio.gather(*(one(mutate()) for _ in range(40)))
        assert all(not answer or answer.startswith(b"HTTP/1.1 ") for answer in answers)
    await eventually(lambda: rig.service.connections == 0)
    assert all(asked.body["model"].startswith("vampire--") for asked in engine.asked)
    assert "could not be handled" not in caplog.text
    assert "Fatal error" not in caplog.text
    assert (await rig.say()).status == 200
