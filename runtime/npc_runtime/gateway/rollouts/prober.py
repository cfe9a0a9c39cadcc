"""Asks both digests the same question where too few players speak, so that a verdict does not wait for them.

Both are asked on the same pod, one right after the other, in turns who comes first: their times can be compared like
those of players. At most one question runs per alias and two a second in all, on pods that have room, with the lowest
priority: nobody's line waits for a probe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from npc_runtime import wire
from npc_runtime.gateway import chat
from npc_runtime.gateway.admission import PROBE_PRIORITY
from npc_runtime.gateway.answer import BUSY
from npc_runtime.gateway.attempt import Attempt
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.rollouts.observer import Observer, Outcome
from npc_runtime.gateway.routing import pick_endpoint
from npc_runtime.gateway.table import Alias, Target

if TYPE_CHECKING:
    from npc_runtime.gateway.rollouts.chooser import Rollouts

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two rounds of one question to each digest: two probes a second."""


class Prober:
    """The probes of one gateway. Only one of its event loops runs one."""

    def __init__(self, rollouts: Rollouts, fleet: Fleet, loop: asyncio.AbstractEventLoop) -> None:
        self._rollouts = rollouts
        self._fleet = fleet
        self._loop = loop
        self._wanted = asyncio.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._turn = 0
        self._candidate_first: dict[tuple[str, str], bool] = {}

    def wake(self) -> None:
        """A table is in force that may want probes."""
        if self._rollouts.probed():
            self._wanted.set()

    async def probe_for_ever(self) -> None:
        """Run until cancelled; what is being asked is then given up."""
        try:
            while True:
                await self._wanted.wait()
                while aliases := self._rollouts.probed():
                    self._ask_next(aliases)
                    await asyncio.sleep(PAUSE_SECONDS)
                self._wanted.clear()
                self._candidate_first.clear()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _ask_next(self, aliases: list[Alias]) -> None:
        for _ in aliases:
            self._turn += 1
            alias = aliases[self._turn % len(aliases)]
            key = (alias.tier, alias.archetype)
            if key in self._running:
                continue
            endpoint = self._find_room(alias)
            if endpoint is None:
                continue
            first = self._candidate_first[key] = not self._candidate_first.get(key, False)
            task = self._loop.create_task(self._ask_both(alias, endpoint, candidate_first=first))
            self._running[key] = task
            task.add_done_callback(partial(self._ended, key))
            return

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a probe failed by itself", exc_info=error, extra={"tier": key[0], "archetype": key[1]})

    def _find_room(self, alias: Alias) -> Endpoint | None:
        """The least busy pod that may be asked for both digests and is not full, picked as for lines: one that cannot
        be reached has no lines, and would look the least busy of all for ever."""
        if alias.candidate is None:
            return None
        slots = _tier(self._fleet, alias.tier).slots
        stable = set(self._fleet.usable(alias.tier, alias.stable.served_name))
        both = [
            endpoint
            for endpoint in self._fleet.usable(alias.tier, alias.candidate.served_name)
            if endpoint in stable and (not slots or endpoint.in_flight < slots)
        ]
        return pick_endpoint(both, tried=(), turn=self._turn, now=self._loop.time())

    async def _ask_both(self, alias: Alias, endpoint: Endpoint, *, candidate_first: bool) -> None:
        lines = self._rollouts.probe_lines(alias)
        if lines is None or alias.candidate is None or alias.rollout is None or alias.rollout.probe is None:
            return
        asks: list[tuple[Target, Observer]] = [(alias.candidate, lines[0]), (alias.stable, lines[1])]
        prioritised = _tier(self._fleet, alias.tier).prioritised
        for target, observer in asks if candidate_first else reversed(asks):
            body = write_probe(alias.rollout.probe, target.served_name, prioritised=prioritised)
            question = _Question(endpoint, body, observer, self._loop)
            await question.ask(alias.rollout.probe.timeout_seconds)


def write_probe(probe: wire.Probe, served_name: str, *, prioritised: bool) -> bytes:
    """The body of a probe: greedy, and streamed, because its first token is timed."""
    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": probe.prompt}],
        "max_tokens": probe.max_tokens,
        "temperature": 0,
        "stream": True,
    }
    if prioritised:
        payload["priority"] = PROBE_PRIORITY
    return chat.write_completion(payload, served_name)


def _tier(fleet: Fleet, name: str) -> wire.TierRoutes:
    tiers = () if fleet.table is None else fleet.table.source.tiers
    return next((tier for tier in tiers if tier.name == name), wire.TierRoutes(name=name, quality="Bronze"))


class _Question:
    """One probe to one pod. Implements `attempt.Owner`."""

    def __init__(self, endpoint: Endpoint, body: bytes, observer: Observer, loop: asyncio.AbstractEventLoop) -> None:
        self._observer = observer
        self._heard = False
        self._ended: asyncio.Future[Outcome] = loop.create_future()
        self._attempt = Attempt(endpoint, b"Content-Length: %d\r\n\r\n%b" % (len(body), body), self, loop)

    async def ask(self, seconds: float) -> None:
        """Ask, and tell the observer how it ended; an answer that takes longer counts as failed."""
        outcome = Outcome.UNTOLD
        try:
            self._attempt.start()
            async with asyncio.timeout(seconds):
                outcome = await self._ended
        except TimeoutError:
            outcome = Outcome.ERROR
        finally:
            self._attempt.give_up()
            self._observer.on_end(outcome)

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """The first token."""
        return self._hear(data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """The end."""
        self._hear(data)
        self._end(Outcome.OK if stream.said_done else Outcome.TRUNCATED)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """An engine that answers a stream in one piece, or refuses: a question that it always gets must work."""
        if head.status in BUSY:
            self._end(Outcome.UNTOLD)
            return
        if head.status == 200 and self._observer.copies:
            self._observer.on_answer(body)
        self._end(Outcome.OK if head.status == 200 else Outcome.ERROR)

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """It broke off, unless only the framing's end is missing."""
        if stream is not None and stream.said_done:
            self._end(Outcome.OK)
            return
        self._observer.on_lost(self._attempt.endpoint)
        self._end(Outcome.ERROR)

    def on_unreached(self, why: str) -> None:
        """It was not asked."""
        self._end(Outcome.UNTOLD)

    def _hear(self, data: bytes) -> Callable[[bytes], None]:
        if not self._heard:
            self._heard = True
            self._observer.on_first_token(monotonic() - self._attempt.asked_at, self._attempt.endpoint.facts.pod)
        if not self._observer.copies:
            return _ignore
        self._observer.on_chunk(data)
        return self._observer.on_chunk

    def _end(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)


def _ignore(data: bytes) -> None:
    """Stable answers are not read."""
