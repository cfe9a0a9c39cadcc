"""What a line leaves behind: nothing that only a collector of garbage would find, which stops every other line."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from npc_runtime.gateway.attempt import Attempt
from npc_runtime.gateway.descent import Descent
from npc_runtime.gateway.exchange import Exchange
from npc_runtime.gateway.pursuit import Pursuit
from npc_runtime.gateway.stay import Stay
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import STEP_SECONDS, Rig
from tests.component.gateway.ladders import LINES, Region, voice

KINDS = (Exchange, Pursuit, Stay, Descent, Attempt)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def parts() -> list[object]:
    """Parts of lines that are there, whoever holds them."""
    return [each for each in gc.get_objects() if isinstance(each, KINDS)]


async def refuse(asked: Asked, reply: Reply) -> None:
    await reply.json(400, {"error": {"message": "no"}})


async def break_off(asked: Asked, reply: Reply) -> None:
    reply.reset()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("script", [None, refuse, break_off], ids=["answered", "refused", "scripted"])
async def test_a_line_that_ended_leaves_no_circle_of_references(
    rig: Rig, engine: Engine, stream: bool, script: object
) -> None:
    engine.script = script  # type: ignore[assignment]
    world = Region(
        engines={"gold": [engine]},
        voices=(voice(lines=LINES),),
        routes={"gold": {"slots": 4, "queue": 4, "first_token_milliseconds": 5000, "stall_seconds": 5}},
    )
    await rig.push(world.table())
    others = parts()
    before = {id(each) for each in others}
    for _ in range(5):
        await rig.say(stream=stream)
    for _ in range(20):  # what the last line did after its client had it may take some turns more
        left = [each for each in parts() if id(each) not in before]
        if not left:
            break
        left.clear()
        await asyncio.sleep(STEP_SECONDS)
    assert [each for each in parts() if id(each) not in before] == []
    del others  # until here, so that none of their ids was another's
