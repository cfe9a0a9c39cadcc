"""Engines that end under load, played by the stand-in for vLLM that the contract suite holds to the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import pytest

from npc_runtime import wire
from tests.component.gateway.harness import Answer, Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import ENGINE_KEY, OLD
from tests.support.fake_engine import Behaviour, FakeEngine, Settings

NAME = wire.served_name("vampire", OLD)


@dataclass
class Stood:
    """The fake engine as a pod of a route table."""

    engine: FakeEngine

    def __post_init__(self) -> None:
        self.loaded = {NAME}
        self.port = urlsplit(self.engine.url).port or 0


@pytest.fixture
async def pods(rig: Rig) -> AsyncIterator[list[Stood]]:
    """Two engines that serve the vampire, in force."""
    settings = Settings(served_model_name=NAME, api_keys=(ENGINE_KEY,), shutdown_timeout=60.0)
    behaviour = Behaviour(token_seconds=0.005, answer_tokens=10)
    async with FakeEngine(settings, behaviour) as first, FakeEngine(settings, behaviour) as second:
        stood = [Stood(first), Stood(second)]
        await rig.push(World(engines={"gold": stood}).table())
        yield stood


class Load:
    """Eight clients, one line after the other until `end`."""

    def __init__(self, rig: Rig, *, stream: bool, **headers: str) -> None:
        self._rig = rig
        self._stream = stream
        self._headers = headers
        self._done = False
        self._answers: list[Answer | aiohttp.ClientError] = []
        self._clients = [asyncio.ensure_future(self._ask()) for _ in range(8)]

    async def go_on(self, lines: int = 40) -> None:
        """Return after so many more lines."""
        enough = len(self._answers) + lines
        await eventually(lambda: len(self._answers) >= enough, seconds=30)

    async def end(self) -> list[Answer | aiohttp.ClientError]:
        """Let the last lines end, and return all answers."""
        self._done = True
        await asyncio.gather(*self._clients)
        return self._answers

    async def _ask(self) -> None:
        while not self._done:
            try:
                self._answers.append(await self._rig.say(stream=self._stream, max_tokens=10, headers=self._headers))
            except aiohttp.ClientError as error:
                self._answers.append(error)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_engine_that_is_told_to_end_costs_no_line(rig: Rig, pods: list[Stood], stream: bool) -> None:
    lines = Load(rig, stream=stream)
    first = pods[0].engine
    await eventually(lambda: first.running > 0)
    # Not withdrawn beforehand: new requests meet HTTP 500 while it drains, then a closed port.
    await first.terminate()
    await lines.go_on()
    answers = await lines.end()
    assert len(answers) > 20
    for answer in answers:
        assert isinstance(answer, Answer)
        assert answer.status == 200, answer.text
        assert answer.spoken


async def test_an_engine_that_is_killed_costs_no_line_that_had_not_begun(rig: Rig, pods: list[Stood]) -> None:
    lines = Load(rig, stream=False)
    first = pods[0].engine
    await eventually(lambda: first.running > 0)
    await first.stop()
    await lines.go_on()
    for answer in await lines.end():
        assert isinstance(answer, Answer)
        assert answer.status == 200, answer.text


async def test_lines_that_had_begun_on_a_killed_engine_are_never_taken_for_whole(rig: Rig, pods: list[Stood]) -> None:
    first, second = (pod.engine for pod in pods)
    first.behave(token_seconds=0.3)
    second.behave(token_seconds=0.3)
    lines = Load(rig, stream=True)
    # Each of the eight lines has begun at its client, some of them at the engine that ends in this very moment.
    await eventually(lambda: rig.streaming == 8 and first.running >= 2)
    await first.stop()
    second.behave(token_seconds=0.005)
    await lines.go_on()
    answers = await lines.end()
    broken = [answer for answer in answers if isinstance(answer, aiohttp.ClientError)]
    assert 0 < len(broken) <= 8
    for answer in answers:
        if isinstance(answer, Answer):
            assert answer.status == 200, answer.text
            assert answer.spoken


async def test_lines_that_may_be_gone_on_with_are_whole_although_their_engine_is_killed(
    rig: Rig, pods: list[Stood]
) -> None:
    text = " The night is long. Who goes there? Leave me!"
    for pod in pods:
        pod.engine.behave(answer=text, token_seconds=0.05)
    lines = Load(rig, stream=True, **{"X-NPC-Resume": "Sentences"})
    first = pods[0].engine
    await eventually(lambda: first.running >= 2 and rig.streaming == 8)
    await first.stop()
    await lines.go_on(16)
    answers = await lines.end()
    assert {answer.spoken for answer in answers if isinstance(answer, Answer)} == {text}
    # A host that is busy beyond measure may not let the gateway connect in time, twice.
    assert sum(isinstance(answer, aiohttp.ClientError) for answer in answers) <= 1
    await eventually(lambda: any(line.get("resumed") for line in rig.access_lines()))


async def test_a_killed_engine_is_used_again_once_it_is_back(rig: Rig, pods: list[Stood]) -> None:
    first, second = (pod.engine for pod in pods)
    await first.stop()
    assert (await rig.say()).status == 200
    await first.start()
    await second.stop()
    assert (await rig.say()).status == 200
