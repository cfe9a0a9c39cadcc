"""Which pod answers a line where several could: the one that most likely has the line's beginning in its prefix cache.

Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads",
SODA 2018): a line goes to its key's place on a ring of pods, and on to the next pod where that one has more than
1.25 times the average. So a pod that comes or goes moves only its own share of the keys, the first place of a key is
also its best second one, and no favourite character can overload a pod.

A conversation (one NPC with one player) is one key: its history is what the cache holds. Lines of nobody in
particular are keyed by what they begin with: the archetype and its prompt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b, sha256
from math import ceil
from typing import Any, Final, Protocol, TypeVar

from npc_runtime import wire
from npc_runtime.gateway.routing import pick_endpoint

FACTOR: Final = 1.25
"""How much more than the average a pod may have; the paper's trade between evenness and how far a key must move."""

POINTS: Final = 104
"""Places of each pod on the ring: shares of the keys differ by a tenth or so."""

PREFIX_CHARACTERS: Final = 512
"""Of the first message; vLLM's cache works in blocks of 16 tokens, and two prompts that differ later share these."""

MAX_RINGS: Final = 64
"""Rings remembered per event loop: one for each set of pods that some digest is resident on."""

MAX_LISTS: Final = 1024
"""Lists of pods whose ring is known: one for each digest, made anew whenever an agent said something."""

_BYTES: Final = 8


class Pod(Protocol):
    """A pod as far as this choice cares."""

    @property
    def in_flight(self) -> int:
        """Lines this event loop has running there."""
        ...

    @property
    def ejected_until(self) -> float:
        """Loop time until which it is avoided."""
        ...

    @property
    def name(self) -> str:
        """What it is known by for as long as it lives."""
        ...


P = TypeVar("P", bound=Pod)


class Ring:
    """The places of some pods, by their position in a list."""

    __slots__ = ("_owners", "_points", "_size")

    def __init__(self, names: Sequence[str]) -> None:
        places = sorted((point, index) for index, name in enumerate(names) for point in _points(name))
        self._points = [point for point, _ in places]
        self._owners = [index for _, index in places]
        self._size = len(names)

    def first(self, key: int) -> int:
        """The pod that a key tries first."""
        start = bisect_left(self._points, key)
        return self._owners[start if start < len(self._points) else 0]

    def walk(self, key: int) -> Iterator[int]:
        """Every pod once, in the order in which a key tries them."""
        owners = self._owners
        count = len(owners)
        start = bisect_left(self._points, key)
        seen: set[int] = set()
        for step in range(count):
            owner = owners[(start + step) % count]
            if owner not in seen:
                yield owner
                seen.add(owner)
                if len(seen) == self._size:
                    return


def line_key(*, archetype: bytes, npc: bytes | None, player: bytes | None, messages: Sequence[Any]) -> int:
    """The place of a line on every ring."""
    if npc is not None and player is not None:
        text = b"s\x00" + npc + b"\x00" + player
    else:
        first = messages[0].get("content")
        prefix = first[:PREFIX_CHARACTERS].encode(errors="replace") if isinstance(first, str) else b""
        text = b"p\x00" + archetype + b"\x00" + prefix
    return int.from_bytes(sha256(text).digest()[:_BYTES], "big")


def pick_affine(
    pods: Sequence[P], ring: Ring, *, key: int, tried: Collection[object], now: float, cap: int = 0
) -> P | None:
    """The first pod from the key's place on that is not tried, not avoided, and within the bound; None where every pod
    is tried or avoided. `now` is loop time.

    `cap` is how many lines a pod can work on at once, 0 for unknown: while another one has a free slot nobody waits in
    a favourite's queue, whatever the average allows.
    """
    first = pods[ring.first(key)]
    if not first.in_flight and first.ejected_until <= now and first not in tried:
        return first  # the bound is never less than one line
    total = count = 0
    for pod in pods:
        if pod.ejected_until <= now and pod not in tried:
            total += pod.in_flight
            count += 1
    if not count:
        return None
    bound = ceil(FACTOR * (total + 1) / count)
    if 0 < cap < bound:
        bound = max(cap, ceil((total + 1) / count))
    for index in ring.walk(key):
        pod = pods[index]
        if pod.in_flight < bound and pod.ejected_until <= now and pod not in tried:
            return pod
    return None  # cannot be: `count` pods with `bound` or more each would be more than `total`


class Affinity:
    """The rings of one event loop, made when they are first asked for."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, ...], Ring] = {}
        self._of_list: dict[int, tuple[Sequence[Pod], Ring]] = {}
        """By the identity of a list of pods, which is kept so that it cannot become another one's."""
        self._caps: dict[str, int] = {}

    def apply(self, table: wire.RouteTable, *, workers: int) -> None:
        """Go by a new table's slots."""
        share = table.ready_gateways * workers
        self._of_list.clear()
        self._caps = {tier.name: ceil(tier.slots / share) for tier in table.tiers}

    def pick(
        self, tier: str, pods: Sequence[P], *, key: int, tried: Collection[object], turn: int, now: float
    ) -> P | None:
        """The pod for a line among those that may be asked; like `pick_endpoint` where none of them is well."""
        if len(pods) > 1:
            # Lists of pods are replaced and never changed: see `Fleet`.
            pod = pick_affine(pods, self._ring(pods), key=key, tried=tried, now=now, cap=self._caps.get(tier, 0))
            if pod is not None:
                return pod
        return pick_endpoint(pods, tried=tried, turn=turn, now=now)

    def _ring(self, pods: Sequence[Pod]) -> Ring:
        known = self._of_list.get(id(pods))
        if known is not None:
            return known[1]
        if len(self._of_list) >= MAX_LISTS:
            self._of_list.clear()
        if len(self._rings) >= MAX_RINGS:
            self._rings.clear()
        names = tuple([pod.name for pod in pods])
        ring = self._rings.get(names)
        if ring is None:
            ring = self._rings[names] = Ring(names)
        self._of_list[id(pods)] = (pods, ring)
        return ring


def _points(name: str) -> Iterator[int]:
    for number in range(POINTS // _BYTES):
        digest = blake2b(b"%b\x00%d" % (name.encode(), number)).digest()
        for start in range(0, len(digest), _BYTES):
            yield int.from_bytes(digest[start : start + _BYTES], "big")
