"""A corpus of requests that two readers could take for different things.

Whatever the gateway makes of one of them: no engine is asked for what rides behind it, there is one answer (or none)
and then the connection ends, soon. Deterministic: each entry is bytes, sent at once, in two pieces and byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics

import pytest

from npc_runtime.gateway.http import limits
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, eventually, raw
from tests.component.gateway.regions import World

BODY = json.dumps({"model": "vampire", "messages": [{"role": "user", "content": "smuggled"}]}).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HEAD = LINE + b"Host: g\r\nAuthorization: Bearer game-key\r\n"
RIDER = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
"""What an attacker wants answered: a whole valid request that must stay the body, or the rest, of another one."""

LENGTH = b"Content-Length: %d\r\n" % len(RIDER)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NONE = b"0\r\n\r\n"


def te(value: bytes, *, name: bytes = b"Transfer-Encoding") -> bytes:
    """CL.TE with an odd spelling of the coding: who does not see it reads a length, who does reads chunks."""
    return HEAD + b"Content-Length: 5\r\n" + name + b": " + value + b"\r\n\r\n" + NONE + RIDER


def lone_te(value: bytes) -> bytes:
    return HEAD + b"Transfer-Encoding: " + value + b"\r\n\r\n" + NONE + RIDER


def cl(*values: bytes) -> bytes:
    return HEAD + b"".join(b"Content-Length: " + value + b"\r\n" for value in values) + b"\r\n" + RIDER


def chunks(data: bytes) -> bytes:
    return HEAD + CHUNKED + b"\r\n" + data + RIDER


CODINGS = {
    "chunked": b"chunked",
    "upper case": b"CHUNKED",
    "a tab before": b"\tchunked",
    "a tab after": b"chunked\t",
    "a vertical tab": b"\x0bchunked",
    "a form feed": b"chunked\x0c",
    "a null": b"chunked\x00",
    "quotes": b'"chunked"',
    "a parameter": b"chunked;a=b",
    "a comma": b"chunked,",
    "a comma before": b",chunked",
    "twice": b"chunked, chunked",
    "identity first": b"identity, chunked",
    "identity last": b"chunked, identity",
    "gzip": b"gzip, chunked",
    "an x": b"xchunked",
    "cut": b"chunke",
    "nothing": b"",
    "a non-breaking space": b"\xa0chunked",
    "folded": b"\r\n chunked",
    "folded with a tab": b"\r\n\tchunked",
    "a bare return": b"x\rTransfer-Encoding: chunked",
    "a bare line feed": b"x\nTransfer-Encoding: chunked",
}

LENGTHS = {
    "twice the same": (b"5", b"5"),
    "twice": (b"0", b"%d" % len(RIDER)),
    "a list": (b"0, 0",),
    "a list that differs": (b"0, 5",),
    "a plus": (b"+0",),
    "a minus": (b"-0",),
    "hexadecimal": (b"0x0",),
    "octal with letters": (b"0o0",),
    "an underscore": (b"0_0",),
    "a point": (b"0.0",),
    "an exponent": (b"0e0",),
    "other digits": ("\u0660".encode(),),
    "superscript": (b"\xb2",),
    "a letter behind": (b"0a",),
    "a space between": (b"0 0",),
    "nothing": (b"",),
    "spaces": (b"   ",),
    "quotes": (b'"0"',),
    "more than 64 bits": (b"18446744073709551616",),
    "wrapping to zero": (b"%d" % 2**128,),
    "a null": (b"0\x00",),
    "a semicolon": (b"0;",),
    "folded": (b"0\r\n 5",),
}

SIZES = {
    "a plus": b"+0\r\n\r\n",
    "a minus": b"-0\r\n\r\n",
    "a prefix": b"0x0\r\n\r\n",
    "a space before": b" 0\r\n\r\n",
    "nothing": b"\r\n\r\n",
    "a semicolon only": b";\r\n\r\n",
    "a bare line feed": b"0\n\r\n",
    "two bare line feeds": b"0\n\n",
    "a bare return": b"0\r\r\n\r\n",
    "a null": b"0\x00\r\n\r\n",
    "a vertical tab": b"0\x0b\r\n\r\n",
    "more than 64 bits": b"10000000000000000\r\n",
    "wrapping to zero": b"1" + b"0" * 32 + b"\r\n",
    "leading zeros without end": b"0" * 300 + b"\r\n\r\n",
    "an extension with a line feed": b"0;a=\n\r\n\r\n",
    "an extension with a return": b"0;a=\rb\r\n\r\n",
    "an extension with a null": b"0;a=\x00\r\n\r\n",
    "an extension in quotes with an end": b'0;a="\r\n\r\n"\r\n\r\n',
    "too short a chunk": b"2\r\na\r\n0\r\n\r\n",
    "too long a chunk": b"1\r\nab\r\n0\r\n\r\n",
    "a chunk without an end": b"1\r\na0\r\n\r\n",
    "a chunk ended by a line feed": b"1\r\na\n0\r\n\r\n",
    "a trailer": b"0\r\nX: y\r\n\r\n",
    "a length as a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding as a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded trailer": b"0\r\n X: y\r\n\r\n",
    "another request as a trailer": b"0\r\n",
}

OTHERS = {
    "length and coding": HEAD + LENGTH + CHUNKED + b"\r\n" + NONE + RIDER,
    "coding and length": HEAD + CHUNKED + LENGTH + b"\r\n" + NONE + RIDER,
    "two codings": HEAD + CHUNKED + CHUNKED + b"\r\n" + NONE + RIDER,
    "a coding behind a space": HEAD + b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n" + NONE + RIDER,
    "a length behind a space": HEAD + b"Content-Length : 0\r\n\r\n" + RIDER,
    "a name with a null": HEAD + b"Content-\x00Length: 0\r\n\r\n" + RIDER,
    "a name with a tab": HEAD + b"Content\tLength: 0\r\n\r\n" + RIDER,
    "a name with a byte above 127": HEAD + b"X-\xe9: 0\r\n\r\n" + RIDER,
    "no name": HEAD + b": 0\r\n\r\n" + RIDER,
    "no colon": HEAD + b"Content-Length 0\r\n\r\n" + RIDER,
    "a folded first header": LINE + b" Host: g\r\n\r\n" + RIDER,
    "a folded header": HEAD + b"X: a\r\n b\r\n\r\n" + RIDER,
    "a null in a value": HEAD + b"X: a\x00b\r\n\r\n" + RIDER,
    "a bare return ends a header": HEAD + b"X: a\rContent-Length: 0\r\n\r\n" + RIDER,
    "a bare line feed ends a header": HEAD + b"X: a\nContent-Length: 0\r\n\r\n" + RIDER,
    "a bare line feed ends the head": HEAD + b"Content-Length: 0\r\n\n" + RIDER,
    "bare line feeds end the head": HEAD + b"Content-Length: 0\n\n" + RIDER,
    "HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "HTTP/0.9": b"POST /v1/chat/completions\r\n" + RIDER,
    "HTTP/1.2": HEAD.replace(b"1.1", b"1.2") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "HTTP/2.0": HEAD.replace(b"1.1", b"2.0") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "HTTP/1.10": HEAD.replace(b"1.1", b"1.10") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "http in lower case": HEAD.replace(b"HTTP", b"http") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "an absolute target": HEAD.replace(b" /v1", b" http://g/v1") + b"Content-Length: 0\r\n\r\n" + RIDER,
    "a tunnel to a path": HEAD.replace(b"POST", b"CONNECT") + b"\r\n" + RIDER,
    "a target with a space": HEAD.replace(b"completions HTTP", b"completions x HTTP") + b"\r\n" + RIDER,
    "a target with a null": HEAD.replace(b"completions ", b"completions\x00 ") + b"\r\n" + RIDER,
    "a target with a tab": HEAD.replace(b"completions ", b"completions\t ") + b"\r\n" + RIDER,
    "a fragment": HEAD.replace(b" /v1", b" #/v1") + b"\r\n" + RIDER,
    "two spaces": HEAD.replace(b"POST ", b"POST  ") + b"\r\n" + RIDER,
    "a tab for a space": HEAD.replace(b"POST ", b"POST\t") + b"\r\n" + RIDER,
    "a space before the method": b" " + HEAD + b"\r\n" + RIDER,
    "an empty line with a space before": b" \r\n" + HEAD + b"Content-Length: 0\r\n\r\n" + RIDER,
    "two hosts": HEAD + b"Host: h\r\nContent-Length: 0\r\n\r\n" + RIDER,
    "two hosts that agree": HEAD + b"Host: g\r\nContent-Length: 0\r\n\r\n" + RIDER,
    "no host": LINE + b"Authorization: Bearer game-key\r\nContent-Length: 0\r\n\r\n" + RIDER,
    "a host with a path": HEAD.replace(b"Host: g", b"Host: g/x") + b"\r\n" + RIDER,
    "a host with a user": HEAD.replace(b"Host: g", b"Host: u@g") + b"\r\n" + RIDER,
    "two keys": HEAD + b"Authorization: Bearer other\r\nContent-Length: 0\r\n\r\n" + RIDER,
    "an unknown expectation": HEAD + b"Expect: 100-continue, x\r\nContent-Length: 0\r\n\r\n" + RIDER,
    "a huge header": HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n" + RIDER,
    "very many headers": HEAD + b"".join(b"X%d: y\r\n" % n for n in range(3000)) + b"\r\n" + RIDER,
    "a huge target": HEAD.replace(b"completions", b"c" * 9000) + b"\r\n" + RIDER,
    "an unknown method": HEAD.replace(b"POST", b"FROB") + b"\r\n" + RIDER,
    "a tunnel": HEAD.replace(b"POST /v1/chat/completions", b"CONNECT g:443") + b"\r\n" + RIDER,
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + RIDER,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + RIDER,
    "a proxy's first line": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + RIDER,
    "a proxy's first line in binary": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + RIDER,
    "too long a body": HEAD + b"Content-Length: 99999999\r\n\r\n" + RIDER,
    "without a key": LINE + b"Host: g\r\nContent-Length: 99999\r\n\r\n" + RIDER,
}

# Read by every recipient as chunked, so nobody disagrees: the rider is a second request, and may be answered.
PLAIN = ("chunked", "upper case", "a tab before", "a tab after")

CORPUS = (
    {f"CL.TE, {name}": te(value) for name, value in CODINGS.items()}
    | {f"TE alone, {name}": lone_te(value) for name, value in CODINGS.items() if name not in PLAIN}
    | {f"CL, {name}": cl(*values) for name, values in LENGTHS.items()}
    | {f"chunk size, {name}": chunks(data) for name, data in SIZES.items()}
    | OTHERS
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for more than will come waits shortly."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "IDLE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(limits, name, 0.3)


def cuts(data: bytes) -> list[list[bytes]]:
    """At once, in two pieces, byte by byte (what is long in 400 pieces)."""
    half, step = len(data) // 2, max(1, len(data) // 400)
    return [[data], [data[:half], data[half:]], [data[at : at + step] for at in range(0, len(data), step)]]


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS.keys())
async def test_nothing_rides_behind_what_is_ambiguous(rig: Rig, world: World, engine: Engine, data: bytes) -> None:
    for pieces in cuts(data):
        try:
            answer = await raw(rig.port, *pieces, seconds=30)
        except ConnectionResetError:
            answer = b""
        found = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
        assert len(found) <= 1, answer
        assert not found or 400 <= int(found[0]) < 600, answer
        assert not found or b"\r\nConnection: close\r\n" in answer
    assert engine.chats == 0
    await eventually(lambda: rig.service.connections == 0)


async def test_the_rider_itself_is_answered_so_the_corpus_proves_something(
    rig: Rig, world: World, engine: Engine
) -> None:
    assert b"HTTP/1.1 200 " in await raw(rig.port, RIDER)
    assert engine.asked[0].body["messages"][0]["content"] == "smuggled"


HONEST = {
    "a length that hides it": HEAD + LENGTH + b"\r\n" + RIDER,
    "chunks that hide it": HEAD + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(RIDER), RIDER),
}


@pytest.mark.parametrize("data", HONEST.values(), ids=HONEST.keys())
async def test_a_request_in_an_honest_body_is_never_more_than_a_body(
    rig: Rig, world: World, engine: Engine, data: bytes
) -> None:
    answer = await raw(rig.port, data, seconds=30)
    assert re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer) == [b"400"]
    assert engine.chats == 0


async def test_a_body_shorter_than_its_length_takes_the_next_request_for_its_rest(
    rig: Rig, world: World, engine: Engine
) -> None:
    lying = HEAD + b"Content-Length: %d\r\n\r\n{}" % (len(RIDER) + 2)
    answer = await raw(rig.port, lying + RIDER, seconds=30)
    assert re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer) == [b"400"]
    assert engine.chats == 0


async def test_what_never_comes_to_its_end_ends_in_bounded_time(rig: Rig, world: World, engine: Engine) -> None:
    took = []
    for data in (HEAD[:10], HEAD, HEAD + b"\r", HEAD + LENGTH + b"\r\n", HEAD + CHUNKED + b"\r\nff\r\nabc"):
        began = asyncio.get_running_loop().time()
        answer = await raw(rig.port, data, seconds=30)
        assert re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer) == [b"408"]
        took.append(asyncio.get_running_loop().time() - began)
    # A machine that stands still for a moment does so once, not three times.
    assert statistics.median(took) < 2
    assert engine.chats == 0
