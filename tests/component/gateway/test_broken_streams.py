"""A stream that broke after its first byte: never tried again, never to be taken for whole."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.component.gateway.engines import Asked, Engine, Reply, Script, chunk
from tests.component.gateway.harness import Rig, completion, eventually, raw
from tests.component.gateway.regions import World


def speak_then(rig: Rig, fault: bytes | None) -> Script:
    """Begin, and go wrong once the beginning is with the client."""

    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "begun"}}]})
        await eventually(lambda: rig.streaming > 0)
        if fault is not None:
            await reply.send(fault)
        reply.reset()

    return script


HALF_EVENTS = {
    "nothing": None,
    "a character saying DONE": chunk(b'data: {"choices": [{"delta": {"content": "data: [DONE]"}}]}\n\n'),
    "half a chunk": b'40\r\ndata: {"choices": [{"delta": {"con',
    "half a chunk header": b"4",
    "an end without DONE": b"0\r\n\r\n",
    "nonsense": b"nonsense\r\n",
    "an end after a half trailer": b"0\r\n\r",
}


@pytest.mark.parametrize("fault", HALF_EVENTS.values(), ids=HALF_EVENTS.keys())
async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_end(
    rig: Rig, pair: World, engine: Engine, second: Engine, fault: bytes | None
) -> None:
    engine.script = second.script = speak_then(rig, fault)
    request = completion(stream=True)
    got = await raw(rig.port, request)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    events = [line for line in body.decode().split("\n") if line.startswith("data: ")]
    assert "begun" in events[0]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_interrupted"
    assert "data: [DONE]" not in events
    assert not got.endswith(b"0\r\n\r\n")
    assert engine.chats + second.chats == 1


async def test_an_event_cut_over_two_chunks_gets_no_error_event_glued_to_it(
    rig: Rig, world: World, engine: Engine
) -> None:
    engine.script = speak_then(rig, chunk(b'data: {"half": '))
    got = await raw(rig.port, completion(stream=True))
    assert got.endswith(chunk(b'data: {"half": '))
    assert b"engine_interrupted" not in got


async def test_a_client_library_raises_on_a_broken_stream(rig: Rig, world: World, engine: Engine) -> None:
    engine.script = speak_then(rig, None)
    with pytest.raises(aiohttp.ClientPayloadError):
        await rig.say(stream=True)


async def test_a_stream_that_said_done_is_whole_even_if_its_framing_breaks(
    rig: Rig, world: World, engine: Engine
) -> None:
    async def script(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "all"}}]})
        await reply.send(chunk(b"data: [DONE]\n\n"))
        reply.reset()

    engine.script = script
    assert (await rig.say(stream=True)).spoken == "all"
