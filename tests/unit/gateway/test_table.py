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
    assert alias.stable.headers == (
        f"X-NPC-Served-Tier: bronze\r\nX-NPC-Served-By: {OLD}\r\nX-NPC-Degraded: false\r\n".encode()
    )
    assert [(target.digest, target.below) for target in alias.candidates] == [(NEW, 1000)]


def test_an_empty_region_is_a_table_too() -> None:
    table = wire.RouteTable(stamp=wire.Stamp(epoch=1, generation=1), namespace="eu", region="eu", default_tier="gold")
    assert compile_table(table).archetypes == frozenset()


ALIAS = {"archetype": "vampire", "tier": "gold"}
TARGET = {"servedName": "vampire--a1a1a1a1a1a1", "digest": OLD, "percent": 100}
ENDPOINT = {"pod": "p", "uid": "u", "address": "10.0.0.1", "port": 8000}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"defaultTier": "iron"}, "default tier 'iron'"),
        ({"tiers": [{"name": "gold", "quality": "Gold"}] * 2}, "tier 'gold' occurs twice"),
        ({"tiers": [{"name": "go\r\nld", "quality": "Gold"}], "defaultTier": "go\r\nld"}, "not a DNS label"),
        ({"assignments": [{"npcPrefix": "a", "tier": "iron"}]}, "unknown tier 'iron'"),
        ({"assignments": [{"npcPrefix": "a", "tier": "gold"}] * 2}, "prefix 'a' occurs twice"),
        ({"aliases": [{**ALIAS, "targets": [TARGET]}] * 2}, "two aliases"),
        ({"aliases": [{**ALIAS, "targets": []}]}, "no target"),
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
    assert table.key_name(b"one") == "one"
    assert table.key_name(b"two") == "two"
    assert table.key_name(b"upper") == "upper"
    assert table.key_name(b"") is None
    assert table.key_name(hashes["one"].encode()) is None


@pytest.mark.parametrize("resident", [None, (), ("vampire--a1a1a1a1a1a1",)])
def test_residency_survives_the_wire_as_it_was(resident: tuple[str, ...] | None) -> None:
    endpoint = wire.Endpoint(pod="p", uid="u", address="10.0.0.1", port=8000, resident=resident)
    assert wire.Endpoint.model_validate_json(endpoint.to_bytes()).resident == resident
