"""The second pod of a line that broke in the middle: it goes on where whole sentences ended, or the line is broken off.

There is one per line at most, of the same digest, and it mends nothing: whatever goes wrong here, the client is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from npc_runtime.gateway import errors
from npc_runtime.gateway.answer import Failure
from npc_runtime.gateway.fleet import Endpoint
from npc_runtime.gateway.http.engine_answer import ChunkedAnswer, EngineHead
from npc_runtime.gateway.levels import Ladder
from npc_runtime.gateway.pursuit import Pursuit
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.retelling import Retelling


class Line(Protocol):
    """Whose line it is."""

    def on_rest_begun(self) -> None:
        """A pod goes on: from here on pauses are measured."""

    def on_rest_ended(self, data: bytes) -> None:
        """The line is whole; `data` is the last of it."""

    def on_rest_lost(self, why: str, data: bytes) -> None:
        """The rest will not come; `data` may still be told."""

    def on_rest_late(self) -> None:
        """The pod did not begin in time."""


class Continuation:
    """Asks for the rest and tells it. Implements `attempt.Owner`."""

    __slots__ = ("_begun", "_line", "_pursuit", "_request", "_retelling", "_send")

    def __init__(self, line: Line, pursuit: Pursuit, *, retelling: Retelling, send: Callable[[bytes], None]) -> None:
        """`send` is where the client's stream goes."""
        self._line = line
        self._pursuit = pursuit
        self._retelling = retelling
        self._send = send
        self._request = b""
        self._begun = False

    def begin(self, question: Question, ladder: Ladder, data: bytes) -> bool:
        """Ask another pod to go on after the whole sentences that were told, of which `data` is the last; False, and
        nothing was done, where that cannot be."""
        retelling, descent, stay = self._retelling, self._pursuit.descent, self._pursuit.stay
        rung = stay.rung
        if rung is None or descent.target is None or not retelling.may_go_on:
            return False
        endpoint = descent.next_of_same(broke=True)
        rest = None if endpoint is None else retelling.go_on(question.payload)
        if endpoint is None or rest is None:
            return False
        self._send(data)
        self._request = question.write(ladder, rung, descent.target, rest)
        descent.fail(Failure("it broke in the middle", errors.engine_interrupted()), reached=True, broke=True)
        stay.limit_rest(self._line.on_rest_late)
        self._ask(endpoint)
        return True

    def _ask(self, endpoint: Endpoint) -> None:
        self._pursuit.descent.take(endpoint)
        self._pursuit.ask(endpoint, self._request, self)

    # --- attempt.Owner

    def on_stream_open(self, head: EngineHead, data: bytes) -> Callable[[bytes], None]:
        """The pod goes on, and the client sees where."""
        self._begun = True
        self._line.on_rest_begun()
        self._send(self._retelling.mark())
        self._tell(data)
        return self._tell

    def on_stream_end(self, head: EngineHead, data: bytes, stream: ChunkedAnswer) -> None:
        """The pod has no more to say."""
        told = self._retelling.take(data)
        if not self._begun:
            told = self._retelling.mark() + told  # all of it came at once
        if self._retelling.said_done:
            self._line.on_rest_ended(told)
        else:
            self._lose("it ended without saying that it was done", told)

    def on_answer(self, head: EngineHead, body: bytes) -> None:
        """It would not go on."""
        self._lose(f"it answered {head.status}", b"")

    def on_engine_lost(self, why: str, stream: ChunkedAnswer | None) -> None:
        """It broke as well."""
        if self._retelling.said_done:
            self._line.on_rest_ended(b"")
        else:
            self._lose(why, b"")

    def on_unreached(self, why: str) -> None:
        """It knows nothing of the line, so yet another pod may be asked."""
        endpoint = self._pursuit.descent.next_of_same(broke=False)
        if endpoint is None:
            self._line.on_rest_lost(why, b"")
        else:
            self._ask(endpoint)

    def _tell(self, data: bytes) -> None:
        told = self._retelling.take(data)
        if told:
            self._send(told)

    def _lose(self, why: str, told: bytes) -> None:
        if self._retelling.is_whole:
            self._line.on_rest_ended(told + self._retelling.finish())
        else:
            self._line.on_rest_lost(why, told)
