"""One line on its way: what is asked next, what happens when that fails or takes too long, and what the client gets.

The rule that everything here serves: until a byte of an answer went to the client, any failure may be mended, on
another pod or on a lower level; after that never, but for a line that is told in whole sentences. A stream is opened
towards the client with its first event, an answer that is not streamed only when it is complete.

Where to ask is a `Descent`'s to say, what it takes to be there a `Stay`'s, one pod's part is an `Attempt`, the client's
is a `Reply`, what an engine's answer is worth is decided in `answer`, and how a broken one goes on in `continuation`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.admission import Admission
from npc_runtime.gateway.answer import Client, Failure, find_failure
from npc_runtime.gateway.attempt import Attempt, Owner
from npc_runtime.gateway.continuation import Continuation
from npc_runtime.gateway.descent import Descent
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.forecast import Forecasts
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.levels import Ladder, Level
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.reply import Reply
from npc_runtime.gateway.retelling import HEAD, Retelling
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Outcome
from npc_runtime.gateway.stay import Entry, Stay
from npc_runtime.gateway.table import Target

log = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499
"""What logs and metrics say when the client left before its answer was complete (nginx's number for it)."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all lines of one event loop share."""

    fleet: Fleet
    chooser: Chooser
    admission: Admission
    forecasts: Forecasts
    loop: asyncio.AbstractEventLoop


class Exchange:
    """State of one request between client and engines. Implements `attempt.Owner` and `continuation.Line`."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_descent",
        "_is_paused",
        "_ladder",
        "_means",
        "_question",
        "_record",
        "_reply",
        "_request",
        "_retelling",
        "_series",
        "_sink",
        "_stay",
    )

    def __init__(
        self,
        *,
        means: Means,
        client: Client,
        ladder: Ladder,
        npc: bytes | None,
        place: int | None,
        question: Question,
        series: Series,
        record: Record,
    ) -> None:
        """Choose the first target and write the body for it; from then on the request counts as running. `place` is
        the line's place on the rings of `affinity`.

        Raises:
            Refused: the body cannot be written.

        """
        self._means = means
        self._ladder = ladder
        self._question = question
        self._series = series
        self._record = record
        self._attempt: Attempt | None = None
        self._is_paused = False
        self._retelling = question.retelling
        self._sink: Callable[[bytes], None] | None = None
        self._descent = Descent(
            fleet=means.fleet, ladder=ladder, chooser=means.chooser, npc=npc, place=place, loop=means.loop
        )
        self._stay = Stay(
            admission=means.admission,
            forecasts=means.forecasts,
            loop=means.loop,
            importance=ladder.voice.importance,
            on_ready=self._ask_next,
            on_shed=self._on_shed,
            on_late=self._on_late,
        )
        descent = self._descent
        self._request = b""
        self._asked: Target | None = None
        """The digest that the request is written for."""
        try:
            if descent.rung is not None and descent.target is not None:
                # Now, and not when a pod is there: nothing is left that could go wrong but the engines.
                self._request = question.write(ladder, descent.rung, descent.target)
                self._asked = descent.target
        except errors.Refused:
            descent.end_observing(Outcome.UNTOLD)
            raise
        self._reply = Reply(client, record, series)

    def start(self) -> None:
        """Ask the first pod."""
        self._ask_next()

    # --- towards the engines

    def _ask_next(self) -> None:
        descent = self._descent
        while (endpoint := descent.next_pod()) is not None:
            rung, target = descent.rung, descent.target
            if rung is None or target is None:
                break
            if rung is not self._stay.rung and not self._enter_level():
                if self._reply.is_over or self._stay.is_waiting:
                    return
                continue
            descent.take(endpoint)
            if target is not self._asked:
                self._asked, self._request = target, self._question.write(self._ladder, rung, target)
            self.ask(endpoint, self._request, self)
            return
        self._end_without_engines()

    def _enter_level(self) -> bool:
        """Whether an engine may be asked at once on the level that the descent has come to."""
        descent, rung = self._descent, self._descent.rung
        if rung is None:
            return False
        entry = self._stay.enter(rung, is_last=descent.is_last)
        if entry is Entry.SHED:
            self._shed(rung.tier)
        elif entry is Entry.LATE:
            descent.leave(Outcome.UNTOLD, Failure("its first token would come too late", errors.too_late(rung.tier)))
        return entry is Entry.ASK

    def _on_shed(self) -> None:
        """A more important line took this one's place in the queue."""
        if self._stay.rung is not None:
            self._shed(self._stay.rung.tier)
        if not self._reply.is_over:
            self._ask_next()

    def _shed(self, tier: str) -> None:
        fault = errors.shed(tier)
        if self._ladder.voice.importance == "Ambient":
            # Chatter that finds no room would only take it from others on the next tier.
            self._refuse(fault, Outcome.UNTOLD)
        else:
            self._descent.leave(Outcome.UNTOLD, Failure("the tier has no room for another line", fault))

    def _on_late(self) -> None:
        """No byte went to the client in the time that this level has for its first one, or none could any more."""
        descent, attempt, stay = self._descent, self._attempt, self._stay
        if self._reply.is_over or self._reply.is_streaming or stay.rung is None or descent.is_last:
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
            self._drop_engine()
            # Not for a line that still waited for its slot: that its tier is busy does not make it slow.
            self._means.fleet.holds.note_late(stay.rung.tier, self._means.loop.time())
        descent.leave(outcome, Failure("its first token did not come in time", errors.too_late(stay.rung.tier)))
        self._ask_next()

    def _on_stall(self) -> None:
        """Nothing came for too long in the middle of an answer."""
        attempt, rung = self._attempt, self._stay.rung
        if attempt is None or rung is None:
            return
        between_events = self._is_between_events()
        attempt.blame()
        self._drop_engine()
        self._break_stream(errors.engine_stalled(rung.routes.stall_seconds), Outcome.ERROR, b"", between_events)

    def _failed_attempt(self, failure: Failure, *, reached: bool = True, broke: bool = False) -> None:
        self._forget_attempt()
        log.debug(
            "an engine did not answer",
            extra={"pod": self._record.pod, "why": failure.why, "request_id": self._record.request_id},
        )
        self._descent.fail(failure, reached=reached, broke=broke)
        self._ask_next()

    def _end_without_engines(self) -> None:
        failure = self._descent.failure
        if self._ladder.has_last_resort:
            self._end(Outcome.UNTOLD)
            self._reply.say_scripted(self._ladder, self._question.payload)
        elif failure is None:
            self._refuse(errors.no_resident(self._ladder.archetype, self._ladder.tier), Outcome.UNTOLD)
        elif failure.answer is not None:
            self._pass_on(*failure.answer, Reason.ENGINE_FAILED, Outcome.UNTOLD)
        else:
            self._refuse(failure.fault, Outcome.UNTOLD)

    # --- attempt.Owner

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """Open the stream towards the client with its first chunks; the rest needs nobody in between."""
        attempt, stay, observer, retelling = self._attempt, self._stay, self._descent.observer, self._retelling
        if retelling is None:
            send = self._reply.open_stream(head.content_type, self._headers(), data)
        else:
            send = self._reply.open_stream(head.content_type, self._headers() + HEAD, retelling.take(data))
        if attempt is None or stay.rung is None:
            return send
        self._descent.speak()
        if observer is not NOBODY or stay.rung.first_token_seconds:
            seconds = monotonic() - attempt.asked_at
            if stay.speak(seconds):
                self._means.fleet.holds.note_in_time(stay.rung.tier)
            observer.on_first_token(seconds, attempt.endpoint.facts.pod)
        stay.watch(attempt.progress, self._on_stall)
        if observer.copies:
            observer.on_chunk(data)
        elif retelling is None:
            return send
        self._sink = send
        return self._send_and_copy

    def _send_and_copy(self, data: bytes) -> None:
        told = data if self._retelling is None else self._retelling.take(data)
        if told and self._sink is not None:
            self._sink(told)
        if self._descent.observer.copies:
            self._descent.observer.on_chunk(data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """Close the stream properly, if the engine said that it was done; a stream that just ends is a failure."""
        if not self._reply.is_streaming:
            if not stream.said_done:
                why = "the stream ended without saying that it was done"
                self._failed_attempt(Failure(why, errors.engine_failed()))
                return
            self.on_stream_open(head, data)
            data = b""
        elif data and self._descent.observer.copies:
            self._descent.observer.on_chunk(data)
        said_done, retelling = stream.said_done, self._retelling
        if retelling is not None:
            data, said_done = retelling.take(data), retelling.said_done
        if said_done:
            self._end(Outcome.OK)
            self._reply.end_stream(data)
        else:
            self._break_off(Outcome.TRUNCATED, data, stream)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """Pass a complete answer on, unless it says that this pod cannot answer and another might."""
        failure = find_failure(
            head, body, archetype=self._ladder.archetype, tier=self._ladder.tier, can_read=self._question.can_read
        )
        if failure is not None:
            self._failed_attempt(failure)
            return
        rung, descent = self._stay.rung, self._descent
        descent.speak()
        if head.status < 400:
            if descent.observer.copies:
                descent.observer.on_answer(body)
            self._pass_on(head, body, None, Outcome.OK)
        elif rung is None or rung.level is Level.ADAPTER or descent.is_last:
            self._pass_on(head, body, Reason.BAD_REQUEST, Outcome.UNTOLD)
        else:
            # It was not meant for this model: a shorter context or a stricter template is not the caller's fault.
            self._forget_attempt()
            refusal = Failure(f"it answered {head.status}", errors.engine_failed(), (head, body))
            descent.leave(Outcome.UNTOLD, refusal)
            self._ask_next()

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """Try again where that is still possible, else end the client's stream so that it cannot pass for complete."""
        if not self._reply.is_streaming:
            self._failed_attempt(Failure(why, errors.engine_unreachable()), broke=True)
        elif stream is not None and stream.said_done and (self._retelling is None or self._retelling.said_done):
            # All events arrived, only the framing's end is missing: the answer is whole.
            self._end(Outcome.OK)
            self._reply.end_stream(b"")
        else:
            self._break_off(Outcome.ERROR, b"", stream)

    def on_unreached(self, why: str) -> None:
        """Try another pod."""
        self._failed_attempt(Failure(why, errors.engine_unreachable()), reached=False)

    # --- continuation.Line

    def ask(self, endpoint: Endpoint, request: bytes, owner: Owner) -> None:
        """Ask a pod, of which `owner` hears."""
        if self._descent.attempts > 1:
            self._series.retries += 1
        self._attempt = Attempt(endpoint, request, owner, self._means.loop)
        self._attempt.start()

    def on_rest_begun(self) -> None:
        """Measure pauses again, and wait for a client that is still behind."""
        if self._attempt is not None:
            self._stay.watch(self._attempt.progress, self._on_stall)
            if self._is_paused:
                self._attempt.pause()

    def on_rest_ended(self, data: bytes) -> None:
        """The line is whole."""
        self._end(Outcome.OK)
        self._reply.end_stream(data)

    def on_rest_lost(self, why: str, data: bytes) -> None:
        """The line is not."""
        log.debug("a line was not gone on with", extra={"why": why, "request_id": self._record.request_id})
        self._break_stream(errors.engine_interrupted(), Outcome.ERROR, data, between_events=True)

    def on_rest_late(self) -> None:
        """As bad as a stream that stops."""
        if self._attempt is not None:
            self._attempt.blame()
        self._drop_engine()
        self.on_rest_lost("it did not begin in time", b"")

    # --- towards the client

    def cancel(self) -> None:
        """The client is gone: the engine must stop generating for it now."""
        self.abandon(STATUS_CLIENT_GONE, Reason.CLIENT_GONE)

    def abandon(self, status: int, reason: Reason) -> None:
        """Stop without a word to the client."""
        if not self._reply.is_over:
            self._drop_engine()
            self._end(Outcome.CLIENT_GONE)
            self._reply.abandon(status, reason)

    def time_out(self, seconds: int) -> None:
        """The answer took too long."""
        if self._reply.is_over:
            return
        between_events = self._is_between_events()
        self._drop_engine()
        if self._reply.is_streaming:
            self._break_stream(errors.timed_out(seconds), Outcome.ERROR, b"", between_events)
        elif self._ladder.has_last_resort:
            self._end(Outcome.ERROR)
            self._reply.say_scripted(self._ladder, self._question.payload)
        else:
            self._refuse(errors.timed_out(seconds), Outcome.ERROR)

    def pause(self) -> None:
        """The client does not keep up: stop reading from the engine."""
        self._is_paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """The client caught up."""
        self._is_paused = False
        if self._attempt is not None:
            self._attempt.resume()

    def _headers(self) -> bytes:
        """What says who answers, in the client's headers and in the log."""
        rung, target = self._stay.rung, self._descent.target
        if target is None:
            return b""
        if rung is None or not rung.mark:
            return target.headers
        self._record.degraded = rung.level.value
        self._record.served_tier = rung.tier
        return target.headers + rung.mark

    def _drop_engine(self) -> None:
        if self._attempt is not None:
            self._attempt.give_up()
            self._forget_attempt()

    def _forget_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._record.pod = attempt.endpoint.facts.pod

    def _is_between_events(self) -> bool:
        """Whether another event may follow what the client has."""
        return self._retelling is not None or self._attempt is None or self._attempt.is_between_events()

    def _pass_on(self, head: EngineHead, body: bytes, reason: Reason | None, outcome: Outcome) -> None:
        headers = self._headers()
        self._end(outcome)
        self._reply.send_whole(head, body, headers, reason)

    def _refuse(self, fault: Fault, outcome: Outcome) -> None:
        self._end(outcome)
        self._reply.send_fault(fault)

    def _break_off(self, outcome: Outcome, data: bytes, stream: ChunkedAnswer | None) -> None:
        """The engine ended the stream in the middle."""
        if self._retelling is None:
            between_events = stream is None or stream.between_events
            self._break_stream(errors.engine_interrupted(), outcome, data, between_events)
        elif self._retelling.is_whole:
            # The last word was told; only what follows it at every end is missing.
            self._end(Outcome.OK)
            self._reply.end_stream(data + self._retelling.finish())
        elif not self._go_on(self._retelling, data):
            self._break_stream(errors.engine_interrupted(), outcome, data, between_events=True)

    def _go_on(self, retelling: Retelling, data: bytes) -> bool:
        if self._sink is None:
            return False
        self._forget_attempt()
        rest = Continuation(self, retelling=retelling, descent=self._descent, stay=self._stay, send=self._sink)
        self._record.resumed = rest.begin(self._question, self._ladder, data)
        return self._record.resumed

    def _break_stream(self, fault: Fault, outcome: Outcome, data: bytes, between_events: bool) -> None:
        self._end(outcome)
        self._reply.break_stream(fault, data, between_events=between_events)

    def _end(self, outcome: Outcome) -> None:
        """Nothing more is asked for this line; its reply is ended right after."""
        self._stay.leave()
        self._forget_attempt()
        descent, record = self._descent, self._record
        record.attempts = descent.attempts
        if descent.target is not None:
            record.digest = descent.target.digest
        descent.end_observing(outcome)
