"""How a gateway ends: unready at once, and its lines come to their end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import completion, eventually, running
from tests.component.gateway.regions import World


async def test_on_shutdown_it_turns_unready_at_once_and_finishes_its_lines(tmp_path: Path, engine: Engine) -> None:
    engine.pause = 0.2
    async with running(tmp_path, shutdown_delay=3.0, drain=30.0) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        line = asyncio.ensure_future(rig.say(stream=True))
        await eventually(lambda: engine.running == 1)
        stopping = asyncio.ensure_future(rig.gateway.stop())
        await eventually(lambda: rig.service.draining)
        late = asyncio.ensure_future(rig.say())
        assert (await rig.ready())[0] == 503
        answers = await asyncio.gather(line, late)
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[1].headers["Connection"] == "close"
        await asyncio.wait_for(stopping, 30)
        with pytest.raises(aiohttp.ClientError):
            await rig.say()


async def test_a_quiet_moment_before_the_drain_does_not_cut_lines_that_begin_after_it(
    tmp_path: Path, engine: Engine
) -> None:
    async with running(tmp_path, shutdown_delay=3.0, drain=30.0) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        stopping = asyncio.ensure_future(rig.gateway.stop())
        await eventually(lambda: rig.service.draining)
        assert (await rig.say()).status == 200
        await eventually(lambda: not rig.service.busy)
        engine.pause = 0.2
        line = await rig.say(stream=True)
        assert line.status == 200
        assert "[DONE]" in line.text
        await asyncio.wait_for(stopping, 30)


async def test_on_shutdown_a_request_whose_head_is_still_arriving_is_answered(tmp_path: Path, engine: Engine) -> None:
    async with running(tmp_path, drain=30.0) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        request = completion(stream=False)
        writer.write(request[:30])
        await eventually(lambda: rig.service.busy == 1)
        stopping = asyncio.ensure_future(rig.gateway.stop())
        await eventually(lambda: rig.service.draining)
        writer.write(request[30:])
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await asyncio.wait_for(stopping, 30)


async def test_on_shutdown_lines_that_do_not_end_are_cut_after_the_drain_time(tmp_path: Path, engine: Engine) -> None:
    engine.pause = 30
    async with running(tmp_path, drain=0.3) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        line = asyncio.ensure_future(rig.say(stream=True))
        await eventually(lambda: engine.running == 1)
        await asyncio.wait_for(rig.gateway.stop(), 30)
        with pytest.raises(aiohttp.ClientError):
            await line
        await asyncio.wait_for(engine.aborted.wait(), 30)


async def test_on_shutdown_a_request_that_is_still_arriving_is_answered(tmp_path: Path, engine: Engine) -> None:
    async with running(tmp_path, drain=30.0) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        request = completion(stream=False)
        writer.write(request[:-5])
        await eventually(lambda: rig.service.connections == 1 and rig.service.busy == 1)
        stopping = asyncio.ensure_future(rig.gateway.stop())
        await eventually(lambda: rig.service.draining)
        writer.write(request[-5:])
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await asyncio.wait_for(stopping, 30)
