"""Who answers an NPC, and who watches: the rollouts of one event loop.

Without a rollout a line costs its bucket and two comparisons here (somebody was heard); with one, an object that
listens. A candidate is never worth a line: one that is withdrawn, or on no pod that may be asked, leaves the line to
the stable digest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.rollouts.heard import Heard
from npc_runtime.gateway.rollouts.judge import Judge
from npc_runtime.gateway.rollouts.lines import CandidateLine, StableLine
from npc_runtime.gateway.rollouts.observer import NOBODY, Observer
from npc_runtime.gateway.rollouts.tally import Pair, Seen, Tally, What, keep_newest, pair_of
from npc_runtime.gateway.routing import pinned
from npc_runtime.gateway.table import Alias, CompiledTable, Share, Target

log = logging.getLogger(__name__)

REMEMBERED_NPCS: Final = 16_384
"""NPCs whose bucket is remembered, about 4 MB: a region has at most so many that speak, and each speaks often."""

_bucket = lru_cache(maxsize=REMEMBERED_NPCS)(bucket)

Usable = Callable[[str, str], Sequence[object]]
"""(tier, served name) -> the pods that may be asked for it right now."""


@dataclass(slots=True)
class _Place:
    """One archetype on one tier: lives as long as tables name it."""

    alias: Alias
    heard: Heard = field(default_factory=Heard)
    tally: Tally | None = None
    """Of the present pair; None without a rollout."""
    must_not_match: tuple[str, ...] = ()


class Rollouts:
    """Chooses and counts. Implements `observer.Chooser`. `clock` grows, in seconds."""

    def __init__(self, *, usable: Usable, judge: Judge, clock: Callable[[], float]) -> None:
        self._usable = usable
        self._judge = judge
        self._clock = clock
        self._places: dict[tuple[str, str], _Place] = {}
        self._trying: list[_Place] = []
        self._withdrawn: dict[What, str] = {}
        """Why each was taken off: until another attempt is under way, whatever else tables say in between."""

    def apply(self, table: CompiledTable) -> None:
        """Go by this table from now on. Counts of a pair go on, those of a pair that left are forgotten."""
        known = self._places
        forbidden = {voice.archetype: voice.must_not_match for voice in table.source.voices}
        self._places = {}
        self._trying = []
        for key, alias in table.aliases.items():
            place = known.get(key)
            if place is None:
                place = _Place(alias)
            place.alias = alias
            place.must_not_match = forbidden.get(alias.archetype, ())
            place.tally = self._tally(place)
            self._places[key] = place
            if place.tally is not None:
                self._trying.append(place)
        pairs = [place.tally.pair for place in self._trying if place.tally is not None]
        self._withdrawn = keep_newest(self._withdrawn, pairs)

    def choose(self, alias: Alias, npc: bytes | None) -> tuple[Target, Observer]:
        """The digest for this NPC and who watches the line."""
        place = self._places.get((alias.tier, alias.archetype))
        if place is None or place.alias is not alias:
            # Of a table that is not in force any more: nobody watches, so no candidate.
            return alias.stable, NOBODY
        if npc is None:
            tally = place.tally
            return alias.stable, NOBODY if tally is None else StableLine(tally, self._clock, control=False)
        number = _bucket(alias.archetype_bytes, npc)
        share, candidate = alias.share, alias.candidate
        if share is None or candidate is None:
            place.heard.note(number, self._clock())
            return alias.stable, NOBODY
        wants = pinned(share, npc)
        if wants is None:
            # Who is pinned goes where it is pinned at every step, so no step needs to know that it was heard.
            place.heard.note(number, self._clock())
            wants = number < share.below
        if place.tally is None:
            return candidate if wants else alias.stable, NOBODY
        return self._choose_watched(place, place.tally, candidate, share, number, wants=wants)

    def probe_lines(self, alias: Alias) -> tuple[CandidateLine, StableLine] | None:
        """Observers for the gateway's own question to both digests; None where nothing is tried (any more)."""
        place = self._places.get((alias.tier, alias.archetype))
        if place is None or place.tally is None or place.tally.withdrawn or place.alias.rollout is None:
            return None
        probe = place.alias.rollout.probe
        if place.alias is not alias or probe is None:
            return None
        tally = place.tally
        reading = self._judge.open((*place.must_not_match, *probe.must_not_match), probe.must_match)
        return (
            CandidateLine(tally, reading, self._clock, probe=True),
            StableLine(tally, self._clock, control=True, probe=True),
        )

    def probed(self) -> list[Alias]:
        """Those of which the table wants probes, and whose candidate is not off."""
        return [
            place.alias
            for place in self._trying
            if place.alias.rollout is not None
            and place.alias.rollout.probe is not None
            and place.tally is not None
            and not place.tally.withdrawn
        ]

    def withdraw(self, pair: Pair, why: str) -> None:
        """Take a candidate off, because all event loops together saw enough, or one of them did."""
        if pair.what not in self._withdrawn:
            self._withdrawn[pair.what] = why
            log.warning(
                "a candidate is taken off",
                extra={"archetype": pair.archetype, "tier": pair.tier, "digest": pair.candidate, "why": why},
            )
        for place in self._trying:
            if place.tally is not None and place.tally.pair.what == pair.what:
                place.tally.withdrawn = self._withdrawn[pair.what]

    @property
    def remembered(self) -> int:
        """Tries that were taken off and could still be asked for."""
        return len(self._withdrawn)

    def seen(self) -> tuple[Seen, ...]:
        """What became of every candidate of the table, in the table's order."""
        now = self._clock()
        return tuple(place.tally.seen(place.heard.lowest(now)) for place in self._trying if place.tally is not None)

    def close(self) -> None:
        """Stop judging."""
        self._judge.close()

    def _tally(self, place: _Place) -> Tally | None:
        pair, rollout = pair_of(place.alias), place.alias.rollout
        if pair is None or rollout is None:
            return None
        tally = place.tally
        if tally is None or tally.pair != pair:
            tally = Tally(pair, rollout, on_withdrawn=self.withdraw)
            tally.withdrawn = self._withdrawn.get(pair.what, "")
        tally.rollout = rollout
        return tally

    def _choose_watched(
        self, place: _Place, tally: Tally, candidate: Target, share: Share, number: int, *, wants: bool
    ) -> tuple[Target, Observer]:
        alias = place.alias
        if wants and not tally.withdrawn:
            if self._usable(alias.tier, candidate.served_name):
                reading = self._judge.open(place.must_not_match)
                return candidate, CandidateLine(tally, reading, self._clock, place=number)
            tally.fallen += 1
        control = not wants and share.below <= number < share.control_below
        return alias.stable, StableLine(tally, self._clock, control=control, place=number)
