"""One chat completion on its way: which pod is asked, what happens when that pod fails, and how the answer reaches the
client.

The rule that everything here serves: until a byte of an answer went to the client, any failure may be mended on
another pod; after that, never. A stream is opened towards the client with its first event, an answer that is not
streamed only when it is complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from npc_runtime.gateway import chat, errors
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.errors import Fault, Reason
from npc_runtime.gateway.fleet import Endpoint, Fleet
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.http.limits import MAX_ATTEMPTS, MAX_BREAKS, SUSPECT_SECONDS
from npc_runtime.gateway.http.response import error_event
from npc_runtime.gateway.metrics import Series
from npc_runtime.gateway.routing import pick_endpoint
from npc_runtime.gateway.table import Alias, Target
from npc_runtime.gateway.upstream import EngineConnection

log = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499
"""What logs and metrics say when the client left before its answer was complete (nginx's number for it)."""


class Client(Protocol):
    """The connection that asked. Each request is ended by exactly one of whole, fault, end_stream and break_stream."""

    def send_whole(self, status: int, content_type: bytes, body: bytes, extra: bytes) -> None:
        """Send a complete answer; `extra` is whole header lines."""

    def send_fault(self, fault: Fault, extra: bytes) -> None:
        """Send a refusal."""

    def start_stream(self, content_type: bytes, extra: bytes, data: bytes) -> Callable[[bytes], None]:
        """Send the head of a stream with its first chunks; returns what sends further ones."""
        ...

    def end_stream(self, data: bytes) -> None:
        """Send the last chunks and the proper end."""

    def break_stream(self, data: bytes) -> None:
        """Send what is left (may be empty) and close without the proper end, so that the stream cannot pass for
        complete."""


class Exchange:
    """State of one request between client and engines. Implements `upstream.Asker`."""

    __slots__ = (
        "_alias",
        "_attempts",
        "_body",
        "_body_target",
        "_breaks",
        "_client",
        "_connecting",
        "_connection",
        "_endpoint",
        "_failure",
        "_fleet",
        "_loop",
        "_over",
        "_payload",
        "_record",
        "_refreshed",
        "_series",
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
        alias: Alias,
        target: Target,
        payload: dict[str, Any],
        trace: bytes,
        series: Series,
        record: Record,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Write the body for the first target; from then on the request counts as running.

        Raises:
            Refused: the body cannot be written.

        """
        self._fleet = fleet
        self._client = client
        self._alias = alias
        self._target = target
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
        self._endpoint: Endpoint | None = None
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failure: tuple[EngineHead, bytes] | Fault | None = None
        # Now, and not when a pod is there: nothing is left that could go wrong but the engines.
        self._body = chat.write_completion(payload, target.served_name)
        self._body_target = target
        self._refreshed = False
        self._unreached = False
        self._streaming = False
        self._over = False
        series.in_flight += 1

    def start(self) -> None:
        """Ask the first pod."""
        self._ask_next()

    # --- towards the engines

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
        self._endpoint = endpoint
        endpoint.in_flight += 1
        self._refreshed = False
        connection = endpoint.pool.take_idle()
        if connection is not None:
            self._ask(connection, endpoint)
        else:
            self._connecting = self._loop.create_task(self._connect(endpoint))

    def _pick(self) -> Endpoint | None:
        fleet, tier = self._fleet, self._alias.tier
        now = self._loop.time()
        usable = fleet.usable(tier, self._target.served_name)
        endpoint = pick_endpoint(usable, tried=self._tried, turn=fleet.next_turn(), now=now)
        if endpoint is None and self._target is not self._alias.stable:
            # A candidate that no pod can answer with costs nobody a line: the stable voice answers.
            self._target = self._alias.stable
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
        return True

    async def _connect(self, endpoint: Endpoint) -> None:
        try:
            connection = await endpoint.pool.connect()
        except Exception as error:
            self._connecting = None
            if not isinstance(error, OSError):
                # A task's exception is heard by nobody, and the client would wait for its deadline.
                log.exception("an engine could not be connected", extra={"pod": endpoint.facts.pod})
            endpoint.suspect_until = self._loop.time() + SUSPECT_SECONDS
            self._unreached = True
            if not self._over:
                self._failed_attempt(errors.engine_unreachable(), f"cannot connect: {type(error).__name__}")
            return
        self._connecting = None
        if self._over:
            endpoint.pool.put_back(connection)
        else:
            endpoint.suspect_until = 0.0
            self._unreached = False
            self._ask(connection, endpoint)

    def _ask(self, connection: EngineConnection, endpoint: Endpoint) -> None:
        if self._body_target is not self._target:
            self._body = chat.write_completion(self._payload, self._target.served_name)
            self._body_target = self._target
        body = self._body
        self._connection = connection
        connection.ask(
            b"".join((endpoint.request_head, self._trace, b"Content-Length: %d\r\n\r\n" % len(body), body)), self
        )

    def _leave_endpoint(self) -> None:
        if self._endpoint is not None:
            self._endpoint.in_flight -= 1
            self._record.pod = self._endpoint.facts.pod
            self._endpoint = None
        self._connection = None

    def _failed_attempt(self, failure: tuple[EngineHead, bytes] | Fault, why: str) -> None:
        pod = self._endpoint.facts.pod if self._endpoint is not None else ""
        log.debug(
            "an engine did not answer",
            extra={"pod": pod, "why": why, "request_id": self._record.request_id, "attempt": self._attempts},
        )
        self._failure = failure
        self._leave_endpoint()
        self._ask_next()

    def _give_up(self) -> None:
        failure = self._failure
        if failure is None:
            failure = errors.no_resident(self._alias.archetype, self._alias.tier)
        if isinstance(failure, Fault):
            self._refuse(failure)
        else:
            head, body = failure
            self._pass_on(head, body, Reason.ENGINE_FAILED)

    # --- upstream.Asker

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """Open the stream towards the client with its first chunks; the rest needs nobody in between."""
        self._streaming = True
        self._record.first_token = first = monotonic() - self._started
        self._series.first_token.observe(first)
        return self._client.start_stream(head.content_type, self._target.headers, data)

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """Close the stream properly, if the engine said that it was done; a stream that just ends is a failure."""
        if not stream.said_done:
            if not self._streaming:
                self._failed_attempt(errors.engine_failed(), "the stream ended without saying that it was done")
                return
            self._break_stream(errors.engine_interrupted(), data, between_events=stream.between_events)
            return
        if not self._streaming:
            self.on_stream_open(head, data)
            data = b""
        self._leave_endpoint()
        self._finish(200, None)
        self._client.end_stream(data)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """Pass a complete answer on, unless it says that this pod cannot answer and another might."""
        status = head.status
        if status == 404:
            # The name was unloaded a moment ago; the caller's archetype is fine, so 404 must not reach it.
            fault = errors.no_resident(self._alias.archetype, self._alias.tier)
            self._failed_attempt(fault, "the adapter is not loaded there")
        elif status in (401, 403) or 300 <= status < 400:
            self._failed_attempt(errors.engine_failed(), f"it answered {status}")
        elif status >= 500:
            is_json = head.content_type.startswith(b"application/json")
            self._failed_attempt((head, body) if is_json else errors.engine_failed(), f"it answered {status}")
        else:
            self._pass_on(head, body, Reason.BAD_REQUEST if status >= 400 else None)

    def on_engine_lost(self, why: str, *, stale: bool, stream: ChunkedAnswer | None) -> None:
        """Try again where that is still possible, else end the client's stream so that it cannot pass for complete."""
        endpoint = self._endpoint
        if self._streaming:
            if stream is not None and stream.said_done:
                # All events arrived, only the framing's end is missing: the answer is whole.
                self._leave_endpoint()
                self._finish(200, None)
                self._client.end_stream(b"")
                return
            self._break_stream(errors.engine_interrupted(), between_events=stream is None or stream.between_events)
        elif stale and not self._refreshed and endpoint is not None:
            # The engine closed an idle connection as we took it: that says nothing about the pod.
            self._refreshed = True
            self._connection = None
            self._connecting = self._loop.create_task(self._connect(endpoint))
        else:
            self._breaks += 1
            self._failed_attempt(errors.engine_unreachable(), why)

    # --- towards the client

    def cancel(self) -> None:
        """The client is gone: the engine must stop generating for it now."""
        self.abandon(STATUS_CLIENT_GONE, Reason.CLIENT_GONE)

    def abandon(self, status: int, reason: Reason) -> None:
        """Stop without a word to the client."""
        if not self._over:
            self._drop_engine()
            self._finish(status, reason)

    def time_out(self, seconds: int) -> None:
        """The answer took too long."""
        if self._over:
            return
        between_events = self._connection is None or self._connection.is_between_events()
        self._drop_engine()
        if self._streaming:
            self._break_stream(errors.timed_out(seconds), between_events=between_events)
        else:
            self._refuse(errors.timed_out(seconds))

    def pause(self) -> None:
        """The client does not keep up: stop reading from the engine."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client caught up."""
        if self._connection is not None:
            self._connection.resume()

    def _drop_engine(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
        self._leave_endpoint()

    def _pass_on(self, head: EngineHead, body: bytes, reason: Reason | None) -> None:
        extra = self._target.headers
        if head.retry_after:
            extra += b"Retry-After: " + head.retry_after + b"\r\n"
        if head.content_encoding:
            extra += b"Content-Encoding: " + head.content_encoding + b"\r\n"
        self._leave_endpoint()
        self._finish(head.status, reason)
        self._client.send_whole(head.status, head.content_type, body, extra)

    def _refuse(self, fault: Fault) -> None:
        self._finish(fault.status, fault.reason)
        self._client.send_fault(fault, b"")

    def _break_stream(self, fault: Fault, data: bytes = b"", *, between_events: bool) -> None:
        self._leave_endpoint()
        self._finish(200, fault.reason)
        self._client.break_stream(data + error_event(fault) if between_events else data)

    def _finish(self, status: int, reason: Reason | None) -> None:
        self._over = True
        series, record = self._series, self._record
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
