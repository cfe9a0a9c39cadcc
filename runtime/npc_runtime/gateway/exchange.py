"""One line on its way: which pod is asked, what happens when that pod fails, and how the answer reaches the client.

The rule that everything here serves: until a byte of an answer went to the client, any failure may be mended on
another pod; after that, never. A stream is opened towards the client with its first event, an answer that is not
streamed only when it is complete.

One pod's part is an `Attempt`; what an answer is worth is decided in `answer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from npc_runtime.gateway import chat, errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.answer import Client, Failure, find_failure, headers_of
from npc_runtime.gateway.attempt import Attempt
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.http.limits import MAX_ATTEMPTS, MAX_BREAKS
from npc_runtime.gateway.http.response import error_event
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.rollouts.observer import NOBODY, Chooser, Observer, Outcome
from npc_runtime.gateway.routing import pick_endpoint
from npc_runtime.gateway.table import Alias, Target

log = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499
"""What logs and metrics say when the client left before its answer was complete (nginx's number for it)."""


class Exchange:
    """State of one request between client and engines. Implements `attempt.Owner`."""

    __slots__ = (
        "_alias",
        "_attempt",
        "_attempts",
        "_body",
        "_body_target",
        "_breaks",
        "_client",
        "_failure",
        "_fleet",
        "_loop",
        "_observer",
        "_over",
        "_payload",
        "_record",
        "_series",
        "_sink",
        "_started",
        "_streaming",
        "_target",
        "_trace",
        "_tried",
        "_unreached",
    )

    def __init__(
        self,
        *,
        fleet: Fleet,
        client: Client,
        chooser: Chooser,
        alias: Alias,
        npc: bytes | None,
        payload: dict[str, Any],
        trace: bytes,
        series: Series,
        record: Record,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Choose the first target and write the body for it; from then on the request counts as running.

        Raises:
            Refused: the body cannot be written.

        """
        self._fleet = fleet
        self._client = client
        self._alias = alias
        self._payload = payload
        self._trace = trace
        self._series = series
        self._record = record
        self._loop = loop
        # Not the loop's clock: uvloop's stands still within one turn and counts milliseconds.
        self._started = monotonic()
        self._attempts = 0
        self._breaks = 0
        self._tried: set[object] = set()
        self._attempt: Attempt | None = None
        self._failure: Failure | None = None
        self._observer: Observer
        self._target: Target
        self._target, self._observer = chooser.choose(alias, npc)
        try:
            # Now, and not when a pod is there: nothing is left that could go wrong but the engines.
            self._body = self._write_body()
        except errors.Refused:
            self._observer.on_end(Outcome.UNTOLD)
            raise
        self._sink: Callable[[bytes], None] | None = None
        self._unreached = False
        self._streaming = False
        self._over = False
        series.in_flight += 1

    def start(self) -> None:
        """Ask the first pod."""
        self._ask_next()

    # --- towards the engines

    def _write_body(self) -> bytes:
        body = chat.write_completion(self._payload, self._target.served_name)
        self._body_target = self._target
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._trace, len(body), body)

    def _ask_next(self) -> None:
        may_ask = self._attempts < MAX_ATTEMPTS and self._breaks < MAX_BREAKS
        endpoint = self._pick() if may_ask else None
        if endpoint is None:
            self._give_up()
            return
        if self._attempts:
            self._series.retries += 1
        self._attempts += 1
        self._tried.add(endpoint)
        if self._body_target is not self._target:
            self._body = self._write_body()
        self._attempt = Attempt(endpoint, self._body, self, self._loop)
        self._attempt.start()

    def _pick(self) -> Endpoint | None:
        fleet, tier = self._fleet, self._alias.tier
        now = self._loop.time()
        usable = fleet.usable(tier, self._target.served_name)
        endpoint = pick_endpoint(usable, tried=self._tried, turn=fleet.next_turn(), now=now)
        if endpoint is None and self._target is not self._alias.stable:
            # A candidate that no pod can answer with costs nobody a line: the stable voice answers.
            self._target = self._alias.stable
            self._observer.on_stable()
            usable = fleet.usable(tier, self._target.served_name)
            endpoint = pick_endpoint(usable, tried=(), turn=fleet.next_turn(), now=now)
        if endpoint is None and self._follow_alias():
            usable = fleet.usable(tier, self._target.served_name)
            endpoint = pick_endpoint(usable, tried=self._tried, turn=fleet.next_turn(), now=now)
            if endpoint is None:
                endpoint = pick_endpoint(usable, tried=(), turn=fleet.next_turn(), now=now)
        if endpoint is None and self._unreached:
            # The last pod was not reached at all, which a busy network or host can do to the only pod there is.
            endpoint = pick_endpoint(usable, tried=(), turn=fleet.next_turn(), now=now)
        return endpoint

    def _follow_alias(self) -> bool:
        """Whether the archetype has moved to another digest while this line waited: its old one may be on no pod any
        more, and no byte of an answer was sent."""
        table = self._fleet.table
        present = None if table is None else table.aliases.get((self._alias.tier, self._alias.archetype))
        if present is None or present.stable.served_name == self._target.served_name:
            return False
        self._alias, self._target = present, present.stable
        # What is said from here on is of no digest that the observer knows.
        self._end_observing(Outcome.UNTOLD)
        return True

    def _failed_attempt(self, failure: Failure, *, reached: bool = True) -> None:
        attempt, self._attempt = self._attempt, None
        pod = "" if attempt is None else attempt.endpoint.facts.pod
        self._record.pod = pod
        log.debug(
            "an engine did not answer",
            extra={"pod": pod, "why": failure.why, "request_id": self._record.request_id, "attempt": self._attempts},
        )
        if reached:
            self._observer.on_failed_attempt()
        self._unreached = not reached
        self._failure = failure
        self._ask_next()

    def _give_up(self) -> None:
        failure = self._failure
        if failure is None:
            self._refuse(errors.no_resident(self._alias.archetype, self._alias.tier), Outcome.UNTOLD)
        elif failure.answer is not None:
            self._pass_on(*failure.answer, Reason.ENGINE_FAILED, Outcome.UNTOLD)
        else:
            self._refuse(failure.fault, Outcome.UNTOLD)

    # --- attempt.Owner

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """Open the stream towards the client with its first chunks; the rest needs nobody in between."""
        self._streaming = True
        now = monotonic()
        self._record.first_token = first = now - self._started
        self._series.first_token.observe(first)
        send = self._client.start_stream(head.content_type, self._target.headers, data)
        observer, attempt = self._observer, self._attempt
        if observer is not NOBODY and attempt is not None:
            observer.on_first_token(now - attempt.asked_at, attempt.endpoint.facts.pod)
            if observer.copies:
                observer.on_chunk(data)
                self._sink = send
                return self._send_and_copy
        return send

    def _send_and_copy(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
        self._observer.on_chunk(data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """Close the stream properly, if the engine said that it was done; a stream that just ends is a failure."""
        if not stream.said_done:
            if not self._streaming:
                fault = errors.engine_failed()
                self._failed_attempt(Failure("the stream ended without saying that it was done", fault))
                return
            self._break_stream(
                errors.engine_interrupted(), Outcome.TRUNCATED, data, between_events=stream.between_events
            )
            return
        if not self._streaming:
            self.on_stream_open(head, data)
            data = b""
        elif data and self._observer.copies:
            self._observer.on_chunk(data)
        self._finish(200, None, Outcome.OK)
        self._client.end_stream(data)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """Pass a complete answer on, unless it says that this pod cannot answer and another might."""
        failure = find_failure(head, body, archetype=self._alias.archetype, tier=self._alias.tier)
        if failure is not None:
            self._failed_attempt(failure)
        elif head.status >= 400:
            self._pass_on(head, body, Reason.BAD_REQUEST, Outcome.UNTOLD)
        else:
            if self._observer.copies:
                self._observer.on_answer(body)
            self._pass_on(head, body, None, Outcome.OK)

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """Try again where that is still possible, else end the client's stream so that it cannot pass for complete."""
        if not self._streaming:
            self._breaks += 1
            self._failed_attempt(Failure(why, errors.engine_unreachable()))
        elif stream is not None and stream.said_done:
            # All events arrived, only the framing's end is missing: the answer is whole.
            self._finish(200, None, Outcome.OK)
            self._client.end_stream(b"")
        else:
            between_events = stream is None or stream.between_events
            self._break_stream(errors.engine_interrupted(), Outcome.ERROR, between_events=between_events)

    def on_unreached(self, why: str) -> None:
        """Try another pod."""
        self._failed_attempt(Failure(why, errors.engine_unreachable()), reached=False)

    # --- towards the client

    def cancel(self) -> None:
        """The client is gone: the engine must stop generating for it now."""
        self.abandon(STATUS_CLIENT_GONE, Reason.CLIENT_GONE)

    def abandon(self, status: int, reason: Reason) -> None:
        """Stop without a word to the client."""
        if not self._over:
            self._drop_engine()
            self._finish(status, reason, Outcome.CLIENT_GONE)

    def time_out(self, seconds: int) -> None:
        """The answer took too long."""
        if self._over:
            return
        between_events = self._attempt is None or self._attempt.is_between_events()
        self._drop_engine()
        if self._streaming:
            self._break_stream(errors.timed_out(seconds), Outcome.ERROR, between_events=between_events)
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

    def _drop_engine(self) -> None:
        if self._attempt is not None:
            self._attempt.give_up()

    def _pass_on(self, head: EngineHead, body: bytes, reason: Reason | None, outcome: Outcome) -> None:
        self._finish(head.status, reason, outcome)
        self._client.send_whole(head.status, head.content_type, body, self._target.headers + headers_of(head))

    def _refuse(self, fault: Fault, outcome: Outcome) -> None:
        self._finish(fault.status, fault.reason, outcome)
        self._client.send_fault(fault, b"")

    def _break_stream(self, fault: Fault, outcome: Outcome, data: bytes = b"", *, between_events: bool) -> None:
        self._finish(200, fault.reason, outcome)
        self._client.break_stream(data + error_event(fault) if between_events else data)

    def _end_observing(self, outcome: Outcome) -> None:
        observer, self._observer = self._observer, NOBODY
        observer.on_end(outcome)

    def _finish(self, status: int, reason: Reason | None, outcome: Outcome) -> None:
        self._over = True
        attempt, self._attempt = self._attempt, None
        series, record = self._series, self._record
        if attempt is not None:
            record.pod = attempt.endpoint.facts.pod
        series.in_flight -= 1
        record.duration = monotonic() - self._started
        series.duration.observe(record.duration)
        series.count_answer(status)
        if reason is not None:
            series.count_error(reason)
            record.reason = reason.value
        record.status = status
        record.digest = self._target.digest
        record.attempts = self._attempts
        self._end_observing(outcome)
