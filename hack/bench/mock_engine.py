"""Engines that cost almost nothing: they answer every chat completion like vLLM would, after a fixed time.

Prints the ports as one line of JSON and serves until it is ended. With --hold a stream stays open after its first
event. Bytes are prepared once; a request is found by its framing alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')


def _event(data: bytes) -> bytes:
    payload = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _chunk(content: str, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish}
    body = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": [choice]}
    return _event(json.dumps(body).encode())


HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: mock\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = _event(b"[DONE]") + b"0\r\n\r\n"
WHOLE = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 8}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16},
    }
).encode()
MODELS = json.dumps({"object": "list", "data": [{"id": "mock", "object": "model", "owned_by": "mock"}]}).encode()


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class MockEngine(asyncio.Protocol):
    """One connection; one request at a time, as the gateway and the router send them."""

    def __init__(self, *, seconds: float, chunks: int, hold: bool) -> None:
        self._hold = hold
        self._gap = seconds / chunks
        self._seconds = seconds
        self._chunks = [_chunk(f"word{index} ") for index in range(chunks)]
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(self._buffer, 0, end + 2)
        total = end + 4 + (int(found.group(1)) if found else 0)
        if len(self._buffer) < total:
            return
        request, self._buffer = self._buffer[:total], self._buffer[total:]
        if request.startswith(b"GET"):
            self._write(_whole(MODELS if b"/v1/models" in request[:40] else b"{}"))
        elif _STREAM.search(request, end):
            self._loop.call_later(self._gap, self._stream, 0)
        else:
            self._loop.call_later(self._seconds, self._write, _whole(WHOLE))

    def _stream(self, index: int) -> None:
        last = index == len(self._chunks) - 1
        self._write((HEAD if index == 0 else b"") + self._chunks[index] + (END if last else b""))
        if not last and not self._hold:
            self._loop.call_later(self._gap, self._stream, index + 1)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    seconds = arguments.milliseconds / 1000
    servers = [
        await loop.create_server(
            lambda: MockEngine(seconds=seconds, chunks=arguments.chunks, hold=arguments.hold),
            "127.0.0.1",
            0,
            backlog=4096,
        )
        for _ in range(arguments.count)
    ]
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1, help="of engines, each on a port of its own")
    parser.add_argument("--hold", action="store_true", help="streams stay open after their first event")
    parser.add_argument("--milliseconds", type=float, default=20.0, help="from the request to the end of the answer")
    parser.add_argument("--chunks", type=int, default=8)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
