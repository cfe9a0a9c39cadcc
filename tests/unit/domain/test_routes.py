"""The route table, from facts alone."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from npc_operator.domain.aliases import build_alias
from npc_operator.domain.callers import hash_api_keys
from npc_operator.domain.engines import Engine
from npc_operator.domain.routes import (
    DEFAULT_SLOTS,
    ROUTES_MAX_BYTES,
    ROUTES_SECRET_MAX_BYTES,
    Callers,
    Trust,
    absent_tier,
    build_endpoint,
    build_table,
    build_tier,
    build_voice,
    pack_routes,
    pick_routed,
    routed_names,
    same_routes,
    unpack_routes,
    without_residency,
)
from npc_runtime.wire import Endpoint, EngineKey, EngineState, Rate, RouteTable, Stamp, TierRoutes, served_name
from tests.support.builders import adapter_fact, agent_fact, digest, pod_fact, region_fact, report, tier_fact

TRUST = Trust((EngineKey(id="key-1", key=SecretStr("engine-secret")),), (SecretStr("token-secret"),), "PEM")
VAMPIRE = build_alias("vampire", "gold", digest("vampire"))
NAME = served_name("vampire", digest("vampire"))


def engine(name: str = "gold-1", *archetypes: str) -> Engine:
    pod = pod_fact(name, ip="10.0.0.7")
    return Engine(pod, agent_fact(pod, [report(archetype, digest(archetype)) for archetype in archetypes]))


def gold(*engines: Engine, **tier: Any) -> TierRoutes:
    routed = pick_routed([VAMPIRE])["gold"]
    return build_tier(
        "gold", tier_fact(spec=tier).spec, [(one, build_endpoint(one, 8000, routed)) for one in engines], fallback=""
    )


def table(*endpoints: Engine) -> RouteTable:
    return build_table(
        namespace="eu-west",
        region="eu-west",
        spec=region_fact(spec={"assignments": [{"npcPrefix": "boss-", "tier": "gold"}]}).spec,
        tiers=[gold(*endpoints)],
        aliases=(VAMPIRE,),
        voices=(build_voice(adapter_fact().spec),),
        callers=Callers(hash_api_keys({"game": "k"})),
        ready_gateways=2,
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


def test_a_tier_says_how_much_it_takes_and_how_late_a_line_may_be() -> None:
    two = (engine("gold-1", "vampire"), engine("gold-2"))
    built = gold(*two, objectives={"firstTokenMilliseconds": 900, "stallSeconds": 7, "queueLines": 5})
    assert (built.first_token_milliseconds, built.stall_seconds, built.queue) == (900, 7, 10)
    assert (built.base_model, built.slots, built.prioritised) == ("base", DEFAULT_SLOTS, False)
    assert (gold().queue, gold().prioritised) == (0, False)


def test_a_tier_can_do_what_every_pod_of_it_can() -> None:
    old, new = engine("gold-1"), engine("gold-2")
    able = replace(new, pod=replace(new.pod, prioritised=True, slots=32))
    assert (gold(able).prioritised, gold(able).slots) == (True, 32)
    assert not gold(able, old).prioritised, "the old pod would refuse every line that has a priority"
    assert gold(able, replace(old, pod=replace(old.pod, slots=64))).slots == 32


def test_a_tier_that_is_not_there_is_in_the_table_without_pods() -> None:
    assert absent_tier("silver").endpoints == ()
    assert absent_tier("silver").base_model == "", "there is nothing that could be asked"


def test_a_voice_brings_what_speaks_without_an_adapter() -> None:
    spec = adapter_fact(
        spec={
            "importance": "Critical",
            "persona": {"systemPrompt": "You are a vampire.", "scriptedLines": ["Not tonight."]},
            "answers": {"mustNotMatch": ["(?i)as an ai"]},
        }
    ).spec
    built = build_voice(spec)
    assert (built.archetype, built.importance, built.system_prompt) == ("vampire", "Critical", "You are a vampire.")
    assert (built.scripted_lines, built.must_not_match) == (("Not tonight.",), ("(?i)as an ai",))


def test_the_region_says_how_much_all_callers_together_may_ask_and_among_how_many_gateways() -> None:
    gateway = {"auth": {"mode": "None"}, "limits": {"rate": {"requestsPerSecond": 50}}}
    built = build_table(
        namespace="eu-west",
        region="eu-west",
        spec=region_fact(spec={"gateway": gateway}).spec,
        tiers=[],
        aliases=(),
        voices=(),
        callers=Callers(),
        ready_gateways=0,
        trust=TRUST,
    )
    assert built.rate == Rate(requests_per_second=50, burst=100)
    assert built.ready_gateways == 1, "whoever asks is one"


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
