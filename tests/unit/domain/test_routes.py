"""The route table, from facts alone."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from pydantic import SecretStr

from npc_operator.domain.engines import Engine
from npc_operator.domain.routes import (
    ROUTES_MAX_BYTES,
    ROUTES_SECRET_MAX_BYTES,
    TierPart,
    Trust,
    build_alias,
    build_endpoint,
    build_table,
    hash_api_keys,
    pack_routes,
    pick_routed,
    routed_names,
    same_routes,
    unpack_routes,
    without_residency,
)
from npc_runtime.wire import Endpoint, EngineKey, EngineState, RouteTable, Stamp, TierRoutes, served_name
from tests.support.builders import agent_fact, digest, pod_fact, region_fact, report

TRUST = Trust((EngineKey(id="key-1", key=SecretStr("engine-secret")),), (SecretStr("token-secret"),), "PEM")
VAMPIRE = build_alias("vampire", "gold", digest("vampire"))
NAME = served_name("vampire", digest("vampire"))


def engine(name: str = "gold-1", *archetypes: str) -> Engine:
    pod = pod_fact(name, ip="10.0.0.7")
    return Engine(pod, agent_fact(pod, [report(archetype, digest(archetype)) for archetype in archetypes]))


def table(*endpoints: Engine) -> RouteTable:
    routed = pick_routed([VAMPIRE])["gold"]
    return build_table(
        namespace="eu-west",
        region="eu-west",
        spec=region_fact(spec={"assignments": [{"npcPrefix": "boss-", "tier": "gold"}]}).spec,
        tiers=[TierPart("gold", "Gold", tuple(build_endpoint(one, 8000, routed) for one in endpoints))],
        aliases=(VAMPIRE,),
        api_keys=hash_api_keys({"game": "k"}),
        trust=TRUST,
    )


def test_an_endpoint_lists_only_what_is_routed_and_proven() -> None:
    endpoint = build_endpoint(engine("gold-1", "vampire", "zombie"), 8000, {NAME, "other--000000000000"})
    assert endpoint.resident == (NAME,)
    assert (endpoint.address, endpoint.port, endpoint.engine_key_id) == ("10.0.0.7", 8000, "key-1")


def test_where_nobody_was_heard_residency_is_left_open() -> None:
    assert build_endpoint(Engine(pod_fact(), None), 8000, {NAME}).resident is None


def test_residency_of_an_engine_that_is_not_ready_is_void() -> None:
    pod = pod_fact()
    down = Engine(pod, agent_fact(pod, [report("vampire", digest("vampire"))], state=EngineState.DOWN))
    assert build_endpoint(down, 8000, {NAME}).resident == ()
    assert not down.routable()
    assert not Engine(pod_fact(ip=""), None).routable()


def test_the_table_says_all_a_gateway_needs() -> None:
    built = table(engine("gold-1", "vampire"))
    assert built.default_tier == "gold"
    assert built.assignments[0].npc_prefix == "boss-"
    assert built.aliases[0].targets[0].percent == 100
    assert built.limits.max_body_bytes == 1 << 20
    assert routed_names(built) == {("gold", NAME)}
    assert "engine-secret" not in repr(built)
    assert "token-secret" not in repr(built)
    assert b"engine-secret" in built.to_bytes()


def test_a_stamp_alone_is_no_change() -> None:
    built = table(engine("gold-1", "vampire"))
    assert same_routes(built, built.model_copy(update={"stamp": Stamp(epoch=3, generation=9)}))
    assert not same_routes(built, table(engine("gold-2", "vampire")))


def test_what_is_kept_in_a_secret_has_no_residency_and_can_be_read_again() -> None:
    kept = without_residency(table(engine("gold-1", "vampire")))
    assert kept.tiers[0].endpoints[0].resident is None
    again = RouteTable.model_validate_json(kept.to_bytes())
    assert again == kept


def test_api_keys_are_hashed_without_their_white_space() -> None:
    keys = hash_api_keys({"b": " two\n", "a": "one", "empty": " \n"})
    assert [(key.name, key.sha256) for key in keys] == [
        ("a", hashlib.sha256(b"one").hexdigest()),
        ("b", hashlib.sha256(b"two").hexdigest()),
    ]


def test_five_tiers_of_a_thousand_voices_fit_into_a_secret() -> None:
    tiers = [f"tier-{number}" for number in range(5)]
    digests = {
        (tier, number): "sha256:" + hashlib.sha256(f"{tier} {number}".encode()).hexdigest()
        for tier in tiers
        for number in range(1000)
    }
    whole = RouteTable(
        stamp=Stamp(epoch=9, generation=9),
        namespace="eu-west",
        region="eu-west",
        default_tier="tier-0",
        tiers=tuple(
            TierRoutes(
                name=tier,
                quality="Gold",
                endpoints=tuple(
                    Endpoint(
                        pod=f"{tier}-{pod}", uid=str(pod), address=f"10.0.{pod}.1", port=8000, engine_key_id="key-1"
                    )
                    for pod in range(40)
                ),
            )
            for tier in tiers
        ),
        aliases=tuple(
            build_alias(f"voice-of-the-old-town-{number:04}", tier, digest)
            for (tier, number), digest in digests.items()
        ),
    )
    assert len(whole.to_bytes()) > 1 << 20, "more than a Secret may hold"
    packed = pack_routes(whole)
    assert len(packed) < ROUTES_SECRET_MAX_BYTES / 2
    assert pack_routes(whole) == packed
    assert unpack_routes(packed) == whole


@pytest.mark.parametrize("packed", [b"", b"{}", b"\x1f\x8b", gzip.compress(b"[]"), gzip.compress(b"{}" * 100)[:-9]])
def test_what_is_no_packed_table_is_none(packed: bytes) -> None:
    assert unpack_routes(packed) is None


def test_a_packed_table_cannot_blow_up() -> None:
    assert unpack_routes(gzip.compress(b" " * (ROUTES_MAX_BYTES + 1))) is None
