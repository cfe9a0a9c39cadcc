"""Takes keys from the queue and runs them, many at once but each key alone; what one of them does wrong stays with it.

An exception that escapes the handler is a bug, not an outcome: it is counted and logged with the key, and the key is
tried again with its own backoff, while all others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar, assert_never

from npc_operator.domain.outcomes import Done, Outcome, Retry, Terminal, Wait
from npc_operator.loop.queue import KeyedQueue
from npc_operator.loop.store import Ticks
from npc_operator.ports import PortError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class Observer(Protocol):
    """Who counts."""

    def reconciled(self, key: object, outcome: str, seconds: float) -> None:
        """A run ended; `outcome` is Done, Wait, Retry, Terminal or Panic."""
        ...


class Runner(Generic[K]):
    """`concurrency` runs at a time. One runner per term of leadership; cancelling `run` cancels and awaits every
    run."""

    def __init__(
        self,
        *,
        queue: KeyedQueue[K],
        handle: Callable[[K], Awaitable[Outcome]],
        clock: Ticks,
        observer: Observer,
        concurrency: int = 32,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._clock = clock
        self._observer = observer
        self._slots = asyncio.Semaphore(concurrency)
        self._runs: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None

    async def run(self) -> None:
        """Runs keys until it is cancelled. Raises what ended a run by itself."""
        self._running = asyncio.current_task()
        try:
            while True:
                await self._slots.acquire()
                try:
                    key = await self._queue.get()
                except BaseException:
                    self._slots.release()
                    raise
                task = asyncio.create_task(self._run_one(key), name=f"reconcile {key}")
                self._runs.add(task)
                task.add_done_callback(self._ended)
                # One at a time: whoever waits for news, or for a lock, must not wait for all that are free to run.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._broken is not None:
                raise RuntimeError("a run ended by itself") from self._broken
            raise
        finally:
            for task in self._runs:
                task.cancel()
            while self._runs:
                await asyncio.wait(tuple(self._runs))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._runs.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None and self._broken is None:
            # A bug beside the reconcile itself, which is caught: its key would never run again.
            self._broken = error
            if self._running is not None:
                self._running.cancel()

    async def _run_one(self, key: K) -> None:
        started = self._clock.monotonic()
        try:
            outcome = await self._handle(key)
        except asyncio.CancelledError:
            self._queue.done(key)
            raise
        except PortError as error:
            word = self._settle(key, Retry(str(error)) if error.retryable else Terminal(str(error)))
        except Exception:
            seconds = self._queue.backoff(key)
            logger.exception("reconcile crashed, trying again in %.1f s", seconds, extra={"key": str(key)})
            word = "Panic"
        else:
            word = self._settle(key, outcome)
        self._queue.done(key)
        self._observer.reconciled(key, word, self._clock.monotonic() - started)

    def _settle(self, key: K, outcome: Outcome) -> str:
        match outcome:
            case Done(requeue_after=after):
                self._queue.forgive(key)
                if after is not None:
                    self._queue.add_after(key, after)
            case Wait(reason=reason, after=after):
                self._queue.forgive(key)
                self._queue.add_after(key, after)
                logger.debug("waits: %s", reason, extra={"key": str(key)})
            case Retry(error=error):
                seconds = self._queue.backoff(key)
                logger.warning("failed, trying again in %.1f s: %s", seconds, error, extra={"key": str(key)})
            case Terminal(reason=reason):
                logger.warning("stopped until it is changed: %s", reason, extra={"key": str(key)})
            case _ as never:
                assert_never(never)
        return type(outcome).__name__
