"""Lines go where their beginning is cached, and no pod gets too many of them."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime.gateway.affinity import FACTOR, Affinity, Ring, line_key, pick_affine
from npc_runtime.gateway.routing import pick_endpoint
from tests.unit.gateway.tables import route_table


@dataclass(eq=False)
class Pod:
    name: str
    in_flight: int = 0
    ejected_until: float = 0.0
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)


def pods(count: int) -> list[Pod]:
    return [Pod(f"uid-{number}") for number in range(count)]


def key(number: int) -> int:
    return line_key(archetype=b"vampire", npc=b"npc-%d" % number, player=b"p", messages=[{}])


def home(found: Sequence[Pod], number: int) -> Pod:
    pod = pick_affine(found, Ring([pod.name for pod in found]), key=key(number), tried=(), now=1.0)
    assert pod is not None
    return pod


def test_a_key_goes_to_the_same_pod_whatever_the_order_of_the_list() -> None:
    found = pods(5)
    for number in range(50):
        assert home(found, number) is home(found[::-1], number)


def test_keys_are_spread_evenly() -> None:
    found = pods(8)
    ring = Ring([pod.name for pod in found])
    shares = Counter(next(ring.walk(key(number))) for number in range(20_000))
    assert len(shares) == 8
    assert max(shares.values()) < 1.35 * 2500
    assert min(shares.values()) > 0.65 * 2500


@pytest.mark.parametrize("count", [2, 5, 12])
def test_a_pod_that_goes_moves_its_own_keys_only_and_one_that_comes_takes_its_share(count: int) -> None:
    names = [pod.name for pod in pods(count)]
    before, after = Ring(names), Ring(names[:-1])
    moved = 0
    for number in range(4000):
        was, is_now = next(before.walk(key(number))), next(after.walk(key(number)))
        if was == count - 1:
            moved += 1
            assert is_now == next(pod for pod in before.walk(key(number)) if pod != was), "the next one on the ring"
        else:
            assert is_now == was
    assert moved <= 1.35 * 4000 / count


def test_a_walk_meets_every_pod_once() -> None:
    ring = Ring([pod.name for pod in pods(7)])
    for number in range(100):
        assert sorted(ring.walk(key(number))) == list(range(7))


@given(
    loads=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    number=st.integers(0, 10_000),
    cap=st.integers(0, 20),
    data=st.data(),
)
def test_the_bound_is_never_exceeded_and_some_pod_is_always_found(
    loads: list[int], number: int, cap: int, data: st.DataObject
) -> None:
    found = [Pod(f"uid-{index}", load) for index, load in enumerate(loads)]
    tried = set(data.draw(st.lists(st.sampled_from(found), max_size=2)))
    for pod in data.draw(st.lists(st.sampled_from(found), max_size=2)):
        pod.ejected_until = 2.0
    well = [pod for pod in found if pod.ejected_until < 1.0 and pod not in tried]
    ring = Ring([pod.name for pod in found])
    picked = pick_affine(found, ring, key=key(number), tried=tried, now=1.0, cap=cap)
    if not well:
        assert picked is None
        return
    assert picked in well
    total = sum(pod.in_flight for pod in well) + 1
    assert picked.in_flight + 1 <= ceil(FACTOR * total / len(well))
    if cap and total <= cap * len(well):
        assert picked.in_flight + 1 <= cap, "nobody waits while another pod has a free slot"


def test_one_favourite_character_spreads_over_the_tier() -> None:
    found = pods(4)
    for _ in range(400):
        home(found, 1).in_flight += 1
    assert max(pod.in_flight for pod in found) <= ceil(FACTOR * 400 / 4)


def test_what_was_tried_or_is_ejected_is_passed_over_and_comes_back() -> None:
    found = pods(4)
    first = home(found, 3)
    ring = Ring([pod.name for pod in found])
    second = pick_affine(found, ring, key=key(3), tried={first}, now=1.0)
    assert second is not None
    assert second is not first
    first.ejected_until = 5.0
    assert pick_affine(found, ring, key=key(3), tried=(), now=1.0) is second
    assert pick_affine(found, ring, key=key(3), tried=(), now=5.0) is first


def test_where_no_pod_is_well_the_least_busy_of_the_others_is_asked() -> None:
    found = pods(3)
    for pod, load in zip(found, (3, 1, 2), strict=True):
        pod.ejected_until, pod.in_flight = 9.0, load
    affinity = Affinity()
    assert affinity.pick("gold", found, key=1, tried=(), turn=0, now=1.0) is found[1]
    assert affinity.pick("gold", found, key=1, tried=set(found), turn=0, now=1.0) is None
    assert affinity.pick("gold", [], key=1, tried=(), turn=0, now=1.0) is None
    assert affinity.pick("gold", found[:1], key=1, tried=(), turn=0, now=1.0) is found[0]


def test_slots_of_the_table_are_shared_out() -> None:
    affinity = Affinity()
    tiers = tuple(tier.model_copy(update={"slots": 8}) for tier in route_table().tiers)
    affinity.apply(route_table().model_copy(update={"tiers": tiers, "ready_gateways": 2}), workers=2)
    found = pods(2)
    for _ in range(4):
        pod = affinity.pick("gold", found, key=key(1), tried=(), turn=0, now=1.0)
        assert pod is not None
        pod.in_flight += 1
    assert [pod.in_flight for pod in found] == [2, 2]


def test_a_conversation_is_one_key_and_other_lines_are_keyed_by_how_they_begin() -> None:
    def lines(text: object, **who: bytes | None) -> int:
        names: dict[str, bytes | None] = {"npc": None, "player": None, **who}
        return line_key(archetype=b"vampire", messages=[{"role": "system", "content": text}], **names)

    assert lines("a", npc=b"n", player=b"p") == lines("b", npc=b"n", player=b"p")
    assert lines("a", npc=b"n", player=b"p") != lines("a", npc=b"n", player=b"q")
    assert lines("a", npc=b"n") == lines("a", player=b"p") == lines("a") != lines("b")
    assert lines("x" * 600 + "a") == lines("x" * 600 + "b")
    assert lines(None) == lines([{"type": "text", "text": "x"}]), "what is no text is the archetype's own key"
    assert lines("\ud800") != lines("a")


def hits(pick: Callable[[list[Pod], int, int], Pod | None], *, slots: int = 16) -> tuple[float, int]:
    """Lines of 600 conversations on 8 pods whose caches hold 100 each: the share that found its beginning cached, and
    the most lines a pod had at once."""
    chance = random.Random(7)
    found = pods(8)
    running: list[Pod] = []
    hit = busiest = 0
    for turn in range(20_000):
        talk = chance.randrange(600)
        pod = pick(found, key(talk), turn)
        assert pod is not None
        hit += talk in pod.cache
        pod.cache[talk] = None
        pod.cache.move_to_end(talk)
        if len(pod.cache) > 100:
            pod.cache.popitem(last=False)
        pod.in_flight += 1
        busiest = max(busiest, pod.in_flight)
        running.append(pod)
        if len(running) > 64:
            running.pop(chance.randrange(len(running))).in_flight -= 1
    return hit / 20_000, busiest


def test_beginnings_are_found_cached_far_more_often_than_by_the_least_busy_pod() -> None:
    affinity = Affinity()
    affine, busiest = hits(
        lambda found, place, turn: affinity.pick("gold", found, key=place, tried=(), turn=turn, now=1.0)
    )
    spread, _ = hits(lambda found, _, turn: pick_endpoint(found, tried=(), turn=turn, now=1.0))
    assert affine > 0.75, affine
    assert affine > 3 * spread, (affine, spread)
    assert busiest <= ceil(FACTOR * 65 / 8)
