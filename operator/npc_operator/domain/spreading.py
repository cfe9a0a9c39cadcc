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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

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


def spread(claims: Iterable[Claim], seats: Iterable[Seat], *, slots: int) -> Placement:
    """Where each voice is, who gets no place at all, and whose candidate has to wait for room on all of its pods."""
    ordered = sorted(claims, key=lambda claim: (rank_importance(claim.importance), claim.name))
    wanting = [claim for claim in ordered if claim.stable or claim.candidate]
    pods = tuple(sorted(seats, key=lambda seat: seat.pod))
    where = lay_out(tuple((claim.name, claim.importance) for claim in wanting), pods, slots)
    if len(where) < len(wanting):
        # Only now it matters who serves already: nobody gives way to a newcomer of the same importance.
        wanting.sort(key=lambda claim: (rank_importance(claim.importance), not claim.stable))
        where = lay_out(tuple((claim.name, claim.importance) for claim in wanting), pods, slots)
    return Placement(
        left_out=frozenset(claim.name for claim in wanting if claim.name not in where),
        held_back=_hold_back(wanting, where, slots),
        full=False,
        where=where,
    )


@lru_cache(maxsize=32)
def lay_out(voices: tuple[tuple[str, str], ...], pods: tuple[Seat, ...], slots: int) -> Mapping[str, frozenset[str]]:
    """Pods by voice, for voices (name, importance) in the order in which they take their places. Remembered: with a
    thousand of them it takes milliseconds, and a fleet that loads asks for the same a thousand times."""
    board = _Board(pods)
    slices = sorted({seat.slice for seat in pods})
    for name, importance in voices:
        if importance == "Critical":
            for one in slices:
                board.seat(name, most=slots - 1, within={one})
        if not board.places(name):
            board.seat(name, most=slots - 1)
    room = SECOND_SHARE * slots * len(pods) - board.load.total()
    for name, importance in voices:
        if room >= 1 and importance != "Ambient" and len(board.places(name)) == 1:
            room -= board.seat(name, most=slots - 1)
    return MappingProxyType({name: frozenset(board.places(name)) for name, _ in voices if board.places(name)})


def _hold_back(wanting: Iterable[Claim], where: Mapping[str, frozenset[str]], slots: int) -> frozenset[str]:
    """Candidates beside a stable digest that find no room on every pod of their voice, those with traffic last."""
    moving = [claim for claim in wanting if claim.stable and claim.candidate and claim.name in where]
    if not moving:
        return frozenset()
    load = Counter(pod for pods in where.values() for pod in pods)
    held = set()
    for claim in sorted(moving, key=lambda claim: not claim.moving):
        if all(load[pod] < slots for pod in where[claim.name]):
            load.update(where[claim.name])
        else:
            held.add(claim.name)
    return frozenset(held)


class _Board:
    """What was given out until now."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._pods = tuple(sorted(seat.pod for seat in seats))
        self._slice = {seat.pod: seat.slice for seat in seats}
        self._places: dict[str, list[str]] = {}
        self.load: Counter[str] = Counter()

    def places(self, name: str) -> Sequence[str]:
        return self._places.get(name, ())

    def seat(self, name: str, *, most: int, within: set[str] | None = None) -> bool:
        """One more pod for a voice: of those with fewer than `most` adapters (and of some slices) the one with the
        highest score."""
        taken = self.places(name)
        for pod in rank_pods(self._pods, name):
            if pod in taken or self.load[pod] >= most or (within is not None and self._slice[pod] not in within):
                continue
            self._places.setdefault(name, []).append(pod)
            self.load[pod] += 1
            return True
        return False


@lru_cache(maxsize=1 << 14)
def rank_pods(pods: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Pods by how much an adapter belongs on them. Remembered, because voices change far more often than pods."""
    return tuple(sorted(pods, key=lambda pod: score(pod, name), reverse=True))


def score(pod: str, name: str) -> bytes:
    """How much an adapter belongs on a pod."""
    return hashlib.blake2b(f"{pod}\0{name}".encode(), digest_size=8).digest()
