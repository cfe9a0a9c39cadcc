"""Work that goes on for as long as the process lives: a fault in it is logged and it starts again, so that it can
never end without anybody seeing it.

A task that dies keeps its exception to itself until it is collected, and the gateway would go on half alive: agents
unheard, deadlines unchecked, a worker missing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
CALM_SECONDS = 60.0
"""What ran so long before it failed is tried again without having to wait for what was long ago."""


async def supervise(
    name: str, work: Callable[[], Awaitable[None]], *, on_fault: Callable[[], None] = lambda: None
) -> None:
    """Run `work` until it returns or is cancelled; whatever else it raises is logged with its traceback and it starts
    again after a pause that grows. `on_fault` is called before each pause; a fault of its own is logged too."""
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = loop.time()
        try:
            await work()
        except Exception:  # the whole point: any fault is seen, none is the end
            log.exception("something that must go on failed and is started again", extra={"work": name})
        else:
            return
        try:
            on_fault()
        except Exception:
            log.exception("what should follow a fault failed itself", extra={"work": name})
        if loop.time() - began > CALM_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries, guards nothing)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
