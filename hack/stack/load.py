"""A steady, open-loop load of lines on a gateway that checks every single answer.

Open loop: requests start at their intended times whether or not earlier ones are done, so a stall shows as latency
instead of hiding as a lower rate. Every answer is kept as a `Line` with the digest its header claims; what the text
must be for that digest is known beforehand (a lone vLLM said it), so an answer mixed from two versions cannot pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

# Longest that one line may take before it counts as failed; a tiny model on a busy CPU answers in well under a second.
LINE_TIMEOUT_SECONDS = 60.0
# After which every gateway has surely taken the routes that a status already speaks of (both are written at the same
# time), also on a starved machine. Only lines that start later are judged by what the status said.
TAKEN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to the gateway."""

    archetype: str
    prompt: str
    tier: str = ""
    npc: str = ""
    player: str = ""
    """Beside an NPC: whose conversation with it the line belongs to."""
    max_tokens: int = 8
    stream: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One answer. `failure` is empty for a complete one."""

    ask: Ask
    intended: float
    """time.monotonic() at which it was to start."""
    started: float = 0.0
    first_byte: float = 0.0
    ended: float = 0.0
    status: int = 0
    text: str = ""
    digest: str = ""
    """What the answer says that it was spoken by: an adapter's digest, or what stood in for one."""
    tier: str = ""
    degraded: str = ""
    """How far below what was asked for the answer says it is; empty for not at all."""
    failure: str = ""


@dataclass(slots=True)
class Tally:
    """All lines of a load, in the order they ended."""

    lines: list[Line] = field(default_factory=list)

    @property
    def failures(self) -> list[Line]:
        return [line for line in self.lines if line.failure]

    @property
    def degraded(self) -> list[Line]:
        """The lines that were answered by less than what was asked for."""
        return [line for line in self.lines if line.degraded]

    def answered_by(self, digest: str) -> list[Line]:
        """The complete lines that this digest spoke."""
        return [line for line in self.lines if line.digest == digest and not line.failure]

    def by_digest(self) -> Counter[str]:
        return Counter(line.digest for line in self.lines if not line.failure)

    def mixed(self, expected: Mapping[tuple[str, str], str]) -> list[Line]:
        """Complete lines whose text is not what their digest says for their archetype; `expected` is (archetype,
        digest) -> text.

        A digest that is not in `expected` is a fault too: nobody asked for it.
        """
        return [
            line
            for line in self.lines
            if not line.failure and expected.get((line.ask.archetype, line.digest)) != line.text
        ]

    def started_after(self, moment: float) -> list[Line]:
        """The lines that started after `moment` (time.monotonic())."""
        return [line for line in self.lines if line.started > moment]

    def first_with(self, digest: str) -> Line | None:
        """The line that started first among those answered by `digest`."""
        return min(
            (line for line in self.lines if line.digest == digest and not line.failure),
            key=lambda line: line.started,
            default=None,
        )

    def last_without(self, digest: str, archetype: str) -> Line | None:
        """The line of `archetype` that started last among those answered by another digest."""
        others = (
            line
            for line in self.lines
            if line.ask.archetype == archetype and line.digest != digest and not line.failure
        )
        return max(others, key=lambda line: line.started, default=None)


def _body(ask: Ask) -> dict[str, object]:
    return {
        "model": ask.archetype,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "stream": ask.stream,
    }


def _headers(ask: Ask, key: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if ask.tier:
        headers["X-NPC-Tier"] = ask.tier
    if ask.npc:
        headers["X-NPC-Id"] = ask.npc
    if ask.player:
        headers["X-Player-Id"] = ask.player
    return headers


async def _read_stream(response: aiohttp.ClientResponse) -> tuple[str, float, str]:
    """Text, time of the first byte, failure. A stream without its [DONE] is cut off, however whole it looks."""
    text, first, done = "", 0.0, False
    async for raw in response.content:
        first = first or time.monotonic()
        data = raw.decode().strip()
        if not data.startswith("data:"):
            continue
        payload = data.removeprefix("data:").strip()
        if payload == "[DONE]":
            done = True
            continue
        event = json.loads(payload)
        if "error" in event:
            return text, first, f"error event: {event['error'].get('message', event['error'])}"
        text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return text, first, "" if done else "stream ended without [DONE]"


async def ask_once(
    session: aiohttp.ClientSession, url: str, key: str, ask: Ask, *, intended: float | None = None
) -> Line:
    """Ask and judge; never raises for what the server or the network does."""
    started = time.monotonic()
    intended = started if intended is None else intended
    try:
        async with session.post(f"{url}/v1/chat/completions", json=_body(ask), headers=_headers(ask, key)) as response:
            digest = response.headers.get("X-NPC-Served-By", "")
            tier = response.headers.get("X-NPC-Served-Tier", "")
            degraded = response.headers.get("X-NPC-Degraded", "")
            if response.status != 200:
                failure = f"HTTP {response.status}: {(await response.text())[:300]}"
                text, first = "", 0.0
            elif ask.stream:
                text, first, failure = await _read_stream(response)
            else:
                answer = await response.json()
                text, first, failure = answer["choices"][0]["message"]["content"] or "", time.monotonic(), ""
            return Line(
                ask=ask,
                intended=intended,
                started=started,
                first_byte=first,
                ended=time.monotonic(),
                status=response.status,
                text=text,
                digest=digest,
                tier=tier,
                degraded=degraded,
                failure=failure,
            )
    except (aiohttp.ClientError, TimeoutError, ConnectionError, json.JSONDecodeError, KeyError) as error:
        return Line(
            ask=ask,
            intended=intended,
            started=started,
            ended=time.monotonic(),
            failure=f"{type(error).__name__}: {error}",
        )


def new_session(*, spread: bool = False) -> aiohttp.ClientSession:
    """A client without a cap on connections (the load decides how many there are). `spread`: one for each line, so that
    lines come to all gateways behind an address; where connections are kept, one may carry everything.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=spread)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LINE_TIMEOUT_SECONDS))


class Load:
    """`async with Load(url, key, asks, rate=20) as load: ...` runs until the block ends, then waits for lines under
    way.

    `asks` is gone through in turn, one every 1/rate seconds; `spread` as for `new_session`.
    """

    def __init__(self, url: str, key: str, asks: Sequence[Ask], *, rate: float, spread: bool = False) -> None:
        self._url, self._key, self._asks, self._rate, self._spread = url, key, asks, rate, spread
        self.tally = Tally()
        self._changed = asyncio.Condition()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Load:
        self._session = new_session(spread=self._spread)
        self._pacer = asyncio.create_task(self._pace())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pacer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pacer
        if self._running:
            await asyncio.wait(self._running)
        await self._session.close()

    def use_key(self, key: str) -> None:
        """Requests from now on carry this API key."""
        self._key = key

    async def until(self, lines: int, *, timeout: float = 300.0) -> None:
        """Return once `lines` more lines have ended."""
        target = len(self.tally.lines) + lines
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: len(self.tally.lines) >= target), timeout)

    async def until_started_after(self, moment: float, lines: int, *, timeout: float = 300.0) -> None:
        """Return once `lines` lines that started after `moment` (time.monotonic()) have ended.

        What was under way at `moment` may end much later on a busy machine and says nothing of what holds since.
        """
        async with self._changed:
            await asyncio.wait_for(
                self._changed.wait_for(lambda: len(self.tally.started_after(moment)) >= lines), timeout
            )

    async def until_answered_by(self, digest: str, archetype: str, *, timeout: float = 300.0) -> None:
        """Return once a line of `archetype` was answered by `digest`."""
        await self.until_any(
            lambda line: line.digest == digest and line.ask.archetype == archetype and not line.failure,
            timeout=timeout,
        )

    async def until_any(self, holds: Callable[[Line], bool], *, timeout: float = 120.0) -> Line:
        """The first line that ended as `holds` wants it; waits for one."""

        def found() -> Line | None:
            return next((line for line in self.tally.lines if holds(line)), None)

        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: found() is not None), timeout)
            line = found()
        assert line is not None
        return line

    async def _pace(self) -> None:
        start, count = time.monotonic(), 0
        while True:
            intended = start + count / self._rate
            delay = intended - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            ask = self._asks[count % len(self._asks)]
            task = asyncio.create_task(self._one(ask, intended))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            count += 1

    async def _one(self, ask: Ask, intended: float) -> None:
        line = await ask_once(self._session, self._url, self._key, ask, intended=intended)
        async with self._changed:
            self.tally.lines.append(line)
            self._changed.notify_all()
