"""Engines with what makes real ones slow, asleep instead of at work: a few slots, and prompts that take time unless
their beginning is cached.

Each engine runs `slots` lines at once; what comes beyond waits, lower `priority` first, as with vLLM's priority
scheduling. A line takes the time of its prompt and then of its answer. The prompt is cut into blocks as vLLM does, and
only blocks whose whole beginning was not seen lately take time; the cache forgets what was used least recently.

Prints the ports as one line of JSON and serves until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import uvloop
from aiohttp import web

BLOCK_CHARACTERS = 64
"""About vLLM's 16 tokens."""


@dataclass(slots=True)
class Engine:
    """One engine's slots and cache. Times in seconds."""

    slots: int
    answer_seconds: float
    block_seconds: float
    cached_blocks: int
    chunks: int = 8
    running: int = 0
    asked: int = 0
    hit: int = 0
    blocks: int = 0
    _cache: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions, always streamed."""
        body = await request.json()
        self.asked += 1
        await self._take_slot(int(body.get("priority", 0)))
        try:
            await asyncio.sleep(self._look_up(body["messages"]) * self.block_seconds)
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await answer.prepare(request)
            for _ in range(self.chunks):
                await answer.write(b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n')
                await asyncio.sleep(self.answer_seconds / self.chunks)
            await answer.write(b"data: [DONE]\n\n")
            return answer
        finally:
            self._give_slot_back()

    async def state(self, _request: web.Request) -> web.Response:
        """GET /state: what was asked, and how many blocks of prompts were found cached."""
        return web.json_response({"asked": self.asked, "hit": self.hit, "blocks": self.blocks})

    async def _take_slot(self, priority: int) -> None:
        if self.running < self.slots:
            self.running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        await turn

    def _give_slot_back(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _look_up(self, messages: list[dict[str, Any]]) -> int:
        """How many blocks of this prompt must be computed."""
        text = "\n".join(str(message["content"]) for message in messages)
        ends = range(BLOCK_CHARACTERS, len(text) + 1, BLOCK_CHARACTERS)
        missing = sum(text[:end] not in self._cache for end in ends)
        for end in ends:
            self._cache[text[:end]] = None
            self._cache.move_to_end(text[:end])
        while len(self._cache) > self.cached_blocks:
            self._cache.popitem(last=False)
        self.blocks += len(ends)
        self.hit += len(ends) - missing
        return missing


async def _serve(arguments: argparse.Namespace) -> None:
    ports = []
    for _ in range(arguments.count):
        engine = Engine(
            slots=arguments.slots,
            answer_seconds=arguments.answer_milliseconds / 1000,
            block_seconds=arguments.block_milliseconds / 1000,
            cached_blocks=arguments.cached_blocks,
        )
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", engine.answer), web.get("/state", engine.state)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        ports.append(runner.addresses[0][1])
    print(json.dumps({"ports": ports}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1, help="of engines, each on a port of its own")
    parser.add_argument("--slots", type=int, default=256, help="lines that one of them runs at once")
    parser.add_argument("--answer-milliseconds", type=float, default=50.0, help="from the first to the last token")
    parser.add_argument("--block-milliseconds", type=float, default=0.0, help="of one block that is not cached")
    parser.add_argument("--cached-blocks", type=int, default=1_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
