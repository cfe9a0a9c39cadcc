"""What must hold for any bytes at all, from a client and from an engine. The first byte of the input says how the rest
is cut into pieces, so that a fuzzer finds what only some cuts show.
"""

from __future__ import annotations

import json
import logging
import re

from npc_runtime.gateway.client_side import ClientConnection
from npc_runtime.gateway.http.limits import MAX_ENGINE_HEAD_BYTES, MAX_PIPELINED_BYTES
from tests.fuzz.world import ANSWER, KEY, Check, Transport, World

SLACK_BYTES = 16 << 10
"""Of framing that may be held beside a body."""

_ASKED = re.compile(rb"POST /v1/chat/completions HTTP/1\.1\r\n(?:[!-~]+: [ -~]*\r\n)+\r\n", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")

LINE = json.dumps({"model": "vampire", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()
STREAMED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    % (KEY.encode(), len(LINE))
) + LINE


class _Errors(logging.Handler):
    """A fault that the gateway caught and logged is a fault all the same."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def pieces(data: bytes) -> list[bytes]:
    """The rest after the first byte: whole, or in pieces of as many bytes as that says."""
    size = data[0] if data else 0
    rest = data[1:]
    return [rest[at : at + size] for at in range(0, len(rest), size)] if size else [rest]


def check_request(world: World, data: bytes) -> None:
    """A client's bytes: an engine is asked only what a whole valid request asks, in any cut the same; nothing is held
    beyond the bounds; and the connection ends."""
    with _no_errors():
        asked = _send(world, pieces(data))
        assert asked == _send(world, [data[1:]]), "the cut decides what an engine is asked"


def _send(world: World, parts: list[bytes]) -> list[bytes]:
    client, transport = world.client()
    asked: list[bytes] = []
    try:
        for part in parts:
            if transport.is_over or not transport.reading:
                break
            engine, engine_transport = world.engine()
            client.data_received(part)
            world.turn()
            _bounded(client, len(part))
            while engine_transport.sent:
                asked.append(_one_question(engine_transport.sent))
                engine_transport.sent = b""
                engine.data_received(ANSWER)
                world.turn()
        _must_end(world, client, transport)
        statuses = _STATUS.findall(transport.sent)
        answered = sum(status == b"200" for status in statuses)
        assert len(asked) <= answered, "an engine was asked more often than it answered"
    finally:
        world.end(client)
    return asked


def _one_question(sent: bytes) -> bytes:
    """The body of what an engine was sent, which is one request of ours and nothing else."""
    head = _ASKED.match(sent)
    assert head is not None, sent
    lengths = re.findall(rb"\r\ncontent-length: ([0-9]+)\r\n", head.group(), re.IGNORECASE)
    assert len(lengths) == 1, sent
    assert b"transfer-encoding" not in head.group().lower(), sent
    body = sent[head.end() :]
    assert len(body) == int(lengths[0]), "something rides behind a request to an engine"
    assert isinstance(json.loads(body)["messages"], list)
    return body


def _bounded(client: ClientConnection, piece: int) -> None:
    held = client._reader.held
    assert held <= 4096 + 2048 + MAX_PIPELINED_BYTES + SLACK_BYTES + piece, "a connection holds without bounds"


def _must_end(world: World, client: ClientConnection, transport: Transport) -> None:
    """Whatever state it is in, its deadlines end it."""
    for _ in range(4):
        if transport.is_over:
            return
        client.expire()
        world.turn()
    assert transport.is_over, "a connection that never ends"


def check_answer(world: World, data: bytes) -> None:
    """An engine's bytes: the client gets one answer, whole and in its framing, or one that cannot pass for whole."""
    with _no_errors():
        engine, _ = world.engine()
        client, transport = world.client()
        try:
            client.data_received(STREAMED)
            world.turn()
            for part in pieces(data):
                if not engine.is_usable():
                    break
                engine.data_received(part)
                world.turn()
                assert len(engine._buffer) <= MAX_ENGINE_HEAD_BYTES + len(part), "a head is held without bounds"
            engine.connection_lost(None)
            world.turn()
            _one_answer(transport.sent, ended=transport.half_closed or transport.is_over)
            _must_end(world, client, transport)
        finally:
            world.end(client)


def _one_answer(sent: bytes, *, ended: bool) -> None:
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), "no answer at all"
    fields = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    names = [name.lower() for name, _, _ in fields]
    assert len(names) == len(set(names)), head
    if b"transfer-encoding" not in names:
        length = next(int(value) for name, _, value in fields if name.lower() == b"content-length")
        assert len(body) == length, "an answer longer or shorter than it says"
        return
    events, whole = _dechunk(body)
    if whole:
        assert events.rstrip().endswith(b"data: [DONE]"), "a stream that passes for whole and is not"
    else:
        assert ended, "a broken stream whose connection stays"


def _dechunk(body: bytes) -> tuple[bytes, bool]:
    """The payload of whole chunks, and whether the terminal one came."""
    events = b""
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            assert rest == b"\r\n", "something follows the end of a stream"
            return events, True
        assert rest[size : size + 2] == b"\r\n", "a part of a chunk was passed on"
        events += rest[:size]
        body = rest[size + 2 :]
    return events, False


class _no_errors:  # noqa: N801 (reads as the statement that it is)
    """Fails the block in which the gateway logged an error."""

    def __enter__(self) -> None:
        self._errors = _Errors()
        logging.getLogger("npc_runtime").addHandler(self._errors)

    def __exit__(self, *told: object) -> None:
        logging.getLogger("npc_runtime").removeHandler(self._errors)
        if told[0] is None:
            assert not self._errors.found, self._errors.found


CHECKS: dict[str, Check] = {"requests": check_request, "answers": check_answer}
"""By the folder of their corpus."""
