"""Calls that block (boto3's), each in a daemon thread of its own: neither the loop, nor what else needs the loop's own
few threads, nor the end of the process waits for a cloud that does not answer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")

_here = threading.local()


def is_awaited() -> bool:
    """Whether somebody still waits for the call that runs in this thread; True in a thread that is none of ours. A call
    of many steps asks before each: whoever leads next may have acted meanwhile."""
    gone: threading.Event | None = getattr(_here, "gone", None)
    return gone is None or not gone.is_set()


async def in_thread(call: Callable[[], T], *, name: str, abandoned: Callable[[T], None] | None = None) -> T:
    """What the call returns or raises. What it returns after whoever waited was cancelled goes to `abandoned`, in a
    thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    gone = threading.Event()

    def hand_over(result: T) -> None:
        if abandoned is not None:
            threading.Thread(target=abandoned, args=(result,), name=name, daemon=True).start()

    def fail(error: Exception) -> None:
        if not done.cancelled():
            done.set_exception(error)

    def settle(result: T) -> None:
        if done.cancelled():
            hand_over(result)  # cancelled after the thread had looked for it
        else:
            done.set_result(result)

    def tell(say: Callable[[V], None], what: V) -> None:
        try:
            loop.call_soon_threadsafe(say, what)
        except RuntimeError:  # the loop is closed, and so is everything that waited
            logger.debug("an answer came after the end")

    def run() -> None:
        _here.gone = gone
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who waits for it
            return tell(fail, error)
        if gone.is_set():
            return abandoned(result) if abandoned is not None else None
        return tell(settle, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await done
    except asyncio.CancelledError:
        gone.set()
        if done.done() and not done.cancelled() and done.exception() is None:
            hand_over(done.result())
        raise
