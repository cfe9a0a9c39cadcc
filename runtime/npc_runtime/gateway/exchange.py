"""One line on its way: what the client gets of what the engines say.

The rule that everything here serves: until a byte of an answer went to the client, any failure may be mended, on
another pod or on a lower level; after that never, but for a line that is told in whole sentences. A stream is opened
towards the client with its first event, an answer that is not streamed only when it is complete.

Who is asked, and when, is a `Pursuit`'s to say; the client's side is a `Reply`; what an engine's answer is worth is
decided in `answer`, and how a broken one goes on in `continuation`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from npc_runtime.gateway import errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.answer import Client, Failure, find_failure
from npc_runtime.gateway.continuation import Continuation
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.levels import Ladder, Level
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.pursuit import Means, Pursuit
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.reply import Reply
from npc_runtime.gateway.retelling import HEAD, Retelling
from npc_runtime.gateway.rollouts.observer import Outcome

log = logging.getLogger(__name__)

_OK: Final = Outcome.OK
"""How nearly every line ends; a global is a tenth of what a member of an enum costs."""

STATUS_CLIENT_GONE = 499
"""What logs and metrics say when the client left before its answer was complete (nginx's number for it)."""


class Exchange:
    """State of one request between client and engines. Implements `pursuit.Seeker` and `continuation.Line`."""

    __slots__ = ("_ladder", "_pursuit", "_question", "_record", "_reply", "_retelling", "_sink")

    def __init__(
        self,
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

        Called without names, here and below: no two are of one type, and names cost a line a microsecond in all.

        Raises:
            Refused: the body cannot be written.

        """
        self._ladder = ladder
        self._question = question
        self._record = record
        self._retelling = question.retelling
        self._sink: Callable[[bytes], None] | None = None
        self._pursuit = Pursuit(means, ladder, npc, place, question, series, record, self)
        self._reply = Reply(client, record, series)

    def start(self) -> None:
        """Ask the first pod."""
        self._pursuit.ask_next()

    # --- pursuit.Seeker

    def on_nobody(self, failure: Failure | None) -> None:
        """Say what there is to say without an engine."""
        if self._ladder.has_last_resort:
            self._end(Outcome.UNTOLD)
            self._reply.say_scripted(self._ladder, self._question.payload)
        elif failure is None:
            self._refuse(errors.no_resident(self._ladder.archetype, self._ladder.tier), Outcome.UNTOLD)
        elif failure.answer is not None:
            # Of no level: the descent is past the one whose error it is, and nothing was spoken on the last one either.
            self._end(Outcome.UNTOLD)
            self._reply.send_whole(*failure.answer, b"", Reason.ENGINE_FAILED)
        else:
            self._refuse(failure.fault, Outcome.UNTOLD)

    def on_turned_away(self, fault: Fault) -> None:
        """Refuse while the player still has time for something else."""
        self._refuse(fault, Outcome.UNTOLD)

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """Open the stream towards the client with its first chunks; the rest needs nobody in between."""
        pursuit, retelling = self._pursuit, self._retelling
        if retelling is None:
            send = self._reply.open_stream(head.content_type, pursuit.headers(), data)
        else:
            send = self._reply.open_stream(head.content_type, pursuit.headers() + HEAD, retelling.take(data))
        pursuit.on_first_token(self._on_stall)
        observer = pursuit.descent.observer
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
        observer = self._pursuit.descent.observer
        if observer.copies:
            observer.on_chunk(data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """Close the stream properly, if the engine said that it was done; a stream that just ends is a failure."""
        if not self._reply.is_streaming:
            if not stream.said_done:
                why = "the stream ended without saying that it was done"
                self._pursuit.fail(Failure(why, errors.engine_failed()))
                return
            self.on_stream_open(head, data)
            data = b""
        elif data and self._pursuit.descent.observer.copies:
            self._pursuit.descent.observer.on_chunk(data)
        said_done, retelling = stream.said_done, self._retelling
        if retelling is not None:
            data, said_done = retelling.take(data), retelling.said_done
        if said_done:
            self._end(_OK)
            self._reply.end_stream(data)
        else:
            self._break_off(Outcome.TRUNCATED, data, stream)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """Pass a complete answer on, unless it says that this pod cannot answer and another might."""
        pursuit = self._pursuit
        failure = find_failure(
            head, body, archetype=self._ladder.archetype, tier=self._ladder.tier, can_read=self._question.can_read
        )
        if failure is not None:
            pursuit.fail(failure)
            return
        rung, descent = pursuit.stay.rung, pursuit.descent
        descent.speak()
        if head.status < 400:
            if descent.observer.copies:
                descent.observer.on_answer(body)
            self._pass_on(head, body, None, Outcome.OK)
        elif rung is None or rung.level is Level.ADAPTER or descent.is_last:
            self._pass_on(head, body, Reason.BAD_REQUEST, Outcome.UNTOLD)
        else:
            # It was not meant for this model: a shorter context or a stricter template is not the caller's fault.
            refusal = Failure(f"it answered {head.status}", errors.engine_failed(), (head, body))
            pursuit.leave(Outcome.UNTOLD, refusal)

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """Try again where that is still possible, else end the client's stream so that it cannot pass for complete."""
        if not self._reply.is_streaming:
            self._pursuit.note_loss()
            self._pursuit.fail(Failure(why, errors.engine_unreachable()), broke=True)
        elif stream is not None and stream.said_done and (self._retelling is None or self._retelling.said_done):
            # All events arrived, only the framing's end is missing: the answer is whole.
            self._end(Outcome.OK)
            self._reply.end_stream(b"")
        else:
            self._pursuit.note_loss()
            self._break_off(Outcome.ERROR, b"", stream)

    def on_unreached(self, why: str) -> None:
        """Try another pod."""
        self._pursuit.fail(Failure(why, errors.engine_unreachable()), reached=False)

    def _on_stall(self) -> None:
        """Nothing came for too long in the middle of an answer."""
        rung = self._pursuit.stay.rung
        if rung is not None:
            self._give_up(errors.engine_stalled(rung.routes.stall_seconds), blame=True)

    # --- continuation.Line

    def on_rest_begun(self) -> None:
        """Measure pauses again."""
        self._pursuit.watch(self._on_stall)

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
        self._give_up(errors.engine_interrupted(), blame=True)

    # --- towards the client

    def cancel(self) -> None:
        """The client is gone: the engine must stop generating for it now."""
        self.abandon(STATUS_CLIENT_GONE, Reason.CLIENT_GONE)

    def abandon(self, status: int, reason: Reason) -> None:
        """Stop without a word to the client."""
        if not self._reply.is_over:
            self._pursuit.drop()
            self._end(Outcome.CLIENT_GONE)
            self._reply.abandon(status, reason)

    def time_out(self, seconds: int) -> None:
        """The answer took too long."""
        if self._reply.is_over:
            return
        if self._reply.is_streaming:
            self._give_up(errors.timed_out(seconds))
            return
        self._pursuit.drop()
        if self._ladder.has_last_resort:
            self._end(Outcome.ERROR)
            self._reply.say_scripted(self._ladder, self._question.payload)
        else:
            self._refuse(errors.timed_out(seconds), Outcome.ERROR)

    def pause(self) -> None:
        """The client does not keep up: stop reading from the engine."""
        self._pursuit.pause()

    def resume(self) -> None:
        """The client caught up."""
        self._pursuit.resume()

    def _pass_on(self, head: EngineHead, body: bytes, reason: Reason | None, outcome: Outcome) -> None:
        headers = self._pursuit.headers()
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
        self._pursuit.forget()
        rest = Continuation(self, self._pursuit, retelling=retelling, send=self._sink)
        self._record.resumed = rest.begin(self._question, self._ladder, data)
        return self._record.resumed

    def _give_up(self, fault: Fault, *, blame: bool = False) -> None:
        """Stop a stream whose client has a part of it."""
        between_events = self._retelling is not None or self._pursuit.is_between_events
        self._pursuit.drop(blame=blame)
        self._break_stream(fault, Outcome.ERROR, b"", between_events)

    def _break_stream(self, fault: Fault, outcome: Outcome, data: bytes, between_events: bool) -> None:
        self._end(outcome)
        self._reply.break_stream(fault, data, between_events=between_events)

    def _end(self, outcome: Outcome) -> None:
        """Nothing more is asked for this line; its reply is ended right after."""
        self._pursuit.end(outcome)
