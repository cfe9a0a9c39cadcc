"""Which pods of a tier hold which adapters, when one pod cannot hold them all.

Rendezvous hashing: every pod has its own score for every adapter, and an adapter goes where its score is highest and
room is left. So a pod that comes or goes moves what belongs on it and little else, and every leader comes to the same
without knowing what was before. A Critical voice is in both slices where both have pods, so that it outlives any spot
storm; others but Ambient ones have a second copy while there is room, the more important first. How important a voice
is stands for how much it is asked for: what players ask changes too often to move adapters after it. One slot of each
pod stays free, so that what moves can arrive before it leaves.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from npc_operator.api import names
from npc_operator.domain.engines import OVER
from npc_operator.domain.facts import Pod
from npc_operator.domain.placement import Claim, Placement, rank_importance

SECOND_SHARE = Fraction(2, 3)
"""Second copies are given out until so much of all slots is taken: the rest is for candidates, and it is what keeps a
pod that comes or goes from moving others' adapters around (tests/unit/domain/test_spreading.py counts them)."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A pod that can be given adapters."""

    pod: str
    slice: str


def sits(pod: Pod | None) -> bool:
    """Whether a pod can be given adapters: it runs somewhere and is not on its way out. It does not matter whether its
    engine is ready, so that a restart moves nothing; one that waits for a node does not count, or its share would serve
    nowhere."""
    return (
        pod is not None
        and pod.component == names.COMPONENT_ENGINE
        and bool(pod.ip)
        and not pod.deleting
        and pod.phase not in OVER
    )


def list_seats(pods: Iterable[Pod], tier: str) -> list[Seat]:
    """The pods of a tier that can be given adapters, by name."""
    return sorted(
        (Seat(pod.name, pod.slice) for pod in pods if pod.tier == tier and sits(pod)), key=lambda one: one.pod
    )


def must_spread(claims: Iterable[Claim], *, seats: int, slots: int) -> bool:
    """Whether one pod cannot hold every voice, and several can hold more. Candidates alone are no reason: they wait."""
    return seats * (slots - 1) > slots and sum(claim.stable or claim.candidate for claim in claims) > slots


def spread(claims: Iterable[Claim], seats: Sequence[Seat], *, slots: int) -> Placement:
    """Where each voice is, who gets no place at all, and whose candidate has to wait for room on all of its pods."""
    ordered = sorted(claims, key=lambda claim: (rank_importance(claim.importance), not claim.stable, claim.name))
    wanting = [claim for claim in ordered if claim.stable or claim.candidate]
    board = _Board(seats)
    slices = sorted({seat.slice for seat in seats})
    for claim in wanting:
        if claim.importance == "Critical":
            for name in slices:
                board.seat(claim.name, most=slots - 1, within={name})
        if not board.places(claim.name):
            board.seat(claim.name, most=slots - 1)
    room = SECOND_SHARE * slots * len(seats) - board.load.total()
    for claim in wanting:
        if room >= 1 and claim.importance != "Ambient" and len(board.places(claim.name)) == 1:
            room -= board.seat(claim.name, most=slots - 1)
    placed = [claim for claim in wanting if board.places(claim.name)]
    return Placement(
        left_out=frozenset(claim.name for claim in wanting) - {claim.name for claim in placed},
        held_back=_hold_back(placed, board, slots),
        full=False,
        where={claim.name: frozenset(board.places(claim.name)) for claim in placed},
    )


def _hold_back(placed: Sequence[Claim], board: _Board, slots: int) -> frozenset[str]:
    """Candidates beside a stable digest that find no room on every pod of their voice, those with traffic last."""
    held = set()
    for claim in sorted(placed, key=lambda claim: not claim.moving):
        if not (claim.stable and claim.candidate):
            continue
        pods = board.places(claim.name)
        if all(board.load[pod] < slots for pod in pods):
            board.load.update(pods)
        else:
            held.add(claim.name)
    return frozenset(held)


class _Board:
    """What was given out until now."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._slice = {seat.pod: seat.slice for seat in seats}
        self._places: dict[str, list[str]] = {}
        self.load: Counter[str] = Counter()

    def places(self, name: str) -> Sequence[str]:
        return self._places.get(name, ())

    def slices(self, name: str) -> set[str]:
        return {self._slice[pod] for pod in self.places(name)}

    def seat(self, name: str, *, most: int, within: set[str] | None = None) -> bool:
        """One more pod for a voice: of those with fewer than `most` adapters (and of some slices) the one with the
        highest score."""
        taken = self.places(name)
        free = [
            seat.pod
            for seat in self._seats
            if seat.pod not in taken and self.load[seat.pod] < most and (within is None or seat.slice in within)
        ]
        if not free:
            return False
        best = max(free, key=lambda pod: score(pod, name))
        self._places.setdefault(name, []).append(best)
        self.load[best] += 1
        return True


@lru_cache(maxsize=1 << 16)
def score(pod: str, name: str) -> bytes:
    """How much an adapter belongs on a pod."""
    return hashlib.blake2b(f"{pod}\0{name}".encode(), digest_size=8).digest()
