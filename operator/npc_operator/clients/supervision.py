"""Tasks that nobody awaits must not end unnoticed: a poll or watch that broke would leave its pod or Secret unheard for
as long as the leadership lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Broken:
    """The first of many endless tasks that ended by itself: whoever runs them waits here, and ends with it."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._error: BaseException | None = None

    def look_at(self, task: asyncio.Task[Any]) -> None:
        """The done callback of such a task. Being cancelled is how it should end."""
        if task.cancelled():
            return
        error = RuntimeError(f"the task `{task.get_name()}` ended by itself")
        error.__cause__ = task.exception()
        self._error = self._error or error
        self._ended.set()

    async def wait(self) -> None:
        """Until cancelled. Raises RuntimeError when a task ended by itself."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error


async def endless(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run what should only ever be cancelled. Raises what it raises, and RuntimeError if it returns."""
    await work()
    raise RuntimeError(f"{name} ended by itself")
