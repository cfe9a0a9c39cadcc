"""Lines that are watched: one object per line of an archetype with a rollout, told by its exchange what happens."""

from __future__ import annotations

from collections.abc import Callable

from npc_runtime.gateway.rollouts.judge import Finding, Reading
from npc_runtime.gateway.rollouts.observer import Outcome, Pod
from npc_runtime.gateway.rollouts.pairing import FirstToken
from npc_runtime.gateway.rollouts.tally import Tally


class StableLine:
    """A line that the stable digest answers. Implements `Observer`."""

    __slots__ = ("_clock", "_control", "_failed", "_place", "_probe", "_tally")

    copies = False
    is_off = False

    def __init__(
        self,
        tally: Tally,
        clock: Callable[[], float],
        *,
        control: bool,
        place: int | None = None,
        probe: bool = False,
    ) -> None:
        """`control`: its first token is compared with the candidate's. `place` is the NPC's bucket."""
        self._tally = tally
        self._clock = clock
        self._control = control
        self._place = place
        self._probe = probe
        self._failed = False

    def on_first_token(self, seconds: float, pod: str) -> None:
        """Compare, if this is one of those to compare with."""
        if self._control:
            tally = self._tally
            first = FirstToken(seconds, pod, self._clock(), self._place)
            tally.pairs.control(first, slower_percent=tally.rollout.slower_percent)

    def on_chunk(self, data: bytes) -> None:
        """Stable answers are not read."""

    def on_answer(self, body: bytes) -> None:
        """Stable answers are not read."""

    def on_failed_attempt(self) -> None:
        """One failure, however many pods fail under this line."""
        if not self._failed:
            self._failed = True
            self._tally.stable.count(Outcome.ERROR, probe=self._probe)

    def on_lost(self, pod: Pod) -> None:
        """A failure, if the pod did not end."""
        if not self._failed:
            self._failed = True
            self._tally.losses.note(pod, candidate=False, probe=self._probe)

    def on_stable(self) -> None:
        """It is."""

    def on_end(self, outcome: Outcome) -> None:
        """Count it, unless it counts as failed already."""
        if not self._failed:
            self._tally.stable.count(outcome, probe=self._probe)


class CandidateLine:
    """A line that the candidate answers, or at least should have. Implements `Observer`."""

    __slots__ = ("_body", "_clock", "_failed", "_place", "_probe", "_reading", "_stable", "_tally")

    def __init__(
        self,
        tally: Tally,
        reading: Reading,
        clock: Callable[[], float],
        *,
        place: int | None = None,
        probe: bool = False,
    ) -> None:
        """`place` is the NPC's bucket."""
        self._tally = tally
        self._reading = reading
        self._clock = clock
        self._place = place
        self._probe = probe
        self._failed = False
        self._body: bytes | None = None
        self._stable: StableLine | None = None
        """Who goes on listening where the stable digest took over."""

    @property
    def copies(self) -> bool:
        """While it is the candidate that answers."""
        return self._stable is None

    @property
    def is_off(self) -> bool:
        """Until the stable digest takes over."""
        return self._stable is None and bool(self._tally.withdrawn)

    def on_first_token(self, seconds: float, pod: str) -> None:
        """Compare it, and hold it against the limit."""
        if self._stable is not None:
            self._stable.on_first_token(seconds, pod)
            return
        rollout = self._tally.rollout
        self._tally.pairs.candidate(
            FirstToken(seconds, pod, self._clock(), self._place),
            warmup=rollout.warmup,
            slower_percent=rollout.slower_percent,
            limit=rollout.first_token_milliseconds / 1000,
        )

    def on_chunk(self, data: bytes) -> None:
        """To be read."""
        self._reading.add(data)

    def on_answer(self, body: bytes) -> None:
        """To be read."""
        self._body = body

    def on_failed_attempt(self) -> None:
        """One bad answer of the candidate, also if another pod, or the stable digest, answers in the end."""
        if self._stable is not None:
            self._stable.on_failed_attempt()
        elif not self._failed:
            self._failed = True
            self._tally.count_candidate(Outcome.ERROR, probe=self._probe)

    def on_lost(self, pod: Pod) -> None:
        """A bad answer, if the pod did not end."""
        if self._stable is not None:
            self._stable.on_lost(pod)
        elif not self._failed:
            self._failed = True
            self._tally.losses.note(pod, candidate=True, probe=self._probe)

    def on_stable(self) -> None:
        """The stable digest takes over."""
        if self._stable is None:
            self._tally.fallen += not self._failed
            self._stable = StableLine(self._tally, self._clock, control=False, probe=self._probe)

    def on_end(self, outcome: Outcome) -> None:
        """Count it, an answer that was passed on whole only after it was read."""
        if self._stable is not None:
            self._stable.on_end(outcome)
        elif self._failed:
            pass
        elif outcome is Outcome.OK:
            self._reading.close(self._judged, self._body)
        else:
            self._tally.count_candidate(outcome, probe=self._probe)

    def _judged(self, finding: Finding) -> None:
        self._tally.unjudged += not finding.judged
        self._tally.count_candidate(finding.outcome, probe=self._probe, mismatched=finding.mismatched)
