"""Measures how late the event loop runs what is due: the number that shows whether anything blocks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL = 0.05


async def measure(note: Callable[[float], None]) -> None:
    """Calls `note` with the seconds of delay, 20 times a second, until cancelled."""
    while True:
        due = time.monotonic() + INTERVAL
        await asyncio.sleep(INTERVAL)
        note(max(0.0, time.monotonic() - due))
