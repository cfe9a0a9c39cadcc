"""Waiting with a limit and a reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class BenchFault(Exception):
    """The world did not get to where a measurement needs it; the message says what was missing."""


async def until(holds: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 60.0, pause: float = 0.05) -> None:
    """Asks until it holds. Raises BenchFault after `seconds`."""
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise BenchFault(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(pause)
