"""Where a line is asked next: which level, which digest there, which pod. Sends nothing and waits for nothing.

On one level a line meets three pods at most; a line that breaks engines meets two in all, on whatever levels, because
it must not go through the fleet. A level that is held is passed over, unless the only thing below is an error. And a
digest that was taken off while a line waited is asked of no pod any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from npc_runtime.gateway import errors
from npc_runtime.gateway.answer import Failure
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.http.limits import MAX_ATTEMPTS, MAX_BREAKS
from npc_runtime.gateway.levels import Ladder, Rung
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Observer, Outcome
from npc_runtime.gateway.routing import pick_endpoint
from npc_runtime.gateway.table import Alias, Target


class Descent:
    """One line's way down its ladder."""

    __slots__ = (
        "_alias",
        "_asked",
        "_breaks",
        "_chooser",
        "_fleet",
        "_held",
        "_index",
        "_ladder",
        "_npc",
        "_place",
        "_reached",
        "_rungs",
        "_table",
        "_time",
        "_tried",
        "_unreached",
        "attempts",
        "failure",
        "observer",
        "rung",
        "target",
    )

    def __init__(
        self,
        fleet: Fleet,
        ladder: Ladder,
        chooser: Chooser,
        npc: bytes | None,
        place: int | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin on the best level that may be asked. `place` is the line's on the rings of `affinity`, if there are
        any."""
        self._fleet = fleet
        self._table = fleet.table
        self._ladder = ladder
        self._chooser = chooser
        self._npc = npc
        self._place = place
        self._time: Callable[[], float] = loop.time
        self._rungs = ladder.rungs
        self._index = 0
        self._held: tuple[Rung, ...] | None = ()
        self._alias: Alias | None = None
        self._asked = 0
        self._breaks = 0
        self._tried: tuple[object, ...] = ()
        self._reached = False
        self._unreached = False
        self.attempts = 0
        """Pods asked so far."""
        self.failure: Failure | None = None
        """What the client is told if nothing answers: the failure on the best level that was asked."""
        self.rung: Rung | None = None
        """The present level; None when no engine is left to be asked."""
        self.target: Target | None = None
        """The digest asked for on it, or on the last one there was."""
        self.observer: Observer = NOBODY
        """Who wants to know what becomes of this line there."""
        self._step()

    @property
    def is_last(self) -> bool:
        """Whether nothing is below the present level."""
        return self._index >= len(self._rungs) and not self._held and not self._ladder.has_last_resort

    def next_pod(self) -> Endpoint | None:
        """The pod that should be asked now, on this level or on one below; None when engines are out of question.

        Asking again without `take` or `fail` in between gives the same level, perhaps another pod.
        """
        while self.rung is not None:
            endpoint = self._pick(self.rung) if self._asked < MAX_ATTEMPTS and self._breaks < MAX_BREAKS else None
            if endpoint is not None:
                return endpoint
            if self.failure is None:
                self.failure = Failure(
                    "no pod could be asked", errors.no_resident(self._ladder.archetype, self._ladder.tier)
                )
            if not self._reached and self._asked < MAX_ATTEMPTS and not self.is_last:
                self._fleet.holds.go_down(self.rung.key, self._time())
            self.leave(Outcome.UNTOLD)
        return None

    def next_of_same(self, *, broke: bool) -> Endpoint | None:
        """Another pod with the digest that was asked for last; None if there is none, or the line broke too many.
        `broke`: it has just broken one that was not told of."""
        rung, breaks = self.rung, self._breaks + broke
        if rung is None or self._asked >= MAX_ATTEMPTS or breaks >= MAX_BREAKS or not self._is_offered(rung):
            return None
        usable = self._usable(rung)
        endpoint = self._choose(rung, usable, self._tried)
        if endpoint is None and not broke:
            # The last pod was not reached, which a busy network or host can do to the only other pod there is.
            endpoint = self._choose(rung, usable, self._tried[:-1])
        return endpoint

    def take(self, endpoint: Endpoint) -> None:
        """That pod is being asked."""
        self._asked += 1
        self.attempts += 1
        self._tried = (*self._tried, endpoint)

    def fail(self, failure: Failure, *, reached: bool, broke: bool) -> None:
        """The pod taken last came to nothing. `reached`: it was asked; `broke`: and never gave a whole answer."""
        self._breaks += broke
        self._reached |= reached
        self._unreached = not reached
        if reached and not failure.is_busy:
            self.observer.on_failed_attempt()
        self._keep(failure)

    def leave(self, outcome: Outcome, failure: Failure | None = None) -> None:
        """Go to the next level that may be asked, without a further try on this one."""
        if failure is not None:
            self._keep(failure)
        self.end_observing(outcome)
        self.rung = None
        if self._breaks < MAX_BREAKS:
            self._step()

    def speak(self) -> None:
        """The present level answers."""
        holds = self._fleet.holds
        if holds.held and self.rung is not None:
            now = self._time()
            holds.speak(self.rung.key, now)
            holds.speak(self.rung.tier, now)

    def end_observing(self, outcome: Outcome) -> None:
        """Nothing more comes of this line on the present alias."""
        observer = self.observer
        if observer is not NOBODY:
            self.observer = NOBODY
            observer.on_end(outcome)

    def _keep(self, failure: Failure) -> None:
        if self.failure is None or (self._index <= 1 and self._held is not None):
            self.failure = failure

    def _step(self) -> None:
        holds = self._fleet.holds
        while self._index < len(self._rungs):
            rung = self._rungs[self._index]
            self._index += 1
            if holds.held and self._held is not None:
                now = self._time()
                if holds.is_held(rung.key, now) or holds.is_held(rung.tier, now):
                    self._held = (*self._held, rung)
                    continue
            self._begin(rung)
            return
        if self._held and not self._ladder.has_last_resort:
            self._rungs, self._index, self._held = self._held, 0, None
            self._step()

    def _begin(self, rung: Rung) -> None:
        self.rung = rung
        self._alias = rung.alias
        self._asked = 0
        self._tried = ()
        self._reached = False
        self._unreached = False
        if rung.alias is None:
            self.target, self.observer = rung.base, NOBODY
        else:
            self.target, self.observer = self._chooser.choose(rung.alias, self._npc)

    def _pick(self, rung: Rung) -> Endpoint | None:
        usable = self._usable(rung)
        endpoint = self._choose(rung, usable, self._tried)
        return endpoint if endpoint is not None else self._pick_otherwise(rung, usable)

    def _pick_otherwise(self, rung: Rung, usable: list[Endpoint]) -> Endpoint | None:
        """None of the usable pods is left to be tried for the digest."""
        endpoint = None
        alias = self._alias
        if alias is not None and self.target is not alias.stable:
            # A candidate that no pod can answer with costs nobody a line: the stable voice answers.
            self.target = alias.stable
            self.observer.on_stable()
            usable = self._usable(rung)
            endpoint = self._choose(rung, usable, ())
        if endpoint is None and self._follow_alias(rung):
            usable = self._usable(rung)
            endpoint = self._choose(rung, usable, self._tried) or self._choose(rung, usable, ())
        if endpoint is None and self._unreached and (self._asked == 1 or self.is_last):
            # The last pod was not reached at all, which a busy network or host can do to the only pod there is.
            endpoint = self._choose(rung, usable, ())
        return endpoint

    def _usable(self, rung: Rung) -> list[Endpoint]:
        if rung.alias is None:
            return self._fleet.accepting(rung.tier)
        if self.target is None:
            return []
        if (self._fleet.table is not self._table or self.observer.is_off) and not self._is_offered(rung):
            # It may be resident for long after it was quarantined or taken back, and a line may wait for long.
            return []
        return self._fleet.usable(rung.tier, self.target.served_name)

    def _choose(self, rung: Rung, usable: list[Endpoint], tried: tuple[object, ...]) -> Endpoint | None:
        fleet, place = self._fleet, self._place
        turn, now = fleet.next_turn(), self._time()
        if place is None or fleet.affinity is None:
            return pick_endpoint(usable, tried=tried, turn=turn, now=now)
        return fleet.affinity.pick(rung.tier, usable, key=place, tried=tried, turn=turn, now=now)

    def _is_offered(self, rung: Rung) -> bool:
        """Whether a line would still be answered by the digest that was asked for: one that was quarantined or taken
        back gets not even the rest of one."""
        table, target = self._fleet.table, self.target
        if rung.alias is None:
            return table is not None and rung.tier in table.tiers
        alias = None if table is None else table.aliases.get((rung.tier, rung.archetype))
        if alias is None or target is None:
            return False
        if target.served_name == alias.stable.served_name:
            return True
        chosen, observer = self._chooser.choose(alias, self._npc)
        observer.on_end(Outcome.UNTOLD)
        return chosen.served_name == target.served_name

    def _follow_alias(self, rung: Rung) -> bool:
        """Whether the archetype has moved to another digest while this line waited: its old one may be on no pod any
        more, and no byte of an answer was sent."""
        table = self._fleet.table
        if table is None or self._alias is None or self.target is None:
            return False
        present = table.aliases.get((rung.tier, rung.archetype))
        if present is None or present.stable.served_name == self.target.served_name:
            return False
        self._alias, self.target = present, present.stable
        # What is said from here on is of no digest that the observer knows.
        self.end_observing(Outcome.UNTOLD)
        return True
