"""Reads an interruption queue for as long as this process leads: receive, understand, act, and only then delete.

A message whose act failed, or that was in hand when leadership was lost, is not deleted and comes again; acting twice
is harmless, because a notice has an identity. What is understood and means nothing is deleted and counted. What is no
message at all is set aside and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.ports import Clock, InterruptionQueue, PortError, QueueMessage

BATCH = 10
WAIT_SECONDS = 20
RETRY_SECONDS = (1.0, 5.0, 15.0, 30.0)
"""Pauses after failures; the last repeats."""
PERMANENT_RETRY_SECONDS = 300.0
"""After a failure that only a change of rights can help."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """What was read, since this reader began."""

    messages: int = 0
    notices: Counter[str] = field(default_factory=Counter)
    """By kind."""
    ignored: Counter[str] = field(default_factory=Counter)
    """By reason."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """By what became of them."""
    failed: int = 0
    """Messages that were left on the queue because acting on them failed."""


class InterruptionReader:
    """One queue's reader. `act` is given the notices of a batch, and returns once they cannot be lost any more: it is
    what stands between a message and its deletion. `trouble` is called with a fault's reason, and with an empty one
    when the queue can be read again.
    """

    def __init__(
        self,
        queue: InterruptionQueue,
        *,
        clock: Clock,
        act: Callable[[tuple[Notice, ...]], Awaitable[None]],
        trouble: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._act = act
        self._trouble = trouble
        self._reason = ""
        self.seen = Seen()

    async def run(self) -> None:
        """Reads until cancelled."""
        failures = 0
        while True:
            try:
                await self.read(WAIT_SECONDS)
            except PortError as error:
                failures += 1
                self._say(error.reason)
                pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1]
                await asyncio.sleep(pause if error.retryable else PERMANENT_RETRY_SECONDS)
                continue
            failures = 0
            self._say("")

    async def read(self, wait_seconds: int) -> int:
        """One batch; returns how many messages it had. Raises PortError when the queue cannot be read, or when what was
        read could not be acted on."""
        messages = await self._queue.receive(BATCH, wait_seconds)
        if not messages:
            return 0
        self.seen.messages += len(messages)
        now = self._clock.now()
        notices: list[Notice] = []
        understood: list[QueueMessage] = []
        strange: list[tuple[QueueMessage, str]] = []
        for message in messages:
            found = parse_message(message.body, seen=now)
            told = [item for item in found if isinstance(item, Notice)]
            notices += told
            ignored = [item for item in found if not isinstance(item, Notice)]
            self.seen.ignored.update(item.reason for item in ignored)
            malformed = next((item.reason for item in ignored if item.malformed), None)
            if malformed is not None and not told:
                strange.append((message, malformed))
            else:
                understood.append(message)
        if notices:
            await self._act_on(tuple(notices), len(understood))
        self.seen.notices.update(notice.kind.value for notice in notices)
        failed = await self._queue.delete(tuple(message.handle for message in understood)) if understood else ()
        if failed:
            logger.warning("messages could not be deleted and come again", extra={"messages": len(failed)})
        for message, reason in strange:
            self.seen.set_aside[await self._queue.set_aside(message, reason)] += 1
        return len(messages)

    async def _act_on(self, notices: tuple[Notice, ...], messages: int) -> None:
        try:
            await self._act(notices)
        except PortError:
            self.seen.failed += messages
            raise
        except Exception as error:
            self.seen.failed += messages
            logger.exception("notices could not be acted on, their messages stay")
            raise PortError("notices could not be acted on", reason="ActFailed") from error

    def _say(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            if reason:
                logger.warning("the interruption queue cannot be read", extra={"reason": reason})
            self._trouble(reason)
