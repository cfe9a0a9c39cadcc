"""Which of several pods is asked: the one that has heard this conversation before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, eventually, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import OLD

SERVED = wire.served_name("vampire", OLD)


@pytest.fixture
async def engines() -> AsyncIterator[list[Engine]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Engine(SERVED)) for _ in range(4)]


@pytest.fixture
async def affine(tmp_path: Path, engines: list[Engine]) -> AsyncIterator[Rig]:
    """A gateway with four pods that sends lines where their beginning is cached."""
    async with running(tmp_path, prefix_affinity=True) as rig:
        await rig.push(World(engines={"gold": engines}).table())
        yield rig


async def talk(rig: Rig, npc: str, player: str = "p", *, text: str = "Hello") -> None:
    answer = await rig.say(npc=npc, headers={"X-Player-Id": player}, messages=[{"role": "user", "content": text}])
    assert answer.status == 200


def counts(engines: list[Engine]) -> list[int]:
    return [engine.chats for engine in engines]


async def test_a_conversation_stays_on_one_pod_whatever_is_said(affine: Rig, engines: list[Engine]) -> None:
    for number in range(12):
        await talk(affine, "lady-orlok", text=f"line {number}")
    assert sorted(counts(engines)) == [0, 0, 0, 12]


async def test_many_conversations_use_every_pod(affine: Rig, engines: list[Engine]) -> None:
    for number in range(300):  # so many that no ring of pods with whatever ports leaves one out by chance
        await talk(affine, f"npc-{number}")
    assert min(counts(engines)) > 4


async def test_lines_of_nobody_in_particular_go_by_how_they_begin(affine: Rig, engines: list[Engine]) -> None:
    for _ in range(6):
        await affine.say(messages=[{"role": "system", "content": "You are a vampire."}])
    assert sorted(counts(engines)) == [0, 0, 0, 6]
    for number in range(200):
        await affine.say(messages=[{"role": "system", "content": f"You are vampire {number}."}])
    assert min(counts(engines)) > 2


async def test_a_busy_favourite_spreads(affine: Rig, engines: list[Engine]) -> None:
    gate = asyncio.Event()

    async def hold(asked: Asked, reply: Reply) -> None:
        await gate.wait()
        await engines[0].answer(asked, reply)

    for engine in engines:
        engine.script = hold
    lines = [asyncio.create_task(talk(affine, "lady-orlok")) for _ in range(40)]
    await eventually(lambda: sum(engine.running for engine in engines) == 40)
    assert max(engine.running for engine in engines) <= 13  # 1.25 times the average
    gate.set()
    await asyncio.gather(*lines)


async def test_a_conversation_moves_on_when_its_pod_fails_and_costs_no_line(affine: Rig, engines: list[Engine]) -> None:
    await talk(affine, "lady-orlok")
    (home,) = [engine for engine in engines if engine.chats]
    await home.stop()
    for _ in range(4):
        await talk(affine, "lady-orlok")
    assert sorted(counts(engines)) == [0, 0, 1, 4]
