"""Who asks, what they may, and for how long that is known."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from npc_runtime import wire
from npc_runtime.gateway.callers import Caller, Callers, Proof
from npc_runtime.gateway.errors import Fault, Refused
from npc_runtime.gateway.table import CompiledTable, compile_table
from tests.unit.gateway.tables import OLD, route_table
from tests.unit.gateway.tokens import identity, token


def key(name: str, **policy: Any) -> wire.ApiKey:
    """A key whose text is its name."""
    return wire.ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), **policy)


def table(*keys: wire.ApiKey, **changes: Any) -> CompiledTable:
    """Vampires on gold and bronze, ghouls on bronze alone."""
    plain = route_table()
    ghoul = wire.Target(served_name=wire.served_name("ghoul", OLD), digest=OLD, percent=100)
    aliases = (*plain.aliases, wire.Alias(archetype="ghoul", tier="bronze", targets=(ghoul,)))
    return compile_table(plain.model_copy(update={"api_keys": keys, "aliases": aliases, **changes}))


class Gate:
    """Callers with clocks that a test moves."""

    def __init__(self, made: CompiledTable, *, workers: int = 1) -> None:
        self.now = time.time()
        self.callers = Callers(clock=lambda: self.now, monotonic=lambda: self.now)
        self.workers = workers
        self.push(made)

    def push(self, made: CompiledTable) -> None:
        self.table = made
        self.callers.apply(made, workers=self.workers)

    def prove(self, header: bytes, known: Proof | None = None) -> Proof:
        return self.callers.identify(self.table, known, header)

    def caller(self, text: str | bytes) -> Caller:
        return self.prove(b"Bearer " + (text.encode() if isinstance(text, str) else text)).caller

    def refused(self, header: bytes, known: Proof | None = None) -> Fault:
        with pytest.raises(Refused) as caught:
            self.prove(header, known)
        return caught.value.fault


def listed(caller: Caller) -> list[str]:
    return [model["id"] for model in json.loads(caller.models())["data"]]


def test_a_key_may_ask_for_what_its_policy_names_and_sees_only_that() -> None:
    gate = Gate(table(key("all"), key("vampires", archetypes=("vampire", "gone")), key("gold", tiers=("gold", "iron"))))
    everything, vampires, gold = (gate.caller(name) for name in ("all", "vampires", "gold"))
    assert [listed(caller) for caller in (everything, vampires, gold)] == [
        ["ghoul", "vampire"],
        ["vampire"],
        ["vampire"],
    ]
    assert everything.refusal("ghoul", "gold") is None
    assert vampires.refusal("vampire", "bronze") is None
    fault = vampires.refusal("ghoul", "bronze")
    assert fault is not None
    assert (fault.status, fault.code, fault.param) == (403, "archetype_not_allowed", "model")
    assert "'ghoul'" in fault.message
    fault = gold.refusal("vampire", "bronze")
    assert fault is not None
    assert (fault.status, fault.code) == (403, "tier_not_allowed")
    assert "'bronze', but: gold." in fault.message


def test_a_key_ends_at_its_moment_on_a_connection_that_is_kept_too() -> None:
    now = time.time()
    gate = Gate(table(key("brief", expires_ms=int(now * 1000) + 5000)))
    gate.now = now
    proof = gate.prove(b"Bearer brief")
    gate.now += 4.9
    assert gate.prove(b"Bearer brief", proof) is proof
    gate.now += 0.2
    fault = gate.refused(b"Bearer brief", proof)
    assert (fault.status, fault.code) == (401, "expired_api_key")
    assert "'brief'" in fault.message
    assert gate.refused(b"Bearer brief").code == "expired_api_key"


def test_a_rotation_refuses_no_key_that_still_counts() -> None:
    gate = Gate(table(key("old")))
    proof = gate.prove(b"Bearer old")
    gate.push(table(key("new"), key("old")))
    kept = gate.prove(b"Bearer old", proof)
    assert kept.table is gate.table
    assert gate.caller("new").name == "new"
    gate.push(table(key("new")))
    assert gate.refused(b"Bearer old", kept).status == 401
    assert gate.caller("new").name == "new"


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic game", b"game", b"Bearer gam", b"Bearer game x", b"Bearer a.b.c"]
)
def test_anything_else_is_no_key(header: bytes) -> None:
    assert Gate(table(key("game"))).refused(header).code == "invalid_api_key"


def test_another_header_on_the_same_connection_is_another_caller() -> None:
    gate = Gate(table(key("one"), key("two")))
    proof = gate.prove(b"Bearer one")
    assert gate.prove(b"Bearer two", proof).caller.name == "two"
    assert gate.refused(b"Bearer three", proof).status == 401


def test_everybody_may_ask_where_nobody_is_asked() -> None:
    gate = Gate(table(authentication="None", rate=wire.Rate(requests_per_second=1, burst=1)))
    proof = gate.prove(b"")
    assert gate.prove(b"Bearer anything", proof).caller is proof.caller
    assert proof.caller.refusal("ghoul", "bronze") is None
    assert gate.callers.take(proof.caller) is None
    fault = gate.callers.take(proof.caller)
    assert fault is not None
    assert (fault.status, fault.code, fault.retry_after) == (429, "rate_limit_exceeded", 1)
    assert b'RateLimit: "region";r=0;t=1\r\n' in fault.lines


def test_a_service_account_needs_no_key_and_counts_until_its_token_ends() -> None:
    gate = Gate(table(key("game"), identity=identity(), rate=wire.Rate(requests_per_second=1, burst=1)))
    presented = b"Bearer " + token(exp=int(gate.now) + 600)
    proof = gate.prove(presented)
    assert proof.caller.name == "game:server"
    assert listed(proof.caller) == ["ghoul", "vampire"]
    assert gate.callers.take(proof.caller) is None
    assert gate.callers.take(gate.caller("game")) is not None, "the region's rate is for all together"
    gate.now += 659
    assert gate.prove(presented, proof) is proof
    other = gate.refused(b"Bearer " + token(sub="system:serviceaccount:game:other"))
    assert (other.status, other.code) == (403, "service_account_not_allowed")


def test_proven_tokens_stay_proven_across_tables_of_the_same_issuer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(table(identity=identity()))
    presented = token()
    gate.caller(presented)
    verifier = gate.callers._verifier
    gate.push(table(identity=identity()))
    assert gate.callers._verifier is verifier
    gate.push(table(identity=identity(subjects=("game:else",))))
    assert gate.refused(b"Bearer " + presented).status == 403
    gate.push(table())
    assert gate.refused(b"Bearer " + presented).status == 401


def test_a_keys_rate_is_its_own_and_survives_a_push() -> None:
    rate = wire.Rate(requests_per_second=2, burst=2)
    made = table(key("busy", rate=rate), key("calm", rate=rate), key("free"))
    gate = Gate(made)
    taken = [gate.callers.take(gate.caller("busy")) for _ in range(3)]
    assert [fault is None for fault in taken] == [True, True, False]
    assert taken[2] is not None
    assert b'RateLimit-Policy: "key";q=2;w=1\r\n' in taken[2].lines
    gate.push(table(key("busy", rate=rate), key("calm", rate=rate), key("free")))
    assert gate.callers.take(gate.caller("busy")) is not None
    assert gate.callers.take(gate.caller("calm")) is None
    assert all(gate.callers.take(gate.caller("free")) is None for _ in range(100))
    gate.now += 0.6
    assert gate.callers.take(gate.caller("busy")) is None


def test_gateways_and_workers_share_a_rate() -> None:
    gate = Gate(table(key("busy", rate=wire.Rate(requests_per_second=12, burst=12)), ready_gateways=3), workers=2)
    busy = gate.caller("busy")
    assert [gate.callers.take(busy) is None for _ in range(3)] == [True, True, False]


def test_a_salt_belongs_to_its_key() -> None:
    gate = Gate(table(key("a", cache_salt="hush"), key("b", cache_salt=""), key("c")))
    assert [gate.caller(name).cache_salt for name in "abc"] == ["hush", None, None]
