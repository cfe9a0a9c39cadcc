"""What an exchange tells of a line while a candidate is being tried: a few calls, none of which can fail the line.

Where the archetype has no rollout the observer is `NOBODY`, so an exchange never asks whether there is one; only for
the bytes of an answer, the one hot place, does it look at `copies` first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from npc_runtime.gateway.table import Alias, Target


class Outcome(enum.Enum):
    """How a line ended, as far as the digest that answered is concerned."""

    OK = "ok"
    """A whole answer was passed on."""
    ERROR = "error"
    """The engine failed, broke off, stalled, or was not done when the line's time was up."""
    TRUNCATED = "truncated"
    """The stream came to its end without saying that it was done."""
    EMPTY = "empty"
    """A whole answer without a word in it, where the exchange knows that already."""
    LATE = "late"
    """Given up for another level because no first token had come in time: an answer, and not a bad one. The time it was
    given is told with `on_first_token` before."""
    CLIENT_GONE = "client_gone"
    """The client left before the end: counts nowhere."""
    UNTOLD = "untold"
    """Says nothing of the digest: the request was at fault (4xx), no pod was reached, or the line never left a queue.
    Counts nowhere."""


class Pod(Protocol):
    """A pod as far as lines that were lost with it care."""

    def find_out(self, tell: Callable[[bool], None]) -> None:
        """Have `tell` called in a moment with whether it is still there. Once for each call, whatever happens."""


class Observer(Protocol):
    """Told of one line on one alias, on the event loop. `on_end` comes exactly once and last."""

    @property
    def copies(self) -> bool:
        """Whether `on_chunk` and `on_answer` want to be called. May turn False with `on_stable`, never True; look when
        the answer begins."""
        ...

    @property
    def is_off(self) -> bool:
        """Whether the candidate that this line was to be answered by was taken off since: then no pod is asked for
        it any more."""
        ...

    def on_first_token(self, seconds: float, pod: str) -> None:
        """The first event of a stream came from `pod`, so long after that pod was asked (not after the request)."""

    def on_chunk(self, data: bytes) -> None:
        """Bytes of a stream as they are passed on: whole chunks, still in their framing."""

    def on_answer(self, body: bytes) -> None:
        """The whole body of an answer that is not streamed."""

    def on_failed_attempt(self) -> None:
        """An engine that was asked failed before a byte went to the client, and the line goes on, here or elsewhere.
        Not for a pod that was never reached: that says nothing of the digest."""

    def on_lost(self, pod: Pod) -> None:
        """The connection to a pod that was asked broke before its answer was whole. Comes before the call that says
        what becomes of the line, which then counts nothing."""

    def on_stable(self) -> None:
        """The candidate is off, or on no pod that could be asked: from here on the stable digest answers this line."""

    def on_end(self, outcome: Outcome) -> None:
        """Nothing more comes of this line on this alias, also when it goes on with another tier or without an adapter
        (then with what is known: UNTOLD if all there is to say was said by `on_failed_attempt`)."""


class Nobody:
    """Listens to nothing. Implements `Observer`."""

    __slots__ = ()

    copies = False
    is_off = False

    def on_first_token(self, seconds: float, pod: str) -> None:
        """Ignored."""

    def on_chunk(self, data: bytes) -> None:
        """Ignored."""

    def on_answer(self, body: bytes) -> None:
        """Ignored."""

    def on_failed_attempt(self) -> None:
        """Ignored."""

    def on_lost(self, pod: Pod) -> None:
        """Ignored."""

    def on_stable(self) -> None:
        """Ignored."""

    def on_end(self, outcome: Outcome) -> None:
        """Ignored."""


NOBODY = Nobody()
"""For lines of archetypes without a rollout."""


class Chooser(Protocol):
    """Who answers an NPC on an alias, and who wants to know what becomes of it. One per event loop; the service asks it
    once for each line and each tier the line is tried on."""

    def choose(self, alias: Alias, npc: bytes | None) -> tuple[Target, Observer]:
        """The digest for this NPC (its id, None where the request names none) and the line's observer. A candidate that
        no pod can answer with right now is not chosen."""
        ...
