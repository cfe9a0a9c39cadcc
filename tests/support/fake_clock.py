"""Time that tests own: an event loop on which waiting costs nothing, and the Clock port over it.

    def test_something() -> None:
        async def scenario(clock: FakeClock) -> None: ...
        run_virtual(scenario)

Sleeping jumps to the next timer as soon as nothing else can run, so a test of a ten-second lease takes milliseconds
and never depends on the machine. Real sockets do not work on such a loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

START_UNIX = 1_700_000_000.0
START_MONOTONIC = 1_000.0


class _JumpingSelector(selectors.BaseSelector):
    """Advances the loop's time instead of waiting; only the loop's own wake-up pipe may be registered."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.time = START_MONOTONIC

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for something nobody does")
        self.time += max(0.0, timeout)
        return []

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nobody works."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # Timers that are due within the clock's resolution run together; a virtual clock has none.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.time

    def pass_time(self, seconds: float) -> None:
        """Time passes while the loop is busy (what a blocking call would do)."""
        self._jumping.time += seconds


class FakeClock:
    """ports.Clock of a virtual loop; outside of one it stands still until `advance`."""

    def __init__(self, loop: VirtualLoop | None = None) -> None:
        self._loop = loop
        self._own = START_MONOTONIC

    def monotonic(self) -> float:
        return self._loop.time() if self._loop is not None else self._own

    def now(self) -> float:
        return START_UNIX + self.monotonic() - START_MONOTONIC

    def advance(self, seconds: float) -> None:
        """Let time pass without anything running."""
        if self._loop is not None:
            self._loop.pass_time(seconds)
        else:
            self._own += seconds


def run_virtual(scenario: Callable[[FakeClock], Awaitable[T]]) -> T:
    """Run a scenario to its end on a loop of its own; leftover tasks are cancelled and awaited."""
    loop = VirtualLoop()
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:

            async def main() -> T:
                return await scenario(FakeClock(loop))

            return runner.run(main())
    finally:
        if not loop.is_closed():
            loop.close()


async def settle(turns: int = 20) -> None:
    """Let everything that can run now run, without any time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
