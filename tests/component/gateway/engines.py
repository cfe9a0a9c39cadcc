"""Scripted engines: byte for byte what a test says, on loopback ports chosen by the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hack.cluster.ports import pick_port
from tests.component.gateway.words import ENGINE_KEY


@dataclass
class Asked:
    """One request as an engine received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Reply:
    """What a script may do with one request's connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.kept = True

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, status: int, body: object, *, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(data)}\r\n\r\n"
        await self.send(head.encode() + data)

    async def stream_head(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def event(self, data: object) -> None:
        await self.send(chunk(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"))

    async def end(self) -> None:
        await self.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def silence(self) -> None:
        """Say nothing more: ends with the engine, or with the connection."""
        await asyncio.Event().wait()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def reset(self) -> None:
        """Drop the connection on the floor."""
        self.kept = False
        self._writer.transport.abort()


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


SO_ATTACH_FILTER = 26
_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of every packet
_DROP_ALL = struct.pack("HL", 1, ctypes.addressof(_NOTHING))


Script = Callable[[Asked, Reply], Awaitable[None]]


async def mute(asked: Asked, reply: Reply) -> None:
    """Take the question and say nothing."""
    await reply.silence()


async def head_only(asked: Asked, reply: Reply) -> None:
    """Begin an answer without a token."""
    await reply.stream_head()
    await reply.silence()


class Engine:
    """An engine that answers like vLLM unless a script says otherwise."""

    def __init__(self, *loaded: str, words: int = 3) -> None:
        self.loaded = set(loaded)
        self.words = words
        self.pause = 0.0
        self.script: Script | None = None
        self.asked: list[Asked] = []
        self.running = 0
        self.connections = 0
        self.aborted = asyncio.Event()
        self.host = "127.0.0.1"
        self.port = pick_port()  # one that is still free when it comes back
        self.key = ENGINE_KEY
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Engine:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def vanish(self) -> None:
        """As if its host had lost its power: the kernel drops whatever comes, new connections included, and says no
        word."""
        assert self._server is not None
        ends = [writer.get_extra_info("socket") for writer in self._writers]
        for end in (*self._server.sockets, *ends):
            end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _DROP_ALL)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        """Close every connection there is, and go on listening."""
        for writer in self._writers:
            writer.close()

    @property
    def chats(self) -> int:
        return len(self.asked)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, json.loads(body))
        self.asked.append(asked)
        self.running += 1
        reply = Reply(writer)
        answering = asyncio.ensure_future((self.script or self.answer)(asked, reply))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not gone.result():
                self.aborted.set()
                return False
            await answering
        finally:
            self.running -= 1
            answering.cancel()
            gone.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
        return reply.kept

    async def answer(self, asked: Asked, reply: Reply) -> None:
        """What vLLM would do."""
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            await reply.json(401, {"error": "Unauthorized"})
            return
        model = asked.body["model"]
        if model not in self.loaded:
            text = f"The model `{model}` does not exist."
            await reply.json(404, {"error": {"message": text, "type": "NotFoundError", "param": "model", "code": 404}})
            return
        if asked.body.get("stream"):
            await reply.stream_head()
            for number in range(self.words):
                await asyncio.sleep(self.pause)
                delta = {"content": f"{model} {number} "}
                await reply.event({"object": "chat.completion.chunk", "model": model, "choices": [{"delta": delta}]})
            await reply.end()
            return
        await asyncio.sleep(self.pause * self.words)
        content = "".join(f"{model} {number} " for number in range(self.words))
        message = {"role": "assistant", "content": content}
        await reply.json(200, {"object": "chat.completion", "model": model, "choices": [{"message": message}]})
