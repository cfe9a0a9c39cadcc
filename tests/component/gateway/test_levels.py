"""Every way down the ladder: another tier, the base model, a scripted line; and what the client hears of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply, mute
from tests.component.gateway.harness import Answer, Rig, completion, eventually, raw, running
from tests.component.gateway.ladders import BASE, LINES, PERSONA, Region, voice
from tests.component.gateway.test_failures import EARLY
from tests.component.gateway.words import NEW, OLD

NAME = wire.served_name("vampire", OLD)
SILVER = wire.served_name("vampire", NEW)
BOTH = {("gold", "vampire"): [(OLD, 100)], ("silver", "vampire"): [(NEW, 100)]}

each_way = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def silver() -> AsyncIterator[Engine]:
    """An engine of the fallback tier."""
    async with Engine(SILVER) as started:
        yield started


def region(gold: list[Engine], silver: list[Engine], **changes: object) -> Region:
    """Vampires speak on gold, and on silver where gold cannot."""
    values = {"engines": {"gold": gold, "silver": silver}, "aliases": dict(BOTH), "routes": {"gold": SILVER_BELOW}}
    return Region(**(values | changes))  # type: ignore[arg-type]


SILVER_BELOW = {"fallback_tier": "silver"}
WITH_BASE = {"base_model": BASE}


def is_from_silver(answer: Answer) -> bool:
    """Answered by the adapter of the fallback tier, and said so."""
    assert answer.status == 200, answer.text
    assert answer.spoken.startswith(SILVER)
    marks = ("X-NPC-Served-Tier", "X-NPC-Served-By", "X-NPC-Degraded")
    return [answer.headers[mark] for mark in marks] == ["silver", NEW, "Tier"]


@each_way
async def test_a_tier_without_pods_is_answered_for_by_its_fallback_tier(rig: Rig, silver: Engine, stream: bool) -> None:
    await rig.push(region([], [silver]).table())
    assert is_from_silver(await rig.say(stream=stream, npc="gold-1"))


@each_way
async def test_a_tier_where_the_adapter_is_nowhere_resident_is_answered_for(
    rig: Rig, engine: Engine, silver: Engine, stream: bool
) -> None:
    engine.loaded = {"other"}
    await rig.push(region([engine], [silver]).table())
    assert is_from_silver(await rig.say(stream=stream))
    assert engine.chats == 0


@pytest.mark.parametrize("fault", EARLY, ids=lambda fault: str(fault.__name__))
@each_way
async def test_a_pod_that_fails_before_the_first_byte_costs_the_tier_but_not_the_line(
    rig: Rig, engine: Engine, silver: Engine, fault: object, stream: bool
) -> None:
    engine.script = fault  # type: ignore[assignment]
    await rig.push(region([engine], [silver]).table())
    assert is_from_silver(await rig.say(stream=stream))
    assert engine.chats == 1


@each_way
async def test_pods_that_cannot_be_reached_cost_the_tier_but_not_the_line(
    rig: Rig, engine: Engine, silver: Engine, stream: bool
) -> None:
    await rig.push(region([engine], [silver]).table())
    await engine.stop()
    assert is_from_silver(await rig.say(stream=stream))


async def test_an_archetype_without_an_adapter_on_the_tier_speaks_from_the_next_that_has_one(
    rig: Rig, engine: Engine, second: Engine, silver: Engine
) -> None:
    """Two steps down, over a tier that knows the archetype as little as the first."""
    world = Region(
        engines={"gold": [engine], "middle": [second], "silver": [silver]},
        aliases={("silver", "vampire"): [(NEW, 100)]},
        routes={"gold": {"fallback_tier": "middle"}, "middle": SILVER_BELOW},
    )
    await rig.push(world.table())
    assert is_from_silver(await rig.say())
    assert engine.chats == second.chats == 0


async def test_fallbacks_that_lead_back_or_nowhere_end(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.loaded = second.loaded = {"other"}
    world = region(
        [engine], [second], routes={"gold": SILVER_BELOW, "silver": {"fallback_tier": "gold"}}, voices=(voice(),)
    )
    await rig.push(world.table())
    assert (await rig.say()).error["code"] == "no_resident_pod"
    world.routes = {"gold": {"fallback_tier": "platinum"}}
    await rig.push(world.table())
    assert (await rig.say()).error["code"] == "no_resident_pod"


@each_way
async def test_the_base_model_speaks_with_the_persona_before_the_callers_own_words(
    rig: Rig, engine: Engine, stream: bool
) -> None:
    engine.loaded = {BASE}
    world = Region(engines={"gold": [engine]}, voices=(voice(prompt=PERSONA, lines=LINES),), routes={"gold": WITH_BASE})
    await rig.push(world.table())
    messages = [{"role": "system", "content": "It rains."}, {"role": "user", "content": "Hello"}]
    answer = await rig.say(stream=stream, messages=messages, temperature=0.5)
    assert answer.status == 200
    assert answer.spoken.startswith(BASE)
    marks = ("X-NPC-Served-Tier", "X-NPC-Served-By", "X-NPC-Degraded")
    assert [answer.headers[mark] for mark in marks] == ["gold", "base", "BaseModel"]
    (asked,) = engine.asked
    assert asked.body["model"] == BASE
    assert asked.body["messages"] == [{"role": "system", "content": PERSONA}, *messages]
    assert asked.body["temperature"] == 0.5


async def test_the_base_model_of_the_tier_asked_comes_before_that_of_its_fallback(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    engine.loaded = silver.loaded = {BASE}
    world = region(
        [engine],
        [silver],
        voices=(voice(prompt=PERSONA),),
        routes={"gold": SILVER_BELOW | WITH_BASE, "silver": WITH_BASE},
    )
    await rig.push(world.table())
    assert (await rig.say()).headers["X-NPC-Served-Tier"] == "gold"
    await engine.stop()
    answer = await rig.say()
    assert (answer.headers["X-NPC-Served-Tier"], answer.headers["X-NPC-Degraded"]) == ("silver", "BaseModel")


@pytest.mark.parametrize("prompt", ["", " \n"])
async def test_an_archetype_without_a_persona_is_not_given_to_the_bare_base_model(
    rig: Rig, engine: Engine, prompt: str
) -> None:
    engine.loaded = {BASE}
    world = Region(engines={"gold": [engine]}, voices=(voice(prompt=prompt),), routes={"gold": WITH_BASE})
    await rig.push(world.table())
    answer = await rig.say()
    assert (answer.status, answer.error["code"]) == (503, "no_resident_pod")
    assert engine.chats == 0


@each_way
async def test_with_all_tiers_at_zero_a_scripted_line_is_said_and_a_retry_repeats_it(rig: Rig, stream: bool) -> None:
    await rig.push(region([], [], voices=(voice(prompt=PERSONA, lines=LINES),)).table())
    answer = await rig.say(stream=stream, npc="gold-1")
    assert (answer.status, answer.spoken in LINES) == (200, True)
    marks = ("X-NPC-Served-Tier", "X-NPC-Served-By", "X-NPC-Degraded")
    assert [answer.headers[mark] for mark in marks] == ["gold", "scripted", "Scripted"]
    assert (await rig.say(stream=not stream, npc="gold-1")).spoken == answer.spoken
    others = {(await rig.say(npc=f"gold-{number}")).spoken for number in range(30)}
    assert others == set(LINES)


async def test_a_scripted_line_has_the_form_of_any_answer(rig: Rig) -> None:
    await rig.push(region([], [], voices=(voice(lines=LINES),)).table())
    whole = json.loads((await rig.say()).text)
    assert whole["id"].startswith("chatcmpl-")
    assert (whole["object"], whole["model"]) == ("chat.completion", "scripted")
    assert abs(whole["created"] - time.time()) < 60
    (choice,) = whole["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert whole["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    streamed = await rig.say(stream=True, stream_options={"include_usage": True})
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    *events, done = [part.removeprefix("data: ") for part in streamed.text.split("\n\n") if part]
    assert done == "[DONE]"
    *chunks, usage = map(json.loads, events)
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 0)
    spoken = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert spoken == whole["choices"][0]["message"]["content"]


async def test_a_scripted_line_without_a_word_is_never_said(rig: Rig) -> None:
    world = region([], [], voices=(voice(lines=(" ", "Leave me.", "\t\n")),))
    await rig.push(world.table())
    assert {(await rig.say(npc=f"gold-{number}")).spoken for number in range(20)} == {"Leave me."}
    world.voices = (voice(lines=(" ",)),)
    await rig.push(world.table())
    assert (await rig.say()).status == 503


async def test_a_body_that_no_engine_could_be_asked_is_400_where_there_is_none(rig: Rig) -> None:
    world = region([], [], voices=(voice(lines=LINES),))
    world.aliases = {}
    await rig.push(world.table())
    deep: list[object] = []
    for _ in range(260):
        deep = [deep]
    answer = await rig.say(messages=[{"role": "user", "content": deep}])
    assert (answer.status, answer.error["message"]) == (400, "The body is nested too deeply.")


async def test_an_archetype_without_any_adapter_is_known_by_its_voice(rig: Rig, engine: Engine) -> None:
    world = Region(engines={"gold": [engine]}, voices=(voice(archetype="ghost", lines=LINES),))
    await rig.push(world.table())
    assert (await rig.say("ghost")).spoken in LINES
    assert (await rig.say("ghoul")).error["code"] == "model_not_found"
    headers = {"Authorization": "Bearer game-key"}
    async with rig.session.get(rig.url("/v1/models"), headers=headers) as answer:
        assert [model["id"] for model in (await answer.json())["data"]] == ["ghost", "vampire"]


async def test_a_candidate_that_no_pod_has_is_answered_for_by_the_stable_voice_on_the_same_tier(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    world = region([engine], [silver])
    world.aliases[("gold", "vampire")] = [(OLD, 0), (NEW, 100)]
    await rig.push(world.table())
    answer = await rig.say(npc="any")
    assert (answer.digest, answer.headers["X-NPC-Served-Tier"]) == (OLD, "gold")
    assert "X-NPC-Degraded" not in answer.headers


@each_way
async def test_a_request_that_breaks_engines_meets_two_in_all_and_then_the_script(
    rig: Rig, pair: object, engine: Engine, second: Engine, silver: Engine, stream: bool
) -> None:
    async def drop(asked: Asked, reply: Reply) -> None:
        reply.reset()

    engine.script = second.script = silver.script = drop
    await rig.push(region([engine, second], [silver], voices=(voice(lines=LINES),)).table())
    assert (await rig.say(stream=stream)).spoken in LINES
    assert engine.chats + second.chats + silver.chats == 2


async def test_a_refusal_is_the_callers_on_the_level_asked_and_leads_on_below_it(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    async def refuse(asked: Asked, reply: Reply) -> None:
        await reply.json(400, {"error": {"message": "too long", "type": "x", "param": None, "code": 400}})

    engine.script = silver.script = refuse
    world = region([engine], [silver], voices=(voice(lines=LINES),))
    await rig.push(world.table())
    assert (await rig.say()).error["message"] == "too long"
    assert silver.chats == 0
    engine.loaded = {"other"}
    await rig.push(world.table())
    assert (await rig.say()).spoken in LINES
    assert silver.chats == 1
    world.voices = ()
    await rig.push(world.table())
    assert (await rig.say()).error["message"] == "too long"


async def test_when_every_level_fails_the_client_hears_of_the_one_it_asked_for(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    async def overloaded(asked: Asked, reply: Reply) -> None:
        await reply.json(503, {"error": {"message": "queue full", "type": "x", "param": None, "code": 503}})

    engine.script = overloaded
    silver.script = EARLY[0]
    await rig.push(region([engine], [silver]).table())
    answer = await rig.say()
    assert (answer.status, answer.error["message"]) == (503, "queue full")
    assert silver.chats == 1
    assert "X-NPC-Degraded" not in answer.headers


@each_way
async def test_the_end_of_the_request_timeout_says_a_scripted_line_where_nothing_was_sent(
    rig: Rig, engine: Engine, stream: bool
) -> None:
    engine.script = mute
    world = Region(engines={"gold": [engine]}, voices=(voice(lines=LINES),), limits={"request_timeout_seconds": 1})
    await rig.push(world.table())
    answer = await rig.say(stream=stream)
    assert (answer.spoken in LINES, answer.headers["X-NPC-Degraded"]) == (True, "Scripted")
    await eventually(engine.aborted.is_set, seconds=1)


@each_way
async def test_a_caller_that_leaves_in_the_middle_of_a_downgrade_frees_every_engine(
    rig: Rig, engine: Engine, silver: Engine, stream: bool
) -> None:
    engine.script, silver.script = EARLY[0], mute
    await rig.push(region([engine], [silver], voices=(voice(lines=LINES),)).table())
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(completion(stream=stream))
    await eventually(lambda: silver.running == 1)
    writer.close()
    await eventually(silver.aborted.is_set, seconds=1)
    await eventually(lambda: rig.service.connections == 0)
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)
    text = await rig.metrics()
    assert 'npc_gateway_requests_total{archetype="vampire",code="499",tier="gold"} 1.0' in text
    assert 'npc_gateway_requests_in_flight{archetype="vampire",tier="gold"} 0.0' in text
    assert "npc_gateway_degraded_lines_total{" not in text


async def test_pipelined_requests_are_answered_in_order_on_whatever_levels(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    async def drop_the_first(asked: Asked, reply: Reply) -> None:
        engine.script = None
        reply.reset()

    engine.script = drop_the_first
    await rig.push(region([engine], [silver], voices=(voice(lines=LINES),)).table())
    last = completion(stream=False).replace(b"Host: g\r\n", b"Host: g\r\nConnection: close\r\nX-NPC-Tier: iron\r\n")
    got = await raw(rig.port, completion(stream=True) + completion(stream=False) + last)
    first, second, third = got.split(b"HTTP/1.1 ")[1:]
    assert b"X-NPC-Degraded: Tier" in first
    assert first.endswith(b"0\r\n\r\n")
    assert second.startswith(b"200")
    assert b"X-NPC-Degraded" not in second
    assert third.startswith(b"404")


async def test_pipelined_scripted_lines_are_answered_in_order(rig: Rig) -> None:
    await rig.push(region([], [], voices=(voice(lines=LINES),)).table())
    closing = completion(stream=True).replace(b"Host: g\r\n", b"Host: g\r\nConnection: close\r\n")
    got = await raw(rig.port, completion(stream=True), completion(stream=False) * 3 + closing)
    assert got.count(b"HTTP/1.1 200 OK") == 5
    assert got.count(b"X-NPC-Degraded: Scripted") == 5
    assert got.endswith(b"0\r\n\r\n")


async def test_downgrades_are_in_the_access_log_and_counted_by_level(rig: Rig, engine: Engine, silver: Engine) -> None:
    world = region([], [silver], voices=(voice(lines=LINES),))
    await rig.push(world.table())
    await rig.say()
    await rig.say(stream=True)
    world.engines = {"gold": [], "silver": []}
    await rig.push(world.table())
    await rig.say()
    text = await rig.metrics()
    labels = 'archetype="vampire",level="%s",tier="gold"'
    assert f"npc_gateway_degraded_lines_total{{{labels % 'Tier'}}} 2.0" in text
    assert f"npc_gateway_degraded_lines_total{{{labels % 'Scripted'}}} 1.0" in text
    await eventually(lambda: len(rig.access_lines()) == 3)
    first, _, last = rig.access_lines()
    assert (first["tier"], first["servedTier"], first["degraded"], first["digest"]) == ("gold", "silver", "Tier", NEW)
    assert (last["tier"], last["degraded"], last["digest"]) == ("gold", "Scripted", "scripted")


async def test_gold_scaled_to_zero_under_load_loses_no_line_and_marks_each_downgrade(
    rig: Rig, engine: Engine, silver: Engine
) -> None:
    engine.pause = silver.pause = 0.005
    world = region([engine], [silver])
    await rig.push(world.table())
    served: list[str] = []

    async def talk() -> None:
        for turn in range(40):
            answer = await rig.say(stream=turn % 2 == 0)
            assert answer.status == 200, answer.text
            assert answer.spoken
            served.append(answer.headers["X-NPC-Served-Tier"])

    talking = asyncio.gather(*(talk() for _ in range(8)))
    await eventually(lambda: len(served) > 30)
    world.engines = {"gold": [], "silver": [silver]}
    await rig.push(world.table())
    await talking
    assert served[0] == "gold"
    assert served[-1] == "silver"
    assert served.count("silver") > 50


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_operators_long_poll_hears_at_once_who_speaks_from_a_lower_level(
    tmp_path: Path, workers: int
) -> None:
    async with running(tmp_path, workers=workers) as rig:
        await rig.push(region([], [], voices=(voice(lines=LINES),)).table())
        known = await rig.counted()
        assert known["degraded"] == []
        after = f"/v1/status?boot={known['bootId']}&wait=20&after="
        polling = asyncio.create_task(rig.admin("GET", f"{after}{known['revision']}"))
        await rig.say()
        async with asyncio.timeout(60):
            _, report = await polling
            while not (report["degraded"] and report["lines"]):
                _, report = await rig.admin("GET", f"{after}{report['revision']}")
        assert report["degraded"] == [{"archetype": "vampire", "tier": "gold", "level": "Scripted"}]
        assert report["revision"] == known["revision"] + 2, "news of its own, beside that of lines of the tier"
        assert 'level="Scripted"' in await rig.metrics()
