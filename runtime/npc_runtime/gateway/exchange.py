"""One line on its way: what is asked next, what happens when that fails or takes too long, and what the client gets.

The rule that everything here serves: until a byte of an answer went to the client, any failure may be mended, on
another pod or on a lower level; after that, never. A stream is opened towards the client with its first event, an
answer that is not streamed only when it is complete.

Where to ask is a `Descent`'s to say, one pod's part is an `Attempt`, the client's is a `Reply`, and what an engine's
answer is worth is decided in `answer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.admission import FREE, Admission, State, Ticket
from npc_runtime.gateway.answer import Client, Failure, find_failure
from npc_runtime.gateway.attempt import Attempt
from npc_runtime.gateway.descent import Descent
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.fleet import Fleet
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.levels import Ladder, Level, Rung
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.reply import Reply
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Outcome
from npc_runtime.gateway.stall import StallWatch
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
    loop: asyncio.AbstractEventLoop


class Exchange:
    """State of one request between client and engines. Implements `attempt.Owner`."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_descent",
        "_ladder",
        "_means",
        "_question",
        "_record",
        "_reply",
        "_request",
        "_rung",
        "_series",
        "_sink",
        "_ticket",
        "_timer",
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
        self._ticket: Ticket = FREE
        self._timer: asyncio.TimerHandle | StallWatch | None = None
        self._rung: Rung | None = None
        """The level that was entered last."""
        self._sink: Callable[[bytes], None] | None = None
        self._descent = Descent(
            fleet=means.fleet, ladder=ladder, chooser=means.chooser, npc=npc, place=place, loop=means.loop
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
        descent, means = self._descent, self._means
        while (endpoint := descent.next_pod()) is not None:
            rung, target = descent.rung, descent.target
            if rung is None or target is None:
                break
            if rung is not self._rung and not self._enter_level(rung):
                if self._reply.is_over or self._ticket.state is State.WAITING:
                    return
                continue
            if descent.attempts:
                self._series.retries += 1
            descent.take(endpoint)
            if target is not self._asked:
                self._asked, self._request = target, self._question.write(self._ladder, rung, target)
            self._attempt = Attempt(endpoint, self._request, self, means.loop)
            self._attempt.start()
            return
        self._end_without_engines()

    def _enter_level(self, rung: Rung) -> bool:
        """Whether an engine may be asked at once on the level that the descent has come to."""
        self._rung = rung
        if self._timer is not None:
            self._stop_timer()
        if self._ticket is not FREE:
            self._ticket.release()
        if rung.first_token_seconds and not self._descent.is_last:
            self._timer = self._means.loop.call_later(rung.first_token_seconds, self._on_late)
        importance = self._ladder.voice.importance
        self._ticket = self._means.admission.acquire(rung.tier, importance, self._ask_next, self._on_shed)
        if self._ticket.state is State.SHED:
            self._shed(rung)
        return self._ticket.state is State.ADMITTED

    def _on_shed(self) -> None:
        """A more important line took this one's place in the queue."""
        if self._rung is not None:
            self._shed(self._rung)
        if not self._reply.is_over:
            self._ask_next()

    def _shed(self, rung: Rung) -> None:
        fault = errors.shed(rung.tier)
        if self._ladder.voice.importance == "Ambient":
            # Chatter that finds no room would only take it from others on the next tier.
            self._refuse(fault, Outcome.UNTOLD)
        else:
            self._descent.leave(Outcome.UNTOLD, Failure("the tier has no room for another line", fault))

    def _on_late(self) -> None:
        """No byte went to the client in the time that this level has for its first one."""
        self._timer = None
        descent, attempt, rung = self._descent, self._attempt, self._rung
        if self._reply.is_over or self._reply.is_streaming or rung is None or descent.is_last:
            return
        outcome = Outcome.UNTOLD
        if attempt is not None:
            if attempt.asked_at:
                if not self._question.wants_stream:
                    # Nobody can see its first token: the engine speaks once, when it is done.
                    return
                outcome = Outcome.LATE
                descent.observer.on_first_token(monotonic() - attempt.asked_at, attempt.endpoint.facts.pod)
                attempt.blame()
            self._drop_engine()
        self._means.fleet.holds.note_late(rung.tier, self._means.loop.time())
        descent.leave(outcome, Failure("its first token did not come in time", errors.too_late(rung.tier)))
        self._ask_next()

    def _on_stall(self) -> None:
        """Nothing came for too long in the middle of an answer."""
        attempt, rung = self._attempt, self._rung
        if attempt is None or rung is None:
            return
        between_events = attempt.is_between_events()
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
        attempt, rung, observer = self._attempt, self._rung, self._descent.observer
        send = self._reply.open_stream(head.content_type, self._headers(), data)
        if attempt is None or rung is None:
            return send
        self._descent.speak()
        if self._timer is not None:
            self._stop_timer()
            self._means.fleet.holds.note_in_time(rung.tier)
        if rung.stall_seconds:
            self._timer = StallWatch(
                self._means.loop, rung.stall_seconds, progress=attempt.progress, on_stall=self._on_stall
            )
        if observer is not NOBODY:
            observer.on_first_token(monotonic() - attempt.asked_at, attempt.endpoint.facts.pod)
            if observer.copies:
                observer.on_chunk(data)
                self._sink = send
                return self._send_and_copy
        return send

    def _send_and_copy(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
        self._descent.observer.on_chunk(data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """Close the stream properly, if the engine said that it was done; a stream that just ends is a failure."""
        if not stream.said_done:
            if self._reply.is_streaming:
                self._break_off(Outcome.TRUNCATED, data, stream)
            else:
                why = "the stream ended without saying that it was done"
                self._failed_attempt(Failure(why, errors.engine_failed()))
            return
        if not self._reply.is_streaming:
            self.on_stream_open(head, data)
            data = b""
        elif data and self._descent.observer.copies:
            self._descent.observer.on_chunk(data)
        self._end(Outcome.OK)
        self._reply.end_stream(data)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """Pass a complete answer on, unless it says that this pod cannot answer and another might."""
        failure = find_failure(head, body, archetype=self._ladder.archetype, tier=self._ladder.tier)
        if failure is not None:
            self._failed_attempt(failure)
            return
        rung, descent = self._rung, self._descent
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
        elif stream is not None and stream.said_done:
            # All events arrived, only the framing's end is missing: the answer is whole.
            self._end(Outcome.OK)
            self._reply.end_stream(b"")
        else:
            self._break_off(Outcome.ERROR, b"", stream)

    def on_unreached(self, why: str) -> None:
        """Try another pod."""
        self._failed_attempt(Failure(why, errors.engine_unreachable()), reached=False)

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
        between_events = self._attempt is None or self._attempt.is_between_events()
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
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """The client caught up."""
        if self._attempt is not None:
            self._attempt.resume()

    def _headers(self) -> bytes:
        """What says who answers, in the client's headers and in the log."""
        rung, target = self._rung, self._descent.target
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

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass_on(self, head: EngineHead, body: bytes, reason: Reason | None, outcome: Outcome) -> None:
        headers = self._headers()
        self._end(outcome)
        self._reply.send_whole(head, body, headers, reason)

    def _refuse(self, fault: Fault, outcome: Outcome) -> None:
        self._end(outcome)
        self._reply.send_fault(fault)

    def _break_off(self, outcome: Outcome, data: bytes, stream: ChunkedAnswer | None) -> None:
        """The engine ended the stream in the middle."""
        self._break_stream(errors.engine_interrupted(), outcome, data, stream is None or stream.between_events)

    def _break_stream(self, fault: Fault, outcome: Outcome, data: bytes, between_events: bool) -> None:
        self._end(outcome)
        self._reply.break_stream(fault, data, between_events=between_events)

    def _end(self, outcome: Outcome) -> None:
        """Nothing more is asked for this line; its reply is ended right after."""
        if self._timer is not None:
            self._stop_timer()
        self._forget_attempt()
        descent, record = self._descent, self._record
        record.attempts = descent.attempts
        if descent.target is not None:
            record.digest = descent.target.digest
        descent.end_observing(outcome)
        if self._ticket is not FREE:
            self._ticket.release()
