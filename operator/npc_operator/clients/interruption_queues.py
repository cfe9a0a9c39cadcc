"""Every interruption queue that is named anywhere, one reader each, for as long as this process leads.

Named are the operator's own (its settings) and those of tiers. What a tier's queue says may concern pods of the
namespaces alone whose tiers name it: whoever names a queue can also send to it, and must not be able to end the pods of
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from npc_operator.clients.interruption_reader import InterruptionReader, QueueMeter
from npc_operator.clients.supervision import Broken
from npc_operator.clients.threads import in_thread
from npc_operator.domain import reasons
from npc_operator.domain.facts import NodeFact, Tier
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.queues import OWN, QueueFact, QueueRef, queue_of
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Clock, InterruptionQueue, Listener, PortError, Unsettled

if TYPE_CHECKING:
    from npc_operator.clients.interruption_queue import SqsQueue

logger = logging.getLogger(__name__)

ACT_SECONDS = 15.0
"""The longest time that is given to writing down what a message says: less than its visibility timeout, or it would
come again while it is still in hand."""
OPEN_RETRY_SECONDS = 30.0
MACHINES_SECONDS = 10.0
"""So long a new leader waits for the list of nodes before it reads: a message that comes before it stays in hand for
its whole visibility timeout."""
_LOOK_SECONDS = 0.1

Scope = frozenset[str] | None
"""Namespaces that a queue may speak of; None for all."""


class OpenQueue(InterruptionQueue, Protocol):
    """A queue that is closed when nobody reads it any more."""

    def close(self) -> None: ...


@dataclass(slots=True)
class _Reading:
    scope: Scope
    task: asyncio.Task[None]


class InterruptionQueues:
    """Runs during a leadership; what it learned of queues is unknown again afterwards."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        listener: Listener,
        meter: QueueMeter,
        own: QueueRef | None,
        open_queue: Callable[[QueueRef], Awaitable[OpenQueue]] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._listener = listener
        self._meter = meter
        self._own = own
        self._open = open_queue or open_sqs
        self._readings: dict[QueueRef, _Reading] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._broken = Broken()

    async def run(self) -> None:
        """Follows the tiers of the store until cancelled. Raises what ended a reader by itself."""
        unsubscribe = self._store.subscribe(self._on_change)
        try:
            self._follow()
            await self._broken.wait()
        finally:
            unsubscribe()
            for queue in list(self._readings):
                self._end(queue)
            if self._ending:
                await asyncio.wait(self._ending)

    def _on_change(self, change: Change) -> None:
        if change.kind is not Tier:
            return
        old, new = (None if tier is None else queue_of(tier.spec) for tier in (change.old, change.new))
        if old != new:
            self._follow()

    def _follow(self) -> None:
        wanted = self._wanted()
        for queue in [queue for queue in self._readings if queue not in wanted]:
            self._end(queue)
        for queue, scope in wanted.items():
            reading = self._readings.get(queue)
            if reading is not None:
                reading.scope = scope
                continue
            task = asyncio.create_task(self._read(queue), name=f"read {queue.name}")
            task.add_done_callback(self._broken.look_at)
            self._readings[queue] = _Reading(scope, task)
            self._say(queue, None)

    def _wanted(self) -> Mapping[QueueRef, Scope]:
        named: dict[QueueRef, set[str]] = {}
        for namespace, _, tier in self._store.items(Tier):
            queue = queue_of(tier.spec)
            if queue is not None:
                named.setdefault(queue, set()).add(namespace)
        wanted: dict[QueueRef, Scope] = {queue: frozenset(spaces) for queue, spaces in named.items()}
        if self._own is not None:
            wanted[self._own] = None
        return wanted

    def _end(self, queue: QueueRef) -> None:
        task = self._readings.pop(queue).task
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        self._store.drop(QueueFact, "", queue.key)
        if queue == self._own:
            self._store.drop(QueueFact, "", OWN)

    async def _read(self, queue: QueueRef) -> None:
        about = {"queue": queue.name, "region": queue.region}
        logger.info("reading an interruption queue", extra=about)
        opened = await self._open_in_the_end(queue)
        reader = InterruptionReader(
            opened,
            clock=self._clock,
            act=lambda notices: self._hear(queue, notices),
            trouble=lambda reason: self._say(queue, reason),
            meter=self._meter,
        )
        try:
            await self._until_machines_are_known()
            await reader.run()
        finally:
            opened.close()
            logger.info("an interruption queue is not read any more", extra=about)

    async def _until_machines_are_known(self) -> None:
        end = self._clock.monotonic() + MACHINES_SECONDS
        # Nobody is told when a list was merged.
        while not self._store.synced(NodeFact) and self._clock.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    async def _open_in_the_end(self, queue: QueueRef) -> OpenQueue:
        while True:
            try:
                return await self._open(queue)
            except PortError as error:
                logger.warning("an interruption queue cannot be opened", extra={"reason": error.reason})
                self._say(queue, error.reason)
            await asyncio.sleep(OPEN_RETRY_SECONDS)

    async def _hear(self, queue: QueueRef, notices: tuple[Notice, ...]) -> None:
        reading = self._readings.get(queue)
        scope: Scope = frozenset() if reading is None else reading.scope
        try:
            async with asyncio.timeout(ACT_SECONDS):
                heard = await asyncio.gather(
                    *(self._listener.hear(notice, namespaces=scope) for notice in notices), return_exceptions=True
                )
        except TimeoutError as error:
            raise PortError("it took too long", reason=reasons.NOTICES_NOT_KEPT) from error
        faults = [one for one in heard if isinstance(one, BaseException)]
        for fault in sorted(faults, key=lambda one: isinstance(one, Unsettled)):
            if isinstance(fault, PortError) and not isinstance(fault, Unsettled):
                # Whoever could not be reached, it was not the queue.
                raise PortError(str(fault), reason=reasons.NOTICES_NOT_KEPT) from fault
            raise fault

    def _say(self, queue: QueueRef, trouble: str | None) -> None:
        known = self._store.get(QueueFact, "", queue.key) or QueueFact(queue)
        fact = replace(known, trouble=trouble)
        self._store.put(QueueFact, "", queue.key, fact)
        if queue == self._own:
            self._store.put(QueueFact, "", OWN, fact)


def troubles(store: Store) -> tuple[str, ...]:
    """What hinders the reading of each queue; for the metric. Queues of which nothing is known yet are left out."""
    return tuple(fact.trouble for _, name, fact in store.items(QueueFact) if name != OWN and fact.trouble is not None)


async def open_sqs(queue: QueueRef) -> SqsQueue:
    """boto3 is imported with the first queue: it takes half a second and 8 MB, which whoever has none need not
    spend."""

    def make() -> SqsQueue:
        from botocore.exceptions import BotoCoreError

        from npc_operator.clients.interruption_queue import SqsQueue

        try:
            return SqsQueue(queue.url, queue.region)
        except (BotoCoreError, ValueError, OSError) as error:
            # No identity now (its token's file, or who hands it out), or a region in whose name no endpoint can be.
            name = type(error).__name__
            identity = isinstance(error, OSError) or "redential" in name
            reason = reasons.CLOUD_CREDENTIALS if identity else reasons.QUEUE_MISSING
            raise PortError(f"SQS: {name}", reason=reason, retryable=False) from error

    return await in_thread(make, name="sqs", abandoned=lambda queue: queue.close())
