"""Whose identity is to be looked at now, as a pure function of what is known.

Two looks: at the first token right after the proof, which is kept, and at everything when the order asks for it by a
number above the last that held. At rest there is nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ...wire import DesiredAdapter
from ..facts import Facts, Identity
from ..plan import current_failure, in_order


class Look(StrEnum):
    """What to look at."""

    KEEP = "Keep"  # the first token as it is right after the proof
    CHECK = "Check"  # folder, root and first token


LOOKS_AT_ONCE: Mapping[Look, int] = {Look.KEEP: 2, Look.CHECK: 1}
"""The engine serves lines meanwhile, and a check reads all of an adapter's bytes."""


@dataclass(frozen=True, slots=True)
class Due:
    """Looks to begin now, and when the next one falls due (None: not by time alone)."""

    looks: tuple[tuple[Look, DesiredAdapter, Identity], ...]
    wake_at: float | None


def due_looks(facts: Facts, running: Mapping[str, Look]) -> Due:
    """The looks to begin beside those that run, most important adapters first."""
    looks: list[tuple[Look, DesiredAdapter, Identity]] = []
    wakes: list[float] = []
    places = Counter(LOOKS_AT_ONCE)
    places.subtract(running.values())
    for adapter in in_order(facts.desired or ()):
        identity = facts.identity_of(adapter.served_name)
        if identity is None or adapter.served_name in running:
            continue
        look = _wanted(facts, adapter, identity)
        if look is None:
            continue
        if identity.retry_at > facts.now:
            wakes.append(identity.retry_at)
        elif places[look] > 0:
            places[look] -= 1
            looks.append((look, adapter, identity))
    return Due(tuple(looks), min(wakes, default=None))


def _wanted(facts: Facts, adapter: DesiredAdapter, identity: Identity) -> Look | None:
    failure = current_failure(facts, adapter)
    if adapter.served_name in facts.busy or (failure is not None and failure.permanent):
        return None
    if identity.at_load is None:
        return Look.KEEP
    if adapter.identity_check <= identity.checked:
        return None
    # A folder that was found to be gone is fetched first; one that is being replaced is not looked at.
    return Look.CHECK if adapter.digest in facts.disk and adapter.digest not in facts.busy_digests else None
