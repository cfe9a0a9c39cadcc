"""Lines for game servers: words in, words out, and everything between as for any line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from npc_runtime import wire
from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.openapi import document
from tests.component.gateway.engines import Asked, Engine, Reply, mute
from tests.component.gateway.harness import Answer, Rig, eventually, raw
from tests.component.gateway.ladders import BASE, LINES, PERSONA, Region, voice
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY, NEW, OLD

NAME = wire.served_name("vampire", OLD)
SILVER = wire.served_name("vampire", NEW)

_SCHEMAS = document()["components"]["schemas"]
_LINE = Draft202012Validator({**_SCHEMAS["Line"], "components": {"schemas": _SCHEMAS}})


async def say(
    rig: Rig,
    npc: str = "gold-vampire-0001",
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
    body: object = None,
    **fields: object,
) -> Answer:
    """One line, with these fields beside the archetype and the words."""
    sent = dict(headers or {}) | ({} if key is None else {"Authorization": f"Bearer {key}"})
    asked = {"archetype": "vampire", "text": "Who goes there?", **fields} if body is None else body
    data = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    url = rig.url(f"/v1/npcs/{quote(npc, safe='')}/lines")
    async with rig.session.post(url, data=data, headers=sent) as answer:
        return Answer(answer.status, answer.headers, (await answer.read()).decode())


def line_of(answer: Answer) -> dict[str, Any]:
    """The line, after its form was checked."""
    assert answer.status == 200, answer.text
    line = json.loads(answer.text)
    _LINE.validate(line)
    assert isinstance(line, dict)
    return line


@pytest.fixture
async def silver() -> AsyncIterator[Engine]:
    async with Engine(SILVER) as started:
        yield started


async def test_a_line_says_the_words_and_who_said_them(rig: Rig, world: World, engine: Engine) -> None:
    answer = await say(rig, headers={"X-Request-Id": "r-1"})
    assert line_of(answer) == {
        "npc": "gold-vampire-0001",
        "archetype": "vampire",
        "text": f"{NAME} 0 {NAME} 1 {NAME} 2",
        "tier": "gold",
        "digest": OLD,
        "degraded": False,
        "level": "Adapter",
        "finishReason": None,
        "requestId": "r-1",
    }
    assert answer.headers["X-NPC-Served-By"] == OLD
    assert answer.headers["X-NPC-Served-Tier"] == "gold"
    assert "X-NPC-Degraded" not in answer.headers
    assert answer.headers["Content-Type"] == "application/json"


async def test_the_scene_comes_first_then_what_was_said_then_the_player(rig: Rig, world: World, engine: Engine) -> None:
    context = {
        "scene": "Midnight.",
        "turns": [{"who": "player", "text": "Open!"}, {"who": "npc", "text": "The master sleeps."}],
    }
    await say(rig, context=context, maxTokens=60)
    (asked,) = engine.asked
    assert asked.body == {
        "model": NAME,
        "messages": [
            {"role": "system", "content": "Midnight."},
            {"role": "user", "content": "Open!"},
            {"role": "assistant", "content": "The master sleeps."},
            {"role": "user", "content": "Who goes there?"},
        ],
        "max_tokens": 60,
        "stream": False,
    }


async def test_without_a_context_only_the_player_is_heard_and_the_length_is_bounded(
    rig: Rig, world: World, engine: Engine
) -> None:
    await say(rig)
    (asked,) = engine.asked
    assert asked.body["messages"] == [{"role": "user", "content": "Who goes there?"}]
    assert asked.body["max_tokens"] == 256


async def test_a_line_that_was_cut_says_so(rig: Rig, world: World, engine: Engine) -> None:
    async def cut(asked: Asked, reply: Reply) -> None:
        message = {"role": "assistant", "content": " The night is "}
        await reply.json(200, {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]})

    engine.script = cut
    line = line_of(await say(rig))
    assert (line["text"], line["finishReason"]) == ("The night is", "length")


@pytest.mark.parametrize(
    ("changes", "level", "digest", "tier"),
    [
        ({"aliases": {("silver", "vampire"): [(NEW, 100)]}}, "Tier", NEW, "silver"),
        ({"aliases": {}, "prompt": PERSONA}, "BaseModel", None, "gold"),
        ({"aliases": {}, "lines": LINES}, "Scripted", None, "gold"),
    ],
    ids=["tier", "base", "scripted"],
)
async def test_each_level_below_is_marked(
    rig: Rig, engine: Engine, silver: Engine, changes: dict[str, Any], level: str, digest: str | None, tier: str
) -> None:
    engine.loaded.add(BASE)
    world = Region(
        engines={"gold": [engine], "silver": [silver]},
        aliases=changes["aliases"],
        voices=(voice(prompt=changes.get("prompt", ""), lines=changes.get("lines", ())),),
        routes={"gold": {"fallback_tier": "silver", "base_model": BASE}},
    )
    await rig.push(world.table())
    answer = await say(rig)
    line = line_of(answer)
    assert (line["degraded"], line["level"], line["digest"], line["tier"]) == (True, level, digest, tier)
    assert answer.headers["X-NPC-Degraded"] == level
    if level == "Scripted":
        assert line["text"] in LINES
        assert line_of(await say(rig))["text"] == line["text"], "a retry repeats it"
    metrics = await rig.metrics()
    assert f'npc_gateway_degraded_lines_total{{archetype="vampire",level="{level}",tier="gold"}}' in metrics


async def test_a_scripted_line_without_a_word_is_no_line(rig: Rig, engine: Engine) -> None:
    world = Region(engines={"gold": [engine]}, aliases={}, voices=(voice(lines=(" ", LINES[0])),))
    await rig.push(world.table())
    assert {line_of(await say(rig, f"npc-{number}"))["text"] for number in range(20)} == {LINES[0]}


async def test_the_npc_of_the_path_decides_tier_and_rollout(rig: Rig, engine: Engine, silver: Engine) -> None:
    """Those of the candidate's share are the same as for chat completions."""
    engine.loaded |= {SILVER}
    world = World(engines={"gold": [engine], "silver": [silver]}, assignments={"silver-": "silver"})
    world.aliases = {("gold", "vampire"): [(OLD, 50), (NEW, 50)], ("silver", "vampire"): [(NEW, 100)]}
    await rig.push(world.table())
    assert line_of(await say(rig, "silver-1"))["tier"] == "silver"
    assert line_of(await say(rig, "silver-1", headers={"X-NPC-Tier": "gold"}))["tier"] == "gold"
    for number in range(20):
        npc = f"npc {number}/%é"[:-1]
        line = line_of(await say(rig, npc))
        assert line["npc"] == npc
        assert line["digest"] == (NEW if bucket(b"vampire", npc.encode()) < 5000 else OLD)
        assert (await rig.say(npc=npc)).digest == line["digest"]


async def test_a_pod_that_fails_costs_no_line(rig: Rig, pair: World, engine: Engine, second: Engine) -> None:
    async def drop(asked: Asked, reply: Reply) -> None:
        reply.reset()

    engine.script = drop
    for _ in range(4):
        assert line_of(await say(rig))["digest"] == OLD
    assert second.chats == 4


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": "  "}}]}',
        b'{"choices": [{"message": "hello"}]}',
        b'{"choices": [1]}',
    ],
)
async def test_an_answer_without_words_is_no_line_and_the_next_level_speaks(
    rig: Rig, engine: Engine, body: bytes
) -> None:
    async def silent(asked: Asked, reply: Reply) -> None:
        await reply.json(200, body)

    engine.script = silent
    await rig.push(Region(engines={"gold": [engine]}, voices=(voice(lines=LINES),)).table())
    assert line_of(await say(rig))["level"] == "Scripted"
    await rig.push(World(engines={"gold": [engine]}, generation=5).table())
    answer = await say(rig)
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")


async def test_an_engine_that_streams_unasked_gives_no_line(rig: Rig, world: World, engine: Engine) -> None:
    async def stream(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "word"}}]})
        await eventually(lambda: rig.streaming == 1)
        await reply.end()

    engine.script = stream
    answer = await say(rig)
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"archetype": 3}, "archetype"),
        ({"archetype": ""}, "archetype"),
        ({"archetype": "v" * 64}, "archetype"),
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        ({"text": "x" * 8193}, "text"),
        ({"maxTokens": 0}, "maxTokens"),
        ({"maxTokens": "60"}, "maxTokens"),
        ({"maxTokens": True}, "maxTokens"),
        ({"max_tokens": 60}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"context": "night"}, "context"),
        ({"context": {"scene": 1}}, "context.scene"),
        ({"context": {"weather": "rain"}}, "context.weather"),
        ({"context": {"turns": [{"who": "player", "text": "a"}, {"who": "cat", "text": "b"}]}}, "context.turns[1].who"),
        ({"context": {"turns": [{"who": "npc"}]}}, "context.turns[0].text"),
        ({"context": {"turns": [{"who": "npc", "text": "a"}] * 65}}, "context.turns"),
    ],
)
async def test_what_is_wrong_is_named_by_its_path(
    rig: Rig, world: World, engine: Engine, fields: dict[str, Any], param: str
) -> None:
    answer = await say(rig, **fields)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, param, "invalid_value")
    assert param in answer.error["message"]
    assert engine.chats == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"archetype": "vampire", "text": "\xff"}', b'"\\ud800"'])
async def test_what_is_no_request_at_all_is_400(rig: Rig, world: World, engine: Engine, body: bytes) -> None:
    answer = await say(rig, body=body)
    assert (answer.status, answer.error["type"], engine.chats) == (400, "invalid_request_error", 0)


async def test_no_refusal_repeats_what_the_player_said(rig: Rig, world: World) -> None:
    answer = await say(rig, text="my secret" * 2000, context={"scene": ["my secret"]})
    assert answer.status == 400
    assert "secret" not in answer.text


@pytest.mark.parametrize("npc", ["é", "a\tb", " a", "a ", "x" * 257, "\x00"])
async def test_an_npc_that_cannot_be_one_is_400(rig: Rig, world: World, engine: Engine, npc: str) -> None:
    answer = await say(rig, npc)
    assert (answer.status, answer.error["param"], engine.chats) == (400, "npc", 0)


@pytest.mark.parametrize("path", ["/v1/npcs//lines", "/v1/npcs/a/b/lines", "/v1/npcs/a/lines/", "/v1/npcs/a%2/lines"])
async def test_no_other_path_is_a_line(rig: Rig, world: World, path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n"
    )
    assert (await raw(rig.port, head.encode() + b"\r\n")).startswith(b"HTTP/1.1 404 ")


async def test_other_methods_are_refused_with_the_one_that_is_allowed(rig: Rig, world: World) -> None:
    async with rig.session.get(rig.url("/v1/npcs/a/lines")) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_the_same_keys_open_it_and_unknown_names_are_404(rig: Rig, world: World, engine: Engine) -> None:
    for key in (None, "wrong"):
        assert (await say(rig, key=key)).status == 401
    answer = await say(rig, archetype="dragon")
    assert (answer.status, answer.error["param"]) == (404, "archetype")
    answer = await say(rig, headers={"X-NPC-Tier": "platinum"})
    assert (answer.status, answer.error["param"]) == (404, "X-NPC-Tier")
    assert engine.chats == 0


async def test_a_key_for_other_archetypes_is_403_and_rates_hold(rig: Rig, world: World, engine: Engine) -> None:
    table = world.table()
    (key,) = table.api_keys
    scoped = key.model_copy(update={"archetypes": ("zombie",)})
    await rig.push(table.model_copy(update={"api_keys": (scoped,)}))
    answer = await say(rig)
    assert (answer.status, answer.error["param"]) == (403, "archetype")
    limited = key.model_copy(update={"rate": wire.Rate(requests_per_second=1, burst=1)})
    await rig.push(world.table().model_copy(update={"api_keys": (limited,)}))
    assert (await say(rig)).status == 200
    while (status := (await say(rig)).status) == 200:
        pass  # a second passed since the one before
    assert status == 429


async def test_ambient_lines_are_shed_and_others_go_down(rig: Rig, engine: Engine) -> None:
    go_on = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await go_on.wait()
        await engine.answer(asked, reply)

    engine.script = hold
    for importance, status in (("Ambient", 429), ("Normal", 200)):
        world = Region(
            engines={"gold": [engine]},
            voices=(voice(lines=LINES, importance=importance),),
            routes={"gold": {"slots": 1, "queue": 0}},
            epoch=2 if importance == "Normal" else 1,
        )
        await rig.push(world.table())
        go_on.clear()
        first = asyncio.create_task(say(rig))
        await eventually(lambda: engine.running == 1)
        assert (await say(rig)).status == status
        go_on.set()
        assert line_of(await first)["level"] == "Adapter"


async def test_a_client_that_leaves_frees_the_engine_within_a_second(rig: Rig, world: World, engine: Engine) -> None:
    engine.script = mute
    body = json.dumps({"archetype": "vampire", "text": "x"}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = f"POST /v1/npcs/a/lines HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {KEY}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await eventually(lambda: engine.running == 1)
    writer.close()
    await eventually(engine.aborted.is_set, seconds=1)


async def test_a_line_is_logged_like_any_other_without_its_words(rig: Rig, world: World) -> None:
    await say(rig, "npc/7", headers={"X-Player-Id": "p-1"}, text="my secret")
    await eventually(lambda: bool(rig.access_lines()))
    (logged,) = rig.access_lines()
    assert (logged["npc"], logged["player"], logged["archetype"], logged["digest"]) == ("npc/7", "p-1", "vampire", OLD)
    assert (logged["path"], logged["status"]) == ("/v1/npcs/npc%2F7/lines", 200)
    assert "secret" not in json.dumps(logged)
