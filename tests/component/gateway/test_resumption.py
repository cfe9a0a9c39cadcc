"""Lines that may be gone on with: another pod takes over where whole sentences ended, once, and the client is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from npc_runtime import wire
from npc_runtime.gateway.rollouts.observer import NOBODY, Observer, Outcome, Pod
from npc_runtime.gateway.table import Alias, Target
from tests.component.gateway.engines import Asked, Engine, Reply, Script
from tests.component.gateway.harness import Rig, completion, eventually, raw
from tests.component.gateway.ladders import BASE, LINES, PERSONA, Region, voice
from tests.component.gateway.regions import World
from tests.component.gateway.words import NEW, OLD
from tests.unit.gateway.tellings import PROMPT_TOKENS, Heard, Speaker, hear, up_to

NAME = wire.served_name("vampire", OLD)
LINE = [" The", " night", " is", " long", ".", " Who", " goes", " there", "?", " Leave", " me", "!"]
TEXT = "".join(LINE)
ALLOWED = {"X-NPC-Resume": "Sentences"}


def request(*, allowed: bool = True, **fields: Any) -> bytes:
    """A streamed line, on a connection that ends with it."""
    messages = [{"role": "user", "content": "Who?"}]
    body = json.dumps({"model": "vampire", "stream": True, "messages": messages, **fields}).encode()
    resume = b"X-NPC-Resume: Sentences\r\n" if allowed else b""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer game-key\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\n%bContent-Length: %d\r\n\r\n" % (resume, len(body))
    ) + body


class Line:
    """What came of one line, byte for byte."""

    def __init__(self, got: bytes) -> None:
        head, _, self.body = got.partition(b"\r\n\r\n")
        self.head = head.decode()
        chunks, end, self.trailer = self.body.decode().rpartition("\r\n0\r\n")
        self.ended = bool(end)
        self.heard: Heard = hear(up_to((chunks + "\r\n").encode(), len(self.body)))


def breaks_at(place: float | Callable[[bytes], int], rig: Rig) -> Script:
    """Whoever is asked first breaks at that part of its stream, and whoever is asked later says the rest."""
    begun = asyncio.Event()

    async def script(asked: Asked, reply: Reply) -> None:
        speaker = Speaker(LINE, name=str(id(asked)))
        stream = speaker.stream(asked.body)
        await reply.stream_head()
        if begun.is_set():
            await reply.send(stream + b"0\r\n\r\n")
            return
        begun.set()
        cut = place(stream) if callable(place) else round(place * len(stream))
        opening = min(cut, stream.index(b"\n\n\r\n") + 4)
        await reply.send(stream[:opening])
        await eventually(lambda: rig.streaming > 0)
        await reply.send(stream[opening:cut])
        reply.reset()

    return script


def at(word: str) -> Callable[[bytes], int]:
    return lambda stream: stream.index(word.encode())


@pytest.fixture
async def third() -> AsyncIterator[Engine]:
    async with Engine(NAME) as started:
        yield started


@pytest.mark.parametrize("place", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
async def test_wherever_its_engine_breaks_the_line_is_whole_and_says_that_it_was_resumed(
    rig: Rig, pair: World, engine: Engine, second: Engine, place: float
) -> None:
    engine.script = second.script = breaks_at(place, rig)
    line = Line(await raw(rig.port, request(stream_options={"include_usage": True})))
    assert "\r\nTrailer: X-NPC-Resumed" in line.head
    assert (line.heard.text, line.heard.done, line.ended) == (TEXT, True, True)
    assert line.heard.usage is not None
    assert line.heard.usage["completion_tokens"] == len(LINE)
    assert line.heard.usage["prompt_tokens"] == PROMPT_TOKENS
    assert len(line.heard.ids) == 1
    resumed = engine.chats == second.chats == 1
    assert resumed or engine.chats + second.chats == 1, "whole but for the end's formalities"
    assert line.heard.marks == resumed
    assert line.trailer == ("X-NPC-Resumed: true\r\n\r\n" if resumed else "\r\n")
    assert {asked.body["model"] for asked in engine.asked + second.asked} == {NAME}


async def test_a_resumed_line_is_logged_and_counted_and_leaves_nothing_behind(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    engine.script = second.script = breaks_at(at(" there"), rig)
    await raw(rig.port, request())
    await eventually(lambda: bool(rig.access_lines()))
    (logged,) = rig.access_lines()
    assert (logged["status"], logged["resumed"], logged["attempts"]) == (200, True, 2)
    assert "reason" not in logged
    counted = await rig.metrics()
    for name in ("npc_gateway_retries_total", "npc_gateway_resumed_lines_total"):
        assert f'{name}{{archetype="vampire",tier="gold"}} 1.0' in counted
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_a_line_that_breaks_nowhere_is_told_in_sentences_and_not_marked(
    rig: Rig, world: World, engine: Engine
) -> None:
    async def speak(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.send(Speaker(LINE).stream(asked.body) + b"0\r\n\r\n")

    engine.script = speak
    line = Line(await raw(rig.port, request()))
    assert (line.heard.text, line.heard.done, line.ended) == (TEXT, True, True)
    assert (line.heard.marks, line.trailer, line.heard.usage) == (0, "\r\n", None)


async def test_without_the_header_nothing_is_gone_on_with(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    async def speak(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": " The night is long."}}]})
        await eventually(lambda: rig.streaming > 0)
        reply.reset()

    engine.script = second.script = speak
    got = await raw(rig.port, request(allowed=False))
    assert b"engine_interrupted" in got
    assert b"Trailer" not in got
    assert engine.chats + second.chats == 1


class Broken:
    """A line that was broken off, as its client has it."""

    def __init__(self, got: bytes) -> None:
        events = [part for part in got.partition(b"\r\n\r\n")[2].decode().replace("\r\n", "\n").split("\n") if part]
        data = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
        self.error: Mapping[str, Any] = data[-1].get("error", {})
        self.text = "".join(
            choice["delta"].get("content", "") for event in data[:-1] for choice in event.get("choices", [])
        )
        self.ended = b"[DONE]" in got or got.endswith(b"\r\n0\r\n\r\n") or b"X-NPC-Resumed: true\r\n\r\n" in got


async def test_where_no_other_pod_has_the_digest_whole_sentences_are_followed_by_an_error(
    rig: Rig, world: World, engine: Engine
) -> None:
    async with Engine(wire.served_name("vampire", NEW)) as other:
        world.engines = {"gold": [engine, other]}
        await rig.push(world.table())
        engine.script = breaks_at(at(" there"), rig)
        line = Broken(await raw(rig.port, request()))
        assert (line.text, line.error["code"], line.ended) == (" The night is long.", "engine_interrupted", False)
        assert other.chats == 0


async def test_a_digest_that_was_taken_off_meanwhile_does_not_get_the_rest(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def speak(each: Asked, reply: Reply) -> None:
        await reply.stream_head()
        stream = Speaker(LINE).stream(each.body)
        await reply.send(stream[: at(" goes")(stream)])
        asked.set()
        await go_on.wait()
        reply.reset()

    engine.script = second.script = speak
    line = asyncio.create_task(raw(rig.port, request()))
    await asked.wait()
    await eventually(lambda: rig.streaming > 0)
    pair.aliases = {("gold", "vampire"): [(NEW, 100)]}
    await rig.push(pair.table())
    go_on.set()
    broken = Broken(await line)
    assert (broken.error["code"], engine.chats + second.chats) == ("engine_interrupted", 1)


async def test_a_candidate_that_this_gateway_took_off_meanwhile_does_not_get_the_rest(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    """No table says so: only whoever chooses knows."""

    class Changing:
        def __init__(self) -> None:
            self.asked = 0

        def choose(self, alias: Alias, npc: bytes | None) -> tuple[Target, Observer]:
            self.asked += 1
            assert alias.candidate is not None
            return (alias.candidate if self.asked == 1 else alias.stable), NOBODY

    for each in (engine, second):
        each.loaded.add(wire.served_name("vampire", NEW))
        each.script = breaks_at(at(" there"), rig)
    pair.aliases = {("gold", "vampire"): [(OLD, 50), (NEW, 50)]}
    rig.service.chooser = Changing()
    await rig.push(pair.table())
    line = Broken(await raw(rig.port, request()))
    assert (line.error["code"], engine.chats + second.chats) == ("engine_interrupted", 1)


async def test_a_continuation_that_breaks_is_the_last(
    rig: Rig, pair: World, engine: Engine, second: Engine, third: Engine
) -> None:
    pair.engines = {"gold": [engine, second, third]}
    await rig.push(pair.table())

    async def speak(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        stream = Speaker(LINE).stream(asked.body)
        await reply.send(stream[: at(" there" if "continue_final_message" not in asked.body else " me")(stream)])
        await eventually(lambda: rig.streaming > 0)
        reply.reset()

    engine.script = second.script = third.script = speak
    got = await raw(rig.port, request())
    line = Broken(got)
    assert line.text == " The night is long. Who goes there?"
    assert (line.error["code"], line.ended) == ("engine_interrupted", False)
    assert got.count(b": X-NPC-Resumed: true\n") == 1
    assert engine.chats + second.chats + third.chats == 2


async def test_a_pod_that_cannot_be_reached_is_no_continuation(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    gone = Engine(NAME)
    async with gone:
        pass  # its port is closed from here on
    pair.engines = {"gold": [engine, gone, second]}
    await rig.push(pair.table())
    load = {engine.port: 0, gone.port: 1, second.port: 2}
    for endpoint in rig.service.fleet.endpoints:
        endpoint.in_flight = load[endpoint.facts.key.port]  # so the one that is gone comes after the one that breaks
    engine.script = second.script = breaks_at(at(" there"), rig)
    line = Line(await raw(rig.port, request()))
    assert (line.heard.text, line.heard.marks) == (TEXT, 1)
    await eventually(lambda: bool(rig.access_lines()))
    assert (rig.access_lines()[0]["attempts"], engine.chats, second.chats) == (3, 1, 1)


@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_a_pod_that_would_not_go_on_ends_the_line_with_an_error(
    rig: Rig, pair: World, engine: Engine, second: Engine, status: int
) -> None:
    begin = breaks_at(at(" there"), rig)

    async def speak(asked: Asked, reply: Reply) -> None:
        if "continue_final_message" in asked.body:
            await reply.json(status, {"object": "chat.completion"})
        else:
            await begin(asked, reply)

    engine.script = second.script = speak
    line = Broken(await raw(rig.port, request()))
    assert (line.text, line.error["code"], line.ended) == (" The night is long.", "engine_interrupted", False)


@pytest.mark.parametrize("limits", [{"stall_seconds": 1}, {"first_token_milliseconds": 300}], ids=str)
async def test_a_pod_that_does_not_go_on_in_time_ends_the_line_and_is_freed(
    rig: Rig, engine: Engine, second: Engine, limits: dict[str, int]
) -> None:
    begin = breaks_at(at(" there"), rig)

    async def speak(asked: Asked, reply: Reply) -> None:
        if "continue_final_message" in asked.body:
            await reply.silence()
        await begin(asked, reply)

    engine.script = second.script = speak
    world = Region(engines={"gold": [engine, second]}, routes={"gold": limits})
    await rig.push(world.table())
    line = Broken(await raw(rig.port, request()))
    assert (line.text, line.error["code"]) == (" The night is long.", "engine_interrupted")
    await eventually(lambda: engine.running == second.running == 0, seconds=1)
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_a_continuation_that_stalls_ends_the_line_like_any_stream(
    rig: Rig, engine: Engine, second: Engine
) -> None:
    begin = breaks_at(at(" there"), rig)

    async def speak(asked: Asked, reply: Reply) -> None:
        if "continue_final_message" in asked.body:
            await reply.stream_head()
            stream = Speaker(LINE).stream(asked.body)
            await reply.send(stream[: at(" me")(stream)])
            await reply.silence()
        await begin(asked, reply)

    engine.script = second.script = speak
    world = Region(engines={"gold": [engine, second]}, routes={"gold": {"stall_seconds": 1}})
    await rig.push(world.table())
    line = Broken(await raw(rig.port, request()))
    assert (line.text, line.error["code"]) == (" The night is long. Who goes there?", "engine_stalled")
    await eventually(lambda: engine.running == second.running == 0, seconds=1)


async def test_a_client_that_leaves_while_another_pod_goes_on_frees_it_within_a_second(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    begin = breaks_at(at(" there"), rig)
    gone_on = asyncio.Event()

    async def speak(asked: Asked, reply: Reply) -> None:
        if "continue_final_message" in asked.body:
            gone_on.set()
            await reply.silence()
        await begin(asked, reply)

    engine.script = second.script = speak
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request())
    await asyncio.wait_for(gone_on.wait(), 60)
    writer.close()
    await eventually(lambda: engine.running == second.running == 0, seconds=1)
    assert all(endpoint.in_flight == 0 for endpoint in rig.service.fleet.endpoints)


async def test_the_base_model_goes_on_with_its_persona_too(rig: Rig, engine: Engine, second: Engine) -> None:
    engine.script = second.script = breaks_at(at(" there"), rig)
    engine.loaded = second.loaded = {BASE}
    world = Region(
        engines={"gold": [engine, second]},
        aliases={},
        voices=(voice(prompt=PERSONA),),
        routes={"gold": {"base_model": BASE}},
    )
    await rig.push(world.table())
    line = Line(await raw(rig.port, request()))
    assert "X-NPC-Degraded: BaseModel" in line.head
    assert line.heard.text == TEXT
    rest = next(asked.body for asked in engine.asked + second.asked if "continue_final_message" in asked.body)
    assert rest["messages"] == [
        {"role": "system", "content": PERSONA},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": " The night is long."},
    ]


async def test_a_scripted_line_is_the_same_with_the_header(rig: Rig, engine: Engine) -> None:
    await rig.push(Region(engines={"gold": []}, voices=(voice(lines=LINES),)).table())
    plain, allowed = await rig.say(stream=True), await rig.say(stream=True, headers=ALLOWED)
    assert plain.spoken == allowed.spoken
    assert '"usage"' not in allowed.text
    asked = await rig.say(stream=True, headers=ALLOWED, stream_options={"include_usage": True})
    assert '"usage"' in asked.text


class Ear:
    """Hears one line. Implements `Observer`."""

    copies = True
    is_off = False

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_first_token(self, seconds: float, pod: str) -> None:
        self.heard.append("first token")

    def on_chunk(self, data: bytes) -> None:
        pass

    def on_answer(self, body: bytes) -> None:
        pass

    def on_failed_attempt(self) -> None:
        self.heard.append("failed")

    def on_lost(self, pod: Pod) -> None:
        self.heard.append("lost")

    def on_stable(self) -> None:
        pass

    def on_end(self, outcome: Outcome) -> None:
        self.heard.append(outcome.name)


async def test_a_digest_that_broke_is_counted_as_failing_even_where_the_line_went_on(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    """Or a candidate that kills engines would look well as long as others finish its lines."""
    ears: list[Ear] = []

    class Listening:
        def choose(self, alias: Alias, npc: bytes | None) -> tuple[Target, Observer]:
            ears.append(Ear())
            return alias.stable, ears[-1]

    rig.service.chooser = Listening()
    await rig.push(pair.table())
    engine.script = second.script = breaks_at(at(" there"), rig)
    assert Line(await raw(rig.port, request())).heard.text == TEXT
    assert [ear.heard for ear in ears] == [["first token", "lost", "failed", "OK"]]


async def test_a_line_that_is_not_streamed_is_tried_again_as_a_whole_with_or_without_the_header(
    rig: Rig, world: World, engine: Engine
) -> None:
    answer = await rig.say(headers=ALLOWED)
    assert (answer.status, "stream_options" in engine.asked[0].body) == (200, False)


@pytest.mark.parametrize(
    ("value", "fields", "param"),
    [
        ("sentences", {}, "X-NPC-Resume"),
        ("true", {}, "X-NPC-Resume"),
        ("Sentences", {"n": 2}, "n"),
        ("Sentences", {"tools": [{"type": "function"}]}, "tools"),
        ("Sentences", {"logprobs": True}, "logprobs"),
        ("Sentences", {"response_format": {"type": "json_object"}}, "response_format"),
        ("Sentences", {"continue_final_message": True}, "continue_final_message"),
        ("Sentences", {"stream_options": [1]}, "stream_options"),
    ],
)
async def test_what_could_not_be_told_in_sentences_is_refused_by_name(
    rig: Rig, world: World, engine: Engine, value: str, fields: dict[str, Any], param: str
) -> None:
    answer = await rig.say(stream=True, headers={"X-NPC-Resume": value}, **fields)
    assert (answer.status, answer.error["param"], engine.chats) == (400, param, 0)


async def test_the_connection_serves_on_after_a_resumed_line(
    rig: Rig, pair: World, engine: Engine, second: Engine
) -> None:
    engine.script = second.script = breaks_at(at(" there"), rig)
    one = request().replace(b"Connection: close\r\n", b"")
    got = await raw(
        rig.port, one + completion(stream=True).replace(b"Host: g\r\n", b"Host: g\r\nConnection: close\r\n")
    )
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert b"0\r\nX-NPC-Resumed: true\r\n\r\nHTTP/1.1 200 OK" in got


async def test_client_libraries_read_resumed_lines(rig: Rig, pair: World, engine: Engine, second: Engine) -> None:
    engine.script = second.script = breaks_at(at(" there"), rig)
    answer = await rig.say(stream=True, headers=ALLOWED)
    assert answer.text.rstrip().endswith("data: [DONE]")
