"""What a route table must hold, and the keys in it."""

from __future__ import annotations

import hashlib
import json

import pytest

from npc_runtime import wire
from npc_runtime.gateway.table import BadTable, compile_table
from tests.unit.gateway.tables import NEW, OLD, route_table


def changed(**fields: object) -> wire.RouteTable:
    return wire.RouteTable.model_validate(json.loads(route_table().to_bytes()) | fields)


def test_a_table_becomes_look_ups() -> None:
    table = compile_table(route_table(targets=((OLD, 90), (NEW, 10))))
    alias = table.aliases["bronze", "vampire"]
    assert table.tiers == {"gold", "bronze"}
    assert alias.stable.headers == (f"X-NPC-Served-Tier: bronze\r\nX-NPC-Served-By: {OLD}\r\n".encode())
    assert alias.candidate is not None
    assert alias.candidate.digest == NEW
    assert alias.share is not None
    assert alias.share.below == 1000
    assert alias.rollout is None


def test_an_alias_without_a_target_is_known_and_leads_nowhere() -> None:
    table = compile_table(changed(aliases=[{**ALIAS, "targets": []}]))
    assert table.aliases == {}
    assert table.archetypes == {"vampire"}


def test_a_rollout_says_the_share_whatever_the_percents() -> None:
    rollout = {
        "candidateBelow": 1234,
        "controlBelow": 2468,
        "overrides": [
            {"npc": "count", "candidate": True},
            {"npc": "guard-", "prefix": True},
            {"npc": "guard-captain-", "prefix": True, "candidate": True},
        ],
    }
    alias = compile_table(changed(aliases=[{**ALIAS, "targets": [TARGET, CANDIDATE], "rollout": rollout}])).aliases[
        "gold", "vampire"
    ]
    assert alias.candidate is not None
    assert alias.share is not None
    assert (alias.share.below, alias.share.control_below) == (1234, 2468)
    assert alias.share.pinned == {b"count": True}
    assert alias.share.pinned_prefixes == {b"guard-": False, b"guard-captain-": True}
    assert alias.share.prefix_lengths == (14, 6)


def test_a_rollout_without_a_candidate_means_nothing() -> None:
    alias = compile_table(
        changed(aliases=[{**ALIAS, "targets": [TARGET], "rollout": {"candidateBelow": 5, "controlBelow": 9}}])
    ).aliases["gold", "vampire"]
    assert (alias.candidate, alias.share, alias.rollout) == (None, None, None)


def test_an_empty_region_is_a_table_too() -> None:
    table = wire.RouteTable(stamp=wire.Stamp(epoch=1, generation=1), namespace="eu", region="eu", default_tier="gold")
    assert compile_table(table).archetypes == frozenset()


ALIAS = {"archetype": "vampire", "tier": "gold"}
TARGET = {"servedName": "vampire--a1a1a1a1a1a1", "digest": OLD, "percent": 100}
CANDIDATE = {"servedName": "vampire--b2b2b2b2b2b2", "digest": NEW, "percent": 0}
THIRD = {"servedName": "vampire--c3c3c3c3c3c3", "digest": NEW, "percent": 0}
ENDPOINT = {"pod": "p", "uid": "u", "address": "10.0.0.1", "port": 8000}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"defaultTier": "iron"}, "default tier 'iron'"),
        ({"tiers": [{"name": "gold", "quality": "Gold"}] * 2}, "tier 'gold' occurs twice"),
        ({"tiers": [{"name": "go\r\nld", "quality": "Gold"}], "defaultTier": "go\r\nld"}, "not a DNS label"),
        ({"assignments": [{"npcPrefix": "a", "tier": "iron"}]}, "unknown tier 'iron'"),
        ({"assignments": [{"npcPrefix": "a", "tier": "gold"}] * 2}, "prefix 'a' occurs twice"),
        ({"aliases": [{**ALIAS, "targets": [TARGET]}] * 2}, "occurs twice"),
        ({"aliases": [{**ALIAS, "tier": "iron", "targets": []}]}, "unknown tier"),
        ({"aliases": [{**ALIAS, "targets": [TARGET, CANDIDATE, THIRD]}]}, "more than one candidate"),
        ({"aliases": [{**ALIAS, "tier": "iron", "targets": [TARGET]}]}, "unknown tier"),
        ({"aliases": [{**ALIAS, "archetype": "Vampire", "targets": [TARGET]}]}, "not a DNS label"),
        ({"aliases": [{**ALIAS, "targets": [{**TARGET, "percent": 99}]}]}, "sum to 99"),
        ({"aliases": [{**ALIAS, "targets": [TARGET, {**TARGET, "percent": 0}]}]}, "occurs twice"),
        ({"aliases": [{**ALIAS, "targets": [{**TARGET, "digest": "sha256:\r\nX: y"}]}]}, "invalid digest"),
        ({"aliases": [{**ALIAS, "targets": [{**TARGET, "servedName": "a b"}]}]}, "invalid served name"),
        ({"engineKeys": [{"id": "k", "key": "a\r\nX: y"}]}, "cannot be sent"),
        (
            {"tiers": [{"name": "gold", "quality": "Gold", "endpoints": [{**ENDPOINT, "address": "a/b"}]}]},
            "invalid address",
        ),
        ({"tiers": [{"name": "gold", "quality": "Gold", "endpoints": [{**ENDPOINT, "port": 0}]}]}, "invalid port"),
        ({"tiers": [{"name": "gold", "quality": "Gold", "endpoints": [ENDPOINT] * 2}]}, "occurs twice"),
    ],
)
def test_what_contradicts_itself_is_named(fields: dict[str, object], words: str) -> None:
    if "tiers" in fields:
        fields = {"aliases": [], **fields}
    with pytest.raises(BadTable, match=words):
        compile_table(changed(**fields))


def test_an_engine_key_in_a_fault_is_named_by_its_id_only() -> None:
    with pytest.raises(BadTable) as caught:
        compile_table(changed(engineKeys=[{"id": "k1", "key": "hush hush"}]))
    assert "hush" not in str(caught.value)
    assert "k1" in str(caught.value)


def test_a_key_is_known_by_its_hash_and_named() -> None:
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two")}
    hashes["upper"] = hashlib.sha256(b"upper").hexdigest().upper()
    table = compile_table(route_table(keys={**hashes, "broken": "xyz"}))

    def named(presented: bytes) -> str | None:
        key = table.find_key(hashlib.sha256(presented).hexdigest().encode(), 0.0)
        return None if key is None else key.name

    assert [named(text) for text in (b"one", b"two", b"upper")] == ["one", "two", "upper"]
    assert named(b"") is None
    assert named(hashes["one"].encode()) is None


def test_of_two_entries_for_one_key_the_one_that_still_counts_wins() -> None:
    value = hashlib.sha256(b"key").hexdigest()
    for order in (("old", "new"), ("new", "old")):
        entries = tuple(
            wire.ApiKey(name=name, sha256=value, expires_ms=1000 if name == "old" else None) for name in order
        )
        table = compile_table(route_table(api_keys=entries))
        found = [table.find_key(value.encode(), now) for now in (999.0, 1000.0)]
        assert found[1] is not None
        assert found[1].name == "new"
        assert found[0] is not None


def test_a_salt_is_not_shown() -> None:
    key = wire.ApiKey(name="a", sha256="0" * 64, cache_salt="hush")  # type: ignore[arg-type]
    assert "hush" not in repr(compile_table(route_table(api_keys=(key,))))


@pytest.mark.parametrize("resident", [None, (), ("vampire--a1a1a1a1a1a1",)])
def test_residency_survives_the_wire_as_it_was(resident: tuple[str, ...] | None) -> None:
    endpoint = wire.Endpoint(pod="p", uid="u", address="10.0.0.1", port=8000, resident=resident)
    assert wire.Endpoint.model_validate_json(endpoint.to_bytes()).resident == resident
