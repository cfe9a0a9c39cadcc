"""Looks at everything again, now and then: what watches missed costs time, never truth.

A LIST of each kind is laid over the store: unknown objects are added, changed ones parsed, those that are in the
store but not in the list are dropped (unless a watch brought news of them meanwhile). Only after the first whole
round does a missing fact mean an absent object.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from npc_operator.domain.facts import Child, Unreadable
from npc_operator.edge.kinds import LISTED_FACTS, WATCHED, Watched
from npc_operator.edge.parse import Parsed, identify, known_version, learn, parse, unlearn
from npc_operator.loop.store import Store
from npc_operator.ports import Clock, Kube, Manifest, PortError

logger = logging.getLogger(__name__)

JITTER = 0.2
"""Rounds are interval +- 20% apart, so that many operators do not list in step."""
RETRY_SECONDS = 1.0
SETTLE_SECONDS = 1.0
"""A wish for a round waits so long for more wishes."""
_BREATH = 50


class Resync:
    """`heard` is called with each kind that was listed."""

    def __init__(
        self,
        *,
        kube: Kube,
        store: Store,
        clock: Clock,
        interval: float,
        heard: Callable[[str], None] = lambda _kind: None,
        kinds: Sequence[Watched] = WATCHED,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._kube = kube
        self._store = store
        self._clock = clock
        self._interval = interval
        self._heard = heard
        self._kinds = kinds
        self._jitter = jitter
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Something suggests that news was missed: do not wait for the interval."""
        self._wanted.set()

    async def first(self) -> None:
        """One whole round, however often it takes."""
        while True:
            try:
                await self.round()
                return
            except PortError as error:
                logger.warning("cannot look at everything yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def run(self, after_round: Callable[[], Awaitable[None]]) -> None:
        """Rounds until cancelled, each followed by `after_round`. A failed one is tried again soon; the store keeps
        what it knows."""
        pause = self._pause()
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                await self.round()
                await after_round()
                pause = self._pause()
            except PortError as error:
                logger.warning("looking at everything failed, trying again: %s", error)
                pause = min(self._pause(), 10.0)

    def _pause(self) -> float:
        return self._interval * (1 - JITTER + 2 * JITTER * self._jitter())

    async def round(self) -> None:
        """List every kind once. Raises PortError; kinds listed before it are merged all the same."""
        started = self._clock.monotonic()
        for watched in self._kinds:
            await self._merge(watched)
            self._heard(watched.kind)
        for fact in LISTED_FACTS:
            self._store.mark_synced(fact)
        self._store.forget_tombstones()
        logger.debug("looked at everything in %.2f s", self._clock.monotonic() - started)

    async def _merge(self, watched: Watched) -> None:
        before = self._known(watched)
        count = 0
        async for manifest in self._list(watched):
            at = identify(watched.kind, manifest)
            before.pop((at.namespace, at.name), None)
            if at.version and known_version(self._store, at) == at.version:
                self._store.confirm(at.kind, at.namespace, at.name)
            else:
                learn(self._store, parse(watched.api_version, watched.kind, manifest))
            count += 1
            if count % _BREATH == 0:
                await asyncio.sleep(0)
        for at in before.values():
            # Gone at the version we knew; the store keeps what a watch has brought since.
            unlearn(self._store, at)

    def _list(self, watched: Watched) -> AsyncIterator[Manifest]:
        return self._kube.list(watched.api_version, watched.kind, namespace=None, selector=watched.selector)

    def _known(self, watched: Watched) -> dict[tuple[str, str], Parsed]:
        """What the store holds of a kind, with versions, before the list begins."""
        kind = identify(watched.kind, _NOBODY).kind
        known: dict[tuple[str, str], Parsed] = {}
        for namespace, name, fact in self._store.items(kind):
            if isinstance(fact, Child) and fact.kind != watched.kind:
                continue
            at = Parsed(kind, namespace, name, 0, None)
            known[namespace, name] = Parsed(kind, namespace, name, known_version(self._store, at), None)
        for namespace, name, unreadable in self._store.items(Unreadable):
            if unreadable.kind == watched.kind:
                at = Parsed(kind, namespace, name.partition("/")[2], 0, None)
                version = known_version(self._store, at)
                known.setdefault((namespace, at.name), Parsed(kind, namespace, at.name, version, None))
        return known


_NOBODY: Manifest = {"metadata": {"namespace": "", "name": ""}}
