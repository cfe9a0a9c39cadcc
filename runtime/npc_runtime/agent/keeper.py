"""Keeps one engine's adapters as ordered: gathers facts, asks `plan` what is next, starts it, and says what came of it.

State is touched on the event loop only, progress of fetches apart; everything that blocks is an act in a thread. Each
change wakes the loop, which decides anew from all facts, so nothing depends on the order in which things happen; a step
that ends may start the next one for its adapter at once, by the same rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ..wire import DesiredAdapter, DesiredSet, Stamp
from .acts import Acts
from .backlog import Backlog
from .cache import Cache, Folder, size_of
from .errors import AdapterError, Reason, retryable
from .facts import ENGINE_STAGES, Base, EngineFacts, Facts, Stage
from .failing import Failures
from .identity.looks import Looks
from .inspect.base import BaseModel
from .memory import OrderMemory, Remembered
from .metrics import Metrics
from .plan import (
    BOUNDS,
    Plan,
    Refuse,
    Step,
    decide,
    draining_names,
    next_step,
    slot_is_free,
)
from .state import KeeperLimits, State
from .work import Work

PROGRESS_SECONDS = 1.0
"""Between two looks at how far the fetches are."""
PAUSE_SECONDS = 0.2
"""The longest pause between two rounds while there is something to do and nothing is urgent."""
PAUSE_SHARE = 10
"""A pause lasts this many times the round before it, so rounds take a tenth of the loop's time."""
REST_SECONDS = 30.0
"""The longest the loop sleeps without a reason to wake: a safety net, not a poll."""

log = logging.getLogger(__name__)


class StaleOrderError(Exception):
    """An order older than the last one; `current` is what is there."""

    def __init__(self, current: Stamp) -> None:
        super().__init__("an older order than the last one")
        self.current = current


class Keeper:
    """The loop over one engine's adapters. `publish` is called after every change with the facts and what is refused
    outright.
    """

    def __init__(
        self,
        *,
        acts: Acts,
        cache: Cache,
        memory: OrderMemory,
        metrics: Metrics,
        limits: KeeperLimits,
        publish: Callable[[Facts, tuple[Refuse, ...]], None],
    ) -> None:
        self._cache = cache
        self._memory = memory
        self._metrics = metrics
        self._limits = limits
        self._publish = publish
        self._state = State()
        self._backlog = Backlog()
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._work = Work(
            state=self._state,
            acts=acts,
            cache=cache,
            metrics=metrics,
            cache_size=limits.cache_size,
            changed=self._changed.set,
        )
        self._failures = Failures(state=self._state, metrics=metrics, facts=self._live_facts)
        self._looks = Looks(
            state=self._state,
            acts=acts,
            lost=self._failures.identity_lost,
            forget_folder=self._work.remove,
            changed=self._changed.set,
        )
        self._work.before_proof = self._looks.warm
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: dict[str, threading.Event] = {}
        self._accepting_order = asyncio.Lock()
        self._progress_seen_at = 0.0
        self._ending = False

    # --- what others tell ---

    async def accept(self, order: DesiredSet) -> None:
        """Takes a whole new order; raises StaleOrderError for one older than the last.

        A disk that does not take it is no reason to refuse it: what must leave the engine has to be able to leave.
        """
        async with self._accepting_order:
            current = self._state.stamp
            if self._state.desired is not None and order.stamp.order() < current.order():
                raise StaleOrderError(current)
            try:
                await asyncio.to_thread(self._memory.save, order)
            except OSError as error:
                log.error(
                    "order is not persisted: a restart would go on from an older one", extra={"detail": str(error)}
                )
            self._adopt(Remembered(order, frozenset()))

    def resume(self, remembered: Remembered | None, folders: tuple[Folder, ...]) -> None:
        """Goes on from what was on disk at start."""
        self._state.folders = {folder.digest: folder for folder in folders}
        if remembered is not None:
            self._adopt(remembered)

    def engine_changed(self, engine: EngineFacts) -> None:
        """New facts about the engine: what it lost is not resident from this moment on."""
        before = self._state.engine
        if engine == before:
            return
        if (before.ready and not engine.ready) or (before.instance and before.instance != engine.instance):
            self._cancel_engine_work()
        if before.state is not engine.state:
            self._urgent.set()
        self._state.engine_seen(engine)
        self._wake()

    async def base_found(self, base: Base, model: BaseModel | None) -> None:
        """The base model is known, or known to be out of sight; what was inspected against another is fetched again."""
        context = f"{model.fingerprint if model else 'unseen'}/{self._limits.max_rank}"
        self._work.base_model, self._work.context = model, context
        listed = set(self._state.engine.listed.values())
        for digest, folder in list(self._state.folders.items()):
            if folder.context != context and self._cache.location(digest) not in listed:
                log.info("adapter was inspected against another base model", extra={"digest": digest})
                await self._work.remove(digest)
        self._state.base = base  # last: inspections begin with it
        self._wake()

    def lines_seen(self, names: frozenset[str] | None) -> None:
        """Names with running lines as the engine tells them while something drains; None when it cannot be asked."""
        if names != self._state.busy_names:
            self._state.busy_names = names
            self._wake()

    # --- what others ask ---

    @property
    def engine_ready(self) -> bool:
        """Whether the engine answers."""
        return self._state.engine.ready

    @property
    def stamp(self) -> Stamp:
        """The last accepted order's stamp."""
        return self._state.stamp

    @property
    def cache_bytes(self) -> int:
        """Bytes of all verified folders and of those on their way."""
        return size_of(self._state.folders.values()) + sum(self._state.reserved.values())

    @property
    def draining(self) -> bool:
        """Whether any adapter is on its way out, so that running lines matter."""
        return bool(draining_names(self._live_facts()))

    def listing_mark(self) -> int:
        """Changes with every load and unload that begins or ends: a list asked for across such a change may be older
        than it.
        """
        return self._state.listing_mark

    def facts(self) -> Facts:
        """Everything known now, for as long as it is wanted."""
        return self._live_facts().frozen()

    def _live_facts(self) -> Facts:
        """The same without copies: true until the next change of the state."""
        return self._state.facts(now=time.monotonic(), owned=self._cache.owned, limits=self._limits)

    # --- the loop ---

    async def run(self) -> None:
        """Runs until cancelled; then stops what it started."""
        try:
            while True:
                self._changed.clear()
                self._urgent.clear()
                begun = time.monotonic()
                wake_at = self._round()
                # With hundreds of adapters on their way, what changes meanwhile shares the next round instead of having
                # one each; with a few, the pause is a fraction of a millisecond. Free places do not wait for it, nor
                # does a new order or an engine that comes or goes.
                await _event_within(self._urgent, min(PAUSE_SHARE * (time.monotonic() - begun), PAUSE_SECONDS))
                await _event_within(self._changed, max(0.0, wake_at - time.monotonic()))
        finally:
            self._ending = True
            for name in list(self._tasks):
                self._cancel(name)
            await self._looks.close()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _round(self) -> float:
        facts = self.facts()
        plan = decide(facts)
        self._state.begin_draining(plan.drain, now=facts.now)
        by_name = self._state.by_name
        for step in plan.steps:
            self._start(step.stage, step.name, by_name.get(step.name))
        self._backlog.replace(plan.waiting, self._state.ranks)
        self._drop_unwanted(by_name)
        changed = bool(plan.steps or plan.drain)
        facts = self._with_progress(self.facts() if changed else facts)
        self._publish(facts, plan.refused)
        return self._wake_at(facts, plan, self._looks.go_on(facts))

    def _wake_at(self, facts: Facts, plan: Plan, look_at: float | None) -> float:
        times = [facts.now + REST_SECONDS, *(at for at in (plan.wake_at, look_at) if at is not None)]
        if Stage.FETCH in facts.busy.values():
            times.append(self._progress_seen_at + PROGRESS_SECONDS)
        return min(times)

    def _with_progress(self, facts: Facts) -> Facts:
        """Bytes as of the last look, at most one look a second: reports must not follow every chunk."""
        if facts.now - self._progress_seen_at >= PROGRESS_SECONDS:
            self._progress_seen_at = facts.now
            self._state.shown_progress = dict(self._state.progress)
        return replace(facts, progress=dict(self._state.shown_progress))

    def _wake(self) -> None:
        self._changed.set()

    def _adopt(self, remembered: Remembered) -> None:
        self._state.ordered(remembered.order, remembered.credentials_lost)
        self._metrics.order(remembered.order.stamp)
        self._urgent.set()
        self._wake()

    def _drop_unwanted(self, wanted: Mapping[str, DesiredAdapter]) -> None:
        """Stops fetching what nobody wants any more."""
        for name, stage in self._state.busy.items():
            if name not in wanted and stage is Stage.FETCH:
                self._cancelled[name].set()

    # --- steps ---

    def _start(self, stage: Stage, name: str, adapter: DesiredAdapter | None) -> None:
        cancelled = self._cancelled[name] = threading.Event()
        instance = self._state.engine.instance
        self._state.started(stage, name, adapter)
        task = asyncio.create_task(self._work.do(stage, name, adapter, instance, cancelled), name=f"{stage} {name}")
        # Not a `finally` in the task: one that is cancelled before its first turn never gets as far as that.
        task.add_done_callback(partial(self._over, stage, name, adapter, instance, time.monotonic()))
        self._tasks[name] = task

    def _over(
        self,
        stage: Stage,
        name: str,
        adapter: DesiredAdapter | None,
        instance: str,
        begun: float,
        task: asyncio.Task[None],
    ) -> None:
        """A step has ended, or was cancelled before it began. Nothing else starts under its name before this."""
        del self._tasks[name], self._cancelled[name]
        self._state.ended(stage, name)
        self._wake()
        if task.cancelled():
            return
        self._metrics.step(stage, time.monotonic() - begun)
        error = task.exception()
        if error is None:
            self._state.succeeded(stage, name)
        elif isinstance(error, AdapterError):
            self._failures.failed(stage, name, adapter, error, instance)
        else:
            log.error("step failed unexpectedly", exc_info=error, extra={"stage": stage, "served_name": name})
            unexpected = retryable(Reason.INTERNAL, "unexpected fault of the agent, see its log")
            self._failures.failed(stage, name, adapter, unexpected, instance)
        self._go_on(stage, name)

    def _go_on(self, ended: Stage, name: str) -> None:
        """Gives the place of a step that ended to who waits for it, and its adapter its next step if there is a place:
        by the same rules as a round, without a look at all the others.
        """
        stages = [ended]
        if (following := self._next(name)) is not None:
            self._backlog.add(following)
            stages.append(following.stage)
        if ended is Stage.UNLOAD:
            stages.append(Stage.LOAD)  # its slot may be what a load waits for
        for stage in stages:
            while self._has_place(stage) and (waiting := self._backlog.pop(stage)) is not None:
                step = self._next(waiting)
                if step is not None and step.stage is stage:
                    self._start(stage, waiting, self._state.by_name.get(waiting))

    def _next(self, name: str) -> Step | None:
        return None if self._ending else next_step(self._live_facts(), name, self._state.by_name.get(name))

    def _has_place(self, stage: Stage) -> bool:
        if sum(running is stage for running in self._state.busy.values()) >= BOUNDS[stage]:
            return False
        # Without a slot no load can begin, and to ask each that waits would only empty their queue.
        return stage is not Stage.LOAD or slot_is_free(self._live_facts())

    def _cancel_engine_work(self) -> None:
        for name, stage in list(self._state.busy.items()):
            if stage in ENGINE_STAGES:
                self._cancel(name)

    def _cancel(self, name: str) -> None:
        self._cancelled[name].set()
        self._tasks[name].cancel()


async def _event_within(event: asyncio.Event, seconds: float) -> None:
    """Waits for the event, at most so long."""
    # Not wait_for: before Python 3.12 it can swallow a cancellation that arrives together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
