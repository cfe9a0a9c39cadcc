"""Which pods are left out for a while because of what they did to lines, and how they come back.

A pod that cannot be reached is left out at once; one that answers with errors or breaks off, after several in a row
with no answer between them: one poisonous request breaks two pods at most, and ejects none. The time doubles with
each ejection that soon follows another. When it is over the next line is a trial: it alone goes there until its first
byte says that the pod is well.

Left out means asked last, never refused: where no other pod is left, lines still go there. And failing answers never
take more than half of a tier out, because the other half would then carry everything (the faults may be the lines'
own). Pods that cannot be reached carry nothing either way, so they do not count against that half.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

FAILURES: Final = 3
"""Failed answers in a row before a pod is left out; Envoy's default is 5 of far more requests."""

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 30.0
FORGOTTEN_SECONDS: Final = 60.0
"""A pod that was well for so long begins with FIRST_SECONDS again."""


class Standing:
    """What one pod's last lines say about it. Times are loop time."""

    __slots__ = ("ejected_until", "ejections", "failures", "well_since")

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self.ejected_until = 0.0
        """0: in use. In the past: the next line is a trial. Infinite: a trial is running."""
        self.ejections = 0
        """How often it was ejected with less than FORGOTTEN_SECONDS between."""
        self.well_since = 0.0

    @property
    def is_ejected(self) -> bool:
        """Whether it is left out or on trial."""
        return self.ejected_until > 0.0

    def begin_trial(self, now: float) -> bool:
        """Called for each line that goes to an ejected pod: whether this line is its trial."""
        if self.ejected_until <= now:
            self.ejected_until = inf
            return True
        return False

    def drop_trial(self, now: float) -> None:
        """The trial ended and told nothing: the next line is one."""
        if self.ejected_until == inf:
            self.ejected_until = now

    def succeed(self, now: float) -> None:
        """It has answered."""
        self.failures = 0
        if self.ejected_until:
            self.ejected_until = 0.0
            self.well_since = now

    def eject(self, now: float) -> None:
        """Leave it out from now on."""
        if now - self.well_since > FORGOTTEN_SECONDS and not self.ejected_until:
            self.ejections = 0
        self.ejected_until = now + min(LONGEST_SECONDS, FIRST_SECONDS * 2.0**self.ejections)
        self.ejections = min(self.ejections + 1, 10)
        self.failures = 0


def note_failure(pod: Standing, *, reached: bool, now: float, tier: Sequence[Standing]) -> bool:
    """Count a failed attempt on `pod`, one of the pods of `tier`; whether that ejected it.

    Failures of lines that were under way when it was ejected add nothing, but that of its trial does.
    """
    if pod.ejected_until > now and pod.ejected_until != inf:
        return False
    pod.failures += 1
    on_trial = pod.ejected_until > 0.0
    if reached and not on_trial:
        if pod.failures < FAILURES:
            return False
        others = sum(each.is_ejected for each in tier if each is not pod)
        if (others + 1) * 2 > len(tier):
            return False
    pod.eject(now)
    return True
