"""Which tier, which digest, which pod."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_runtime import wire
from npc_runtime.gateway.errors import Refused
from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.routing import choose_target, choose_tier, nothing_answers, pick_endpoint
from npc_runtime.gateway.table import Alias, compile_table
from tests.unit.gateway.tables import NEW, OLD, route_table

VECTORS = json.loads((Path(__file__).parents[2] / "support" / "vectors" / "buckets.json").read_text())
NPCS = st.text(min_size=1, max_size=40).map(str.encode)


def alias(*targets: tuple[str, int]) -> Alias:
    return compile_table(route_table(targets=targets)).aliases["gold", "vampire"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['archetype'][:8]}/{vector['npc'][:20]}")
def test_the_hash_is_the_one_in_the_vector_file(vector: dict[str, str | int]) -> None:
    assert bucket(str(vector["archetype"]).encode(), str(vector["npc"]).encode()) == vector["bucket"]


def test_the_vector_file_agrees_with_its_own_digests() -> None:
    for vector in VECTORS:
        digest = hashlib.sha256(vector["archetype"].encode() + b"\x00" + vector["npc"].encode())
        assert digest.hexdigest() == vector["sha256"]
        assert int(vector["sha256"][:16], 16) % wire.NPC_BUCKETS == vector["bucket"]


def test_buckets_are_even() -> None:
    counts = Counter(bucket(b"vampire", b"npc-%d" % number) // 1000 for number in range(20_000))
    assert all(1800 < counts[tenth] < 2200 for tenth in range(10))


@given(npc=NPCS)
def test_without_a_candidate_everyone_gets_the_stable_voice(npc: bytes) -> None:
    assert choose_target(alias((OLD, 100)), npc).digest == OLD
    assert choose_target(alias((OLD, 100), (NEW, 0)), npc).digest == OLD


@given(npc=NPCS, percent=st.integers(0, 100))
def test_a_candidate_gets_exactly_the_buckets_below_its_share(npc: bytes, percent: int) -> None:
    chosen = choose_target(alias((OLD, 100 - percent), (NEW, percent)), npc)
    assert (chosen.digest == NEW) == (bucket(b"vampire", npc) < percent * 100)


@pytest.mark.parametrize("percent", [1, 10, 25, 50, 99])
def test_the_bucket_at_the_edge_of_a_share_is_outside_it(percent: int) -> None:
    npcs = (b"npc-%d" % number for number in range(1_000_000))
    edge = next(npc for npc in npcs if bucket(b"vampire", npc) == percent * 100)
    last = next(npc for npc in npcs if bucket(b"vampire", npc) == percent * 100 - 1)
    targets = alias((OLD, 100 - percent), (NEW, percent))
    assert choose_target(targets, edge).digest == OLD
    assert choose_target(targets, last).digest == NEW


@given(npc=NPCS, percents=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted))
def test_who_is_in_a_smaller_share_stays_in_a_larger_one(npc: bytes, percents: list[int]) -> None:
    small, large = percents
    if choose_target(alias((OLD, 100 - small), (NEW, small)), npc).digest == NEW:
        assert choose_target(alias((OLD, 100 - large), (NEW, large)), npc).digest == NEW


def pinning(*overrides: wire.Override, below: int = 2_000) -> Alias:
    table = route_table(targets=((OLD, 80), (NEW, 20)))
    rollout = wire.AliasRollout(candidate_below=below, control_below=2 * below, overrides=overrides)
    aliases = tuple(alias.model_copy(update={"rollout": rollout}) for alias in table.aliases)
    return compile_table(table.model_copy(update={"aliases": aliases})).aliases["gold", "vampire"]


@given(npc=NPCS, below=st.integers(0, 5_000))
def test_a_rollout_gives_the_candidate_the_buckets_below_its_own_threshold(npc: bytes, below: int) -> None:
    chosen = choose_target(pinning(below=below), npc)
    assert (chosen.digest == NEW) == (bucket(b"vampire", npc) < below)


@given(npc=NPCS, candidate=st.booleans())
def test_a_pinned_npc_goes_where_it_is_pinned_whatever_its_bucket(npc: bytes, candidate: bool) -> None:
    exact = pinning(wire.Override(npc=npc.decode(), candidate=candidate))
    prefix = pinning(wire.Override(npc=npc.decode()[:1], prefix=True, candidate=candidate))
    for targets in (exact, prefix):
        assert (choose_target(targets, npc).digest == NEW) == candidate


@pytest.mark.parametrize(
    ("npc", "digest"),
    [(b"guard-1", OLD), (b"guard-captain-1", NEW), (b"guard-captain-7", OLD), (b"guard-", OLD)],
)
def test_an_exact_pin_beats_a_prefix_and_a_longer_prefix_beats_a_shorter_one(npc: bytes, digest: str) -> None:
    targets = pinning(
        wire.Override(npc="guard-", prefix=True),
        wire.Override(npc="guard-captain-", prefix=True, candidate=True),
        wire.Override(npc="guard-captain-7"),
        below=5_000,
    )
    assert choose_target(targets, npc).digest == digest


def test_only_the_exact_id_is_pinned_by_an_exact_pin() -> None:
    targets = pinning(wire.Override(npc="count", candidate=True), below=0)
    assert choose_target(targets, b"count").digest == NEW
    assert choose_target(targets, b"countess").digest == OLD
    assert choose_target(targets, None).digest == OLD


def test_a_request_without_npc_gets_the_stable_voice_even_at_zero_percent() -> None:
    assert choose_target(alias((OLD, 0), (NEW, 100)), None).digest == OLD


@pytest.mark.parametrize(
    ("wanted", "npc", "tier"),
    [
        (None, None, "gold"),
        (None, b"stranger", "gold"),
        (None, b"crowd-1", "bronze"),
        (None, b"crowd-", "bronze"),
        (None, b"crowd", "gold"),
        (None, b"crowd-king-1", "gold"),
        (None, b"crowd-king-guard-1", "bronze"),
        (b"bronze", b"crowd-king-1", "bronze"),
        (b"gold", b"crowd-1", "gold"),
    ],
)
def test_the_tier_is_the_header_else_the_longest_prefix_else_the_default(
    wanted: bytes | None, npc: bytes | None, tier: str
) -> None:
    prefixes = {"crowd-": "bronze", "crowd-king-": "gold", "crowd-king-guard-": "bronze"}
    table = compile_table(route_table(assignments=prefixes))
    assert choose_tier(table, wanted=wanted, npc=npc) == tier


@given(
    prefixes=st.dictionaries(st.text("ab", min_size=1, max_size=4), st.sampled_from(["gold", "bronze"]), max_size=12),
    npc=st.text("ab", min_size=1, max_size=6),
)
def test_the_longest_prefix_wins_whatever_the_others(prefixes: dict[str, str], npc: str) -> None:
    table = compile_table(route_table(assignments=prefixes))
    matching = [prefix for prefix in prefixes if npc.startswith(prefix)]
    expected = prefixes[max(matching, key=len)] if matching else "gold"
    assert choose_tier(table, wanted=None, npc=npc.encode()) == expected


@pytest.mark.parametrize("wanted", [b"iron", b"", b"GOLD", b"\xff"])
def test_an_unknown_tier_is_404(wanted: bytes) -> None:
    with pytest.raises(Refused) as refused:
        choose_tier(compile_table(route_table()), wanted=wanted, npc=None)
    assert (refused.value.fault.status, refused.value.fault.code) == (404, "tier_not_found")


def test_an_unknown_archetype_and_one_without_a_voice_on_the_tier_are_told_apart() -> None:
    table = route_table()
    table = table.model_copy(update={"aliases": table.aliases[:1]})
    compiled = compile_table(table)
    assert nothing_answers(compiled, archetype="ghoul", tier="gold").code == "model_not_found"
    assert "does not exist in this region" in nothing_answers(compiled, archetype="ghoul", tier="gold").message
    assert "no adapter on tier 'bronze'" in nothing_answers(compiled, archetype="vampire", tier="bronze").message


def test_an_archetype_whose_adapter_may_not_be_used_now_is_not_told_to_be_unknown() -> None:
    table = route_table()
    withdrawn = table.aliases[0].model_copy(update={"targets": ()})
    compiled = compile_table(table.model_copy(update={"aliases": (withdrawn,)}))
    assert nothing_answers(compiled, archetype="vampire", tier="gold").status == 503


@dataclass(eq=False)
class Pod:
    in_flight: int = 0
    ejected_until: float = 0.0


def test_the_least_loaded_pod_is_picked() -> None:
    pods = [Pod(3), Pod(1), Pod(2)]
    for turn in range(6):
        assert pick_endpoint(pods, tried=(), turn=turn, now=0) is pods[1]


def test_equally_loaded_pods_take_turns() -> None:
    pods = [Pod() for _ in range(4)]
    picked = Counter(id(pick_endpoint(pods, tried=(), turn=turn, now=0)) for turn in range(40))
    assert set(picked.values()) == {10}


def test_tried_pods_are_left_out_until_none_is_left() -> None:
    pods = [Pod(), Pod()]
    first = pick_endpoint(pods, tried=(), turn=0, now=0)
    second = pick_endpoint(pods, tried={first}, turn=0, now=0)
    assert {id(first), id(second)} == {id(pod) for pod in pods}
    assert pick_endpoint(pods, tried={first, second}, turn=0, now=0) is None
    assert pick_endpoint([], tried=(), turn=0, now=0) is None


def test_a_suspect_comes_last_but_is_still_asked() -> None:
    suspect, busy = Pod(0, ejected_until=10.0), Pod(50)
    assert pick_endpoint([suspect, busy], tried=(), turn=0, now=9.0) is busy
    assert pick_endpoint([suspect, busy], tried={busy}, turn=0, now=9.0) is suspect
    assert pick_endpoint([suspect, busy], tried=(), turn=0, now=10.0) is suspect


@given(loads=st.lists(st.integers(0, 5), min_size=1, max_size=8), turn=st.integers(0, 100))
def test_no_pod_that_was_picked_has_more_than_the_least(loads: list[int], turn: int) -> None:
    picked = pick_endpoint([Pod(load) for load in loads], tried=(), turn=turn, now=0)
    assert picked is not None
    assert picked.in_flight == min(loads)


def test_sequential_picking_spreads_any_number_of_requests_evenly() -> None:
    pods = [Pod() for _ in range(5)]
    for turn in range(503):
        picked = pick_endpoint(pods, tried=(), turn=turn, now=0)
        assert picked is not None
        picked.in_flight += 1
    assert max(pod.in_flight for pod in pods) - min(pod.in_flight for pod in pods) <= 1
