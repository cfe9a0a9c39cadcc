"""Open-loop load of streaming chat completions: requests leave when they are due, whatever became of those before.

Latency counts from the intended send time, so a server that falls behind cannot hide it. The client is as cheap as
the mock engine (prepared bytes, no parsing but for the end), because all of them share the machine with what is
measured.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

END = b"0\r\n\r\n"


@dataclass(slots=True)
class Outcome:
    """What one run at one rate gave; latencies in seconds from the intended send time."""

    rate: float
    sent: int = 0
    failed: int = 0
    shed: int = 0
    """Answered with 429."""
    marked: int = 0
    """Answers whose head held the mark that was looked for."""
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    """Until the first bytes of an answer, for those that were complete in the end."""
    lateness: list[float] = field(default_factory=list)
    """How late the generator itself was: above a few milliseconds the machine, not the server, is the limit."""

    def percentile(self, share: float) -> float:
        """The latency below which `share` of the answers lie; infinite without answers."""
        return at_share(self.latencies, share)


def at_share(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; infinite without any."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("inf")


class _Line(asyncio.Protocol):
    """One kept-alive connection of the generator."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._due = 0.0
        self._asked = False
        self._first = True
        self._ok = False
        self._shed = False
        self._marked = False
        self._first_at = 0.0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due, self._asked, self._first, self._tail = due, True, True, b""
        self._transport.write(request)

    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def is_streaming(self) -> bool:
        return self._asked and not self._first and self._ok and self.is_open()

    def data_received(self, data: bytes) -> None:
        if self._first:
            self._first = False
            self._first_at = perf_counter()
            self._ok = data.startswith(b"HTTP/1.1 200 ")
            self._shed = data.startswith(b"HTTP/1.1 429 ")
            self._marked = self._load.mark != b"" and self._load.mark in data
        tail = data[-64:] if len(data) >= 64 else (self._tail + data)[-64:]
        self._tail = tail
        if self._asked and (tail.endswith(END) or not self._ok):
            self._asked = False
            if self._shed:
                self._load.refused(self)
            else:
                first = self._first_at - self._due
                self._load.answered(
                    self, self._due, ok=self._ok and b"[DONE]" in tail, first=first, marked=self._marked
                )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._asked:
            self._asked = False
            self._load.answered(self, self._due, ok=False)


class Load:
    """A generator for one address."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], *, mark: bytes = b"") -> None:
        """Sends `requests` in turn; answers whose head holds `mark` are counted apart."""
        self._host = host
        self._port = port
        self._requests = itertools.cycle(requests)
        self.mark = mark
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Line] = deque()
        self._lines: set[_Line] = set()
        self._outcome = Outcome(0.0)
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def answered(self, line: _Line, due: float, *, ok: bool, first: float = 0.0, marked: bool = False) -> None:
        """Called by a line when its answer is complete or will not come."""
        if ok:
            self._outcome.latencies.append(perf_counter() - due)
            self._outcome.firsts.append(first)
            self._outcome.marked += marked
        else:
            self._outcome.failed += 1
        self._give_back(line)

    def refused(self, line: _Line) -> None:
        """Called by a line that was turned away."""
        self._outcome.shed += 1
        self._give_back(line)

    def _give_back(self, line: _Line) -> None:
        self._running -= 1
        if line.is_open():
            self._idle.append(line)

    @property
    def open_streams(self) -> int:
        """Answers that have begun, and not yet ended."""
        return sum(line.is_streaming() for line in self._lines)

    async def run(self, *, rate: float, seconds: float, patience: float = 10.0) -> Outcome:
        """Send `rate` requests a second for so long, then wait (at most `patience` seconds) for the last answers."""
        outcome = self._outcome = Outcome(rate)
        count = int(rate * seconds)
        begin = perf_counter() + 0.01
        for number in range(count):
            due = begin + number / rate
            wait = due - perf_counter()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            outcome.lateness.append(max(0.0, perf_counter() - due))
            self._send(due)
        deadline = perf_counter() + patience
        while self._running and perf_counter() < deadline:  # noqa: ASYNC110 (the end of a measurement, not of a request)
            await asyncio.sleep(0.01)
        outcome.failed += self._running
        self._running = 0
        return outcome

    def close(self) -> None:
        """Close every connection."""
        for line in self._lines:
            if line._transport is not None:  # noqa: SLF001 (same module)
                line._transport.abort()  # noqa: SLF001

    def _send(self, due: float) -> None:
        self._outcome.sent += 1
        self._running += 1
        request = next(self._requests)
        while self._idle:
            line = self._idle.pop()
            if line.is_open():
                line.ask(request, due)
                return
        task = asyncio.ensure_future(self._open(request, due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, request: bytes, due: float) -> None:
        try:
            _, line = await self._loop.create_connection(lambda: _Line(self), self._host, self._port)
        except OSError:
            self._running -= 1
            self._outcome.failed += 1
            return
        self._lines.add(line)
        line.ask(request, due)
