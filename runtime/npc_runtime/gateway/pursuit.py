"""After an answer: level by level and pod by pod, until one speaks or no engine is left.

Where to ask is a `Descent`'s to say, what it takes to be there a `Stay`'s; here they are brought together with the one
`Attempt` that is running. What comes of an attempt is heard by whoever wants the answer, who says here what to do next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.admission import Admission
from npc_runtime.gateway.answer import Failure
from npc_runtime.gateway.attempt import Attempt, Owner
from npc_runtime.gateway.descent import Descent
from npc_runtime.gateway.errors import Fault
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.forecast import Forecasts
from npc_runtime.gateway.levels import Ladder
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Outcome
from npc_runtime.gateway.stay import Entry, Stay
from npc_runtime.gateway.table import Target

log = logging.getLogger(__name__)

_ASK: Final = Entry.ASK
"""On the way of every line: a global is a tenth of what a member of an enum costs."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all lines of one event loop share."""

    fleet: Fleet
    chooser: Chooser
    admission: Admission
    forecasts: Forecasts
    loop: asyncio.AbstractEventLoop


class Seeker(Owner, Protocol):
    """Who wants the answer, and hears of each attempt."""

    def on_nobody(self, failure: Failure | None) -> None:
        """No engine is left; `failure` is what came of the best level."""

    def on_turned_away(self, fault: Fault) -> None:
        """The line is one of those that nobody makes room for."""


class Pursuit:
    """One line's. Implements `stay.Guest`."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_is_paused",
        "_ladder",
        "_means",
        "_question",
        "_record",
        "_request",
        "_seeker",
        "_series",
        "descent",
        "stay",
    )

    def __init__(
        self,
        means: Means,
        ladder: Ladder,
        npc: bytes | None,
        place: int | None,
        question: Question,
        series: Series,
        record: Record,
        seeker: Seeker,
    ) -> None:
        """Choose the first target and write the body for it. `place` is the line's place on the rings of `affinity`.

        Raises:
            Refused: the body cannot be written.

        """
        self._means = means
        self._ladder = ladder
        self._question = question
        self._series = series
        self._record = record
        self._seeker: Seeker | None = seeker
        """None once nothing is wanted any more."""
        self._attempt: Attempt | None = None
        self._is_paused = False
        self.descent = descent = Descent(means.fleet, ladder, means.chooser, npc, place, means.loop)
        self.stay = Stay(self, means.admission, means.forecasts, means.loop, ladder.voice.importance)
        self._request = b""
        self._asked: Target | None = None
        """The digest that the request is written for."""
        try:
            if descent.rung is not None and descent.target is not None:
                # Now, and not when a pod is there: nothing is left that could go wrong but the engines.
                self._request = question.write(ladder, descent.rung, descent.target)
                self._asked = descent.target
            else:
                question.check()
        except errors.Refused:
            descent.end_observing(Outcome.UNTOLD)
            raise

    # --- going on

    def ask_next(self) -> None:
        """Ask the next pod there is, now or when there is a slot."""
        descent, stay = self.descent, self.stay
        while (endpoint := descent.next_pod()) is not None:
            rung, target = descent.rung, descent.target
            if rung is None or target is None:
                break
            if rung is not stay.rung and not self._enter_level():
                if self._seeker is None or stay.is_waiting:
                    return
                continue
            descent.take(endpoint)
            if target is not self._asked:
                self._asked, self._request = target, self._question.write(self._ladder, rung, target)
            if self._seeker is not None:
                self.ask(endpoint, self._request, self._seeker)
            return
        if self._seeker is not None:
            self._seeker.on_nobody(descent.failure)

    def ask(self, endpoint: Endpoint, request: bytes, owner: Owner) -> None:
        """Ask a pod that was taken, of which `owner` hears."""
        if self.descent.attempts > 1:
            self._series.retries += 1
        self._attempt = Attempt(endpoint, request, owner, self._means.loop)
        self._attempt.start()

    def fail(self, failure: Failure, *, reached: bool = True, broke: bool = False) -> None:
        """The attempt came to nothing: ask the next pod."""
        self.forget()
        log.debug(
            "an engine did not answer",
            extra={"pod": self._record.pod, "why": failure.why, "request_id": self._record.request_id},
        )
        self.descent.fail(failure, reached=reached, broke=broke)
        self.ask_next()

    def note_loss(self) -> None:
        """The connection to the pod broke before its answer was whole."""
        if self._attempt is not None:
            self.descent.observer.on_lost(self._attempt.endpoint)

    def leave(self, outcome: Outcome, failure: Failure) -> None:
        """This level gives no answer that could be used: go to the next."""
        self.forget()
        self.descent.leave(outcome, failure)
        self.ask_next()

    def _enter_level(self) -> bool:
        """Whether an engine may be asked at once on the level that the descent has come to."""
        descent, rung = self.descent, self.descent.rung
        if rung is None:
            return False
        entry = self.stay.enter(rung, is_last=descent.is_last)
        if entry is _ASK:
            return True
        if entry is Entry.SHED:
            self._shed(rung.tier)
        elif entry is Entry.LATE:
            descent.leave(Outcome.UNTOLD, Failure("its first token would come too late", errors.too_late(rung.tier)))
        return False

    def _shed(self, tier: str) -> None:
        fault = errors.shed(tier)
        if self._ladder.voice.importance == "Ambient" and self._seeker is not None:
            # Chatter that finds no room would only take it from others on the next tier.
            self._seeker.on_turned_away(fault)
        else:
            self.descent.leave(Outcome.UNTOLD, Failure("the tier has no room for another line", fault))

    # --- stay.Guest

    def on_slot(self) -> None:
        """There is a slot."""
        self.ask_next()

    def on_shed(self) -> None:
        """A more important line took this one's place in the queue."""
        if self.stay.rung is not None:
            self._shed(self.stay.rung.tier)
        if self._seeker is not None:
            self.ask_next()

    def on_late(self) -> None:
        """No first token came in the time that this level has for it, or none could any more."""
        descent, attempt, stay = self.descent, self._attempt, self.stay
        if self._seeker is None or stay.rung is None or stay.has_spoken or descent.is_last:
            return
        outcome = Outcome.UNTOLD
        if attempt is not None:
            if attempt.asked_at:
                if not self._question.wants_stream:
                    # Nobody can see its first token: the engine speaks once, when it is done.
                    return
                outcome, seconds = Outcome.LATE, monotonic() - attempt.asked_at
                stay.miss(seconds)
                descent.observer.on_first_token(seconds, attempt.endpoint.facts.pod)
                attempt.blame()
            self.drop()
            # Not for a line that still waited for its slot: that its tier is busy does not make it slow.
            self._means.fleet.holds.note_late(stay.rung.tier, self._means.loop.time())
        self.leave(outcome, Failure("its first token did not come in time", errors.too_late(stay.rung.tier)))

    # --- once it speaks

    def on_first_token(self, on_stall: Callable[[], None]) -> None:
        """The attempt's stream has begun; `on_stall` is called where it stops in the middle."""
        attempt, stay, observer = self._attempt, self.stay, self.descent.observer
        self.descent.speak()
        if attempt is None or stay.rung is None:
            return
        if observer is not NOBODY or stay.rung.first_token_seconds:
            seconds = monotonic() - attempt.asked_at
            if stay.speak(seconds):
                self._means.fleet.holds.note_in_time(stay.rung.tier)
            observer.on_first_token(seconds, attempt.endpoint.facts.pod)
        self.watch(on_stall)

    def watch(self, on_stall: Callable[[], None]) -> None:
        """Have `on_stall` called if the stream stops, and let a client that is behind catch up first."""
        if self._attempt is not None:
            self.stay.watch(self._attempt.progress, on_stall)
            if self._is_paused:
                self._attempt.pause()

    @property
    def is_between_events(self) -> bool:
        """Whether what was passed on of the stream ends with a whole event."""
        return self._attempt is None or self._attempt.is_between_events()

    def pause(self) -> None:
        """Stop reading from the engine."""
        self._is_paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        if self._attempt is not None:
            self._attempt.resume()

    def headers(self) -> bytes:
        """What says who answers, for the client's headers and in the log."""
        rung, target = self.stay.rung, self.descent.target
        if target is None:
            return b""
        if rung is None or not rung.mark:
            return target.headers
        self._record.degraded = rung.level.value
        self._record.served_tier = rung.tier
        return target.headers + rung.mark

    # --- the end

    def drop(self, *, blame: bool = False) -> None:
        """Give the attempt up: its engine must stop generating now. `blame`: for it was too slow."""
        if self._attempt is not None:
            if blame:
                self._attempt.blame()
            self._attempt.give_up()
            self.forget()

    def forget(self) -> None:
        """The attempt is over."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._record.pod = attempt.endpoint.facts.pod

    def end(self, outcome: Outcome) -> None:
        """Nothing more is asked for this line."""
        self._seeker = None
        self.stay.end()
        self.forget()
        descent, record = self.descent, self._record
        record.attempts = descent.attempts
        if descent.target is not None:
            record.digest = descent.target.digest
        descent.end_observing(outcome)
