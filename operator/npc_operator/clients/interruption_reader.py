"""Reads an interruption queue for as long as this process leads: receive, understand, act, and only then delete.

A message whose act failed, or that was in hand when leadership was lost, is not deleted and comes again; acting twice
is harmless, because a notice has an identity. What is understood and means nothing is deleted and counted. What is no
message at all is set aside and counted.

A machine of which no Node is listed may be somebody else's, or be on its way into the cluster. Its message is put off
until the longest notice is over, instead of coming again every few seconds: where rules speak of a whole account, most
messages are foreign, and must neither hold up others nor fill a dead letter queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from npc_operator.domain import reasons
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.queues import UNKNOWN_MACHINE
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.ports import Clock, InterruptionQueue, PortError, QueueMessage, Unsettled

BATCH = 10
WAIT_SECONDS = 20
RETRY_SECONDS = (1.0, 5.0, 15.0, 30.0)
"""Pauses after failures; the last repeats."""
PERMANENT_RETRY_SECONDS = 60.0
"""After a failure that only a change of rights can help; whoever made it waits to see it work."""
NOTHING = "None"
"""The kind of a message that tells of no machine."""
UNKEPT_SECONDS = 60.0
"""So long after its last failure a message still counts as trouble: it comes again after its visibility timeout, unless
it went to the dead letter queue."""

FOREIGN_SECONDS = 120
"""So long after it was sent a message may wait for a Node of its machine: as long as EC2's notice. Then
it is foreign."""
FOREIGN_RECEPTIONS = 3
"""Receptions after which it waits no more, should both clocks disagree."""

logger = logging.getLogger(__name__)


class QueueMeter(Protocol):
    """Counts messages; never raises, never blocks."""

    def counted(self, kind: str, outcome: str, reason: str) -> None:
        """One message: what it told of, what became of it, and why where that was nothing."""
        ...

    def aged(self, kind: str, seconds: float) -> None:
        """How long after it was sent a message had been acted on."""
        ...


class _Uncounted:
    def counted(self, kind: str, outcome: str, reason: str) -> None: ...

    def aged(self, kind: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Understood:
    """A message that may be deleted once its notices were acted on."""

    message: QueueMessage
    notices: tuple[Notice, ...]
    kind: str
    reason: str
    """Why it tells of no machine; empty where it does."""


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
    waiting: int = 0
    """Messages that were left on the queue because what they say could not be settled yet."""


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of a message that was understood."""

    outcome: str
    """Acted, Ignored, Failed or Waiting: the first two are deleted."""
    reason: str = ""
    wait: int = 0
    """Seconds to put it off; 0: it comes again by itself."""

    @property
    def done(self) -> bool:
        return self.outcome in ("Acted", "Ignored")


class InterruptionReader:
    """One queue's reader. `act` is given the notices of one message, and returns once they cannot be lost any more: it
    is what stands between a message and its deletion. One that fails holds up no other. `trouble` is called with a
    fault's reason, and with an empty one when the queue is read: at first, and again after a fault.
    """

    def __init__(
        self,
        queue: InterruptionQueue,
        *,
        clock: Clock,
        act: Callable[[tuple[Notice, ...]], Awaitable[None]],
        trouble: Callable[[str], None],
        meter: QueueMeter | None = None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._act = act
        self._trouble = trouble
        self._meter = meter or _Uncounted()
        self._reason: str | None = None
        self._unkept: dict[str, tuple[float, str]] = {}
        """When acting on a message failed last, and why, by its id."""
        self.seen = Seen()

    async def run(self) -> None:
        """Reads until cancelled."""
        failures, known = 0, False
        while True:
            try:
                # Without waiting until it is known whether the queue can be read at all.
                await self.read(WAIT_SECONDS if known else 0)
            except PortError as error:
                reason, pause = error.reason, _pause(failures) if error.retryable else PERMANENT_RETRY_SECONDS
            except Exception:
                logger.exception("a bug while reading the interruption queue")
                reason, pause = reasons.QUEUE_UNREACHABLE, _pause(failures)
            else:
                failures, known = 0, True
                self._say(self._unkept_reason())
                continue
            failures, known = failures + 1, False
            self._say(reason)
            await asyncio.sleep(pause)

    async def read(self, wait_seconds: int) -> int:
        """One batch; returns how many messages it had. Raises PortError when the queue cannot be read or written."""
        messages = await self._queue.receive(BATCH, wait_seconds)
        self.seen.messages += len(messages)
        now = self._clock.now()
        understood: list[_Understood] = []
        strange: list[tuple[QueueMessage, str]] = []
        for message in messages:
            found = parse_message(message.body, seen=now)
            told = tuple(item for item in found if isinstance(item, Notice))
            ignored = [item for item in found if not isinstance(item, Notice)]
            self.seen.ignored.update(item.reason for item in ignored)
            malformed = next((item.reason for item in ignored if item.malformed), None)
            if told:
                understood.append(_Understood(message, told, told[0].kind.value, ""))
            elif malformed is not None:
                strange.append((message, malformed))
            else:
                understood.append(_Understood(message, (), NOTHING, ignored[0].reason))
        fates = await asyncio.gather(*(self._act_on(one) for one in understood))
        settled = list(zip(understood, fates, strict=True))
        await self._delete([(one, fate) for one, fate in settled if fate.done])
        await self._leave([(one, fate) for one, fate in settled if not fate.done])
        for message, reason in strange:
            fate = await self._queue.set_aside(message, reason)
            self.seen.set_aside[fate] += 1
            self._meter.counted(NOTHING, fate, reason)
        return len(messages)

    async def _act_on(self, one: _Understood) -> _Fate:
        if not one.notices:
            return _Fate("Ignored", one.reason)
        try:
            await self._act(one.notices)
        except Unsettled as unsettled:
            self._unkept.pop(one.message.id, None)
            return self._wait_with(one.message, unsettled.reason)
        except PortError as error:
            reason = error.reason
            logger.warning("notices could not be acted on, their message stays: %s", error, extra={"reason": reason})
        except Exception:
            reason = reasons.NOTICES_NOT_KEPT
            logger.exception("notices could not be acted on, their message stays")
        else:
            self._unkept.pop(one.message.id, None)
            self.seen.notices.update(notice.kind.value for notice in one.notices)
            return _Fate("Acted")
        self._unkept[one.message.id] = (self._clock.monotonic(), reason)
        return _Fate("Failed", reason)

    def _wait_with(self, message: QueueMessage, reason: str) -> _Fate:
        """A message that is not settled: for how long it waits, if it waits at all."""
        if reason != UNKNOWN_MACHINE:
            return _Fate("Waiting", reason)
        age = 0.0 if message.sent is None else max(0.0, self._clock.now() - message.sent)
        left = math.ceil(FOREIGN_SECONDS - age)
        again = message.receptions > 1 and message.sent is None
        if left <= 0 or again or message.receptions >= FOREIGN_RECEPTIONS:
            self.seen.ignored[reason] += 1
            return _Fate("Ignored", reason)
        return _Fate("Waiting", reason, left)

    async def _leave(self, settled: list[tuple[_Understood, _Fate]]) -> None:
        """What stays on the queue, for as long as it need not be seen again."""
        for one, fate in settled:
            self.seen.failed += fate.outcome == "Failed"
            self.seen.waiting += fate.outcome == "Waiting"
            self._meter.counted(one.kind, fate.outcome, fate.reason)
        if waits := {one.message.handle: fate.wait for one, fate in settled if fate.wait}:
            await self._queue.postpone(waits)

    async def _delete(self, settled: list[tuple[_Understood, _Fate]]) -> None:
        """What was acted on, and what there was nothing to act on. What cannot be deleted comes again, and is counted
        again."""
        if not settled:
            return
        failed = await self._queue.delete(tuple(one.message.handle for one, _ in settled))
        if failed:
            logger.warning("messages could not be deleted and come again", extra={"messages": len(failed)})
        now = self._clock.now()
        for one, fate in settled:
            self._meter.counted(one.kind, fate.outcome, fate.reason)
            if fate.outcome == "Acted" and one.message.sent is not None:
                self._meter.aged(one.kind, max(0.0, now - one.message.sent))

    def _unkept_reason(self) -> str:
        """Why messages stay that were read; empty if none do."""
        horizon = self._clock.monotonic() - UNKEPT_SECONDS
        self._unkept = {name: told for name, told in self._unkept.items() if told[0] > horizon}
        return next((reason for _, reason in self._unkept.values()), "")

    def _say(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            if reason:
                logger.warning("there is trouble with an interruption queue", extra={"reason": reason})
            self._trouble(reason)


def _pause(failures: int) -> float:
    return RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
