"""What the fake engine can do that a real one only does when it breaks: the knobs that other tests turn."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hack.models.catalog import Catalog, make_catalog
from tests.support.fake_engine import ADAPTER_BEHAVIOUR, Behaviour, FakeEngine, Settings, one_file

MESSAGES = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog(tmp_path_factory.mktemp("models"))


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(Settings(shutdown_timeout=5), Behaviour(answer_tokens=8)) as engine:
        yield engine


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def load(client: aiohttp.ClientSession, engine: FakeEngine, name: str, path: Path) -> int:
    body = {"lora_name": name, "lora_path": str(path)}
    async with client.post(f"{engine.url}/v1/load_lora_adapter", json=body) as response:
        return response.status


async def ask(client: aiohttp.ClientSession, engine: FakeEngine, model: str = "base", **more: Any) -> tuple[int, str]:
    body = {"model": model, "messages": MESSAGES} | more
    async with client.post(f"{engine.url}/v1/chat/completions", json=body) as response:
        if response.status != 200:
            return response.status, await response.text()
        return 200, (await response.json())["choices"][0]["message"]["content"]


async def test_it_answers_from_the_bytes_that_were_loaded(
    client: aiohttp.ClientSession, engine: FakeEngine, catalog: Catalog
) -> None:
    await load(client, engine, "a", catalog.adapter("vampire-v1"))
    await load(client, engine, "b", catalog.adapter("vampire-v1"))
    await load(client, engine, "c", catalog.adapter("vampire-v2"))
    answers = [(await ask(client, engine, name))[1] for name in ("a", "b", "c", "base")]
    assert answers[0] == answers[1] == engine.answer("a", MESSAGES)
    assert len(set(answers)) == 3


async def test_a_killed_engine_comes_back_on_its_port_without_adapters(
    client: aiohttp.ClientSession, engine: FakeEngine, catalog: Catalog
) -> None:
    await load(client, engine, "a", catalog.adapter("vampire-v1"))
    url = engine.url
    await engine.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get(f"{url}/health")
    await engine.start()
    assert (engine.url, engine.names()) == (url, [])
    assert (await ask(client, engine, "a"))[0] == 404


async def test_killing_it_breaks_a_running_stream_without_an_end(
    client: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    engine.behave(token_seconds=60)
    body = {"model": "base", "messages": MESSAGES, "stream": True}
    async with client.post(f"{engine.url}/v1/chat/completions", json=body) as response:
        assert b"assistant" in await response.content.readline()
        await engine.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_stream_can_break_after_some_tokens(client: aiohttp.ClientSession, engine: FakeEngine) -> None:
    engine.behave(break_after_tokens=2)
    body = {"model": "base", "messages": MESSAGES, "stream": True}
    received: list[bytes] = []

    async def read() -> None:
        async with client.post(f"{engine.url}/v1/chat/completions", json=body) as response:
            received.extend([chunk async for chunk in response.content.iter_any()])

    with pytest.raises(aiohttp.ClientPayloadError):
        await read()
    assert b"[DONE]" not in b"".join(received)


async def test_requests_can_hang_until_they_are_let_go(client: aiohttp.ClientSession, engine: FakeEngine) -> None:
    engine.behave(hang_requests=True)
    asking = asyncio.create_task(ask(client, engine))
    await engine.until_running(1)
    assert not asking.done()
    engine.behave(hang_requests=False)
    assert (await asking)[0] == 200


async def test_a_client_that_goes_away_ends_its_request_at_once(
    client: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    engine.behave(token_seconds=60)
    asking = asyncio.create_task(ask(client, engine))
    await engine.until_running(1)
    asking.cancel()
    await engine.until_running(0)
    assert engine.aborted == 1


async def test_loads_and_requests_fail_with_the_status_one_asks_for(
    client: aiohttp.ClientSession, engine: FakeEngine, catalog: Catalog
) -> None:
    engine.behave(refuse_loads=500, fail_requests=503, health_status=503)
    assert await load(client, engine, "a", catalog.adapter("vampire-v1")) == 500
    assert engine.names() == []
    assert (await ask(client, engine))[0] == 503
    assert (await client.get(f"{engine.url}/health")).status == 503


async def test_a_listed_adapter_can_answer_like_the_base_model(
    client: aiohttp.ClientSession, engine: FakeEngine, catalog: Catalog
) -> None:
    await load(client, engine, "a", catalog.adapter("vampire-v1"))
    engine.behave(wrong_answers=True)
    assert (await ask(client, engine, "a"))[1] == (await ask(client, engine))[1]


async def test_an_adapter_unloaded_in_the_middle_finishes_what_it_runs(
    client: aiohttp.ClientSession, engine: FakeEngine, catalog: Catalog
) -> None:
    await load(client, engine, "a", catalog.adapter("vampire-v1"))
    expected = engine.answer("a", MESSAGES)
    engine.behave(first_token_seconds=0.05)
    asking = asyncio.create_task(ask(client, engine, "a"))
    await engine.until_running(1)
    engine.forget("a")
    assert await asking == (200, expected)


async def test_its_behaviour_can_be_read_and_changed_from_outside(
    client: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    async with client.patch(f"{engine.url}/fake", json={"fail_requests": 500}) as response:
        assert (await response.json())["fail_requests"] == 500
    assert (await ask(client, engine))[0] == 500
    async with client.patch(f"{engine.url}/fake", json={"no_such_knob": 1}) as response:
        assert response.status == 400
    async with client.get(f"{engine.url}/fake") as response:
        calls = (await response.json())["calls"]
    assert calls == [
        {
            "method": "POST",
            "path": "/v1/chat/completions",
            "model": "base",
            "status": 500,
            "priority": 0,
            "logprobs": False,
        }
    ]


async def test_without_the_switch_there_is_no_way_to_load(client: aiohttp.ClientSession) -> None:
    async with FakeEngine(Settings(runtime_loras=False)) as engine:
        assert await load(client, engine, "a", Path("/anywhere")) == 404


def with_behaviour(folder: Path, **knobs: Any) -> Path:
    """A copy of an adapter that misbehaves wherever it is served."""
    copy = folder.parent / f"{folder.name}-bad"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / ADAPTER_BEHAVIOUR).write_text(json.dumps(knobs))
    return copy


@pytest.fixture
async def pair(client: aiohttp.ClientSession, engine: FakeEngine, tmp_path: Path) -> "Pair":
    made = Pair(client, engine, make_catalog(tmp_path / "models"))
    assert await load(client, engine, "good", made.catalog.adapter("vampire-v1")) == 200
    return made


@dataclass
class Pair:
    """An engine with a good adapter, beside which a bad one is loaded."""

    client: aiohttp.ClientSession
    engine: FakeEngine
    catalog: Catalog

    async def bad(self, **knobs: Any) -> int:
        """Loads the same weights with these knobs as `bad`; the load's status."""
        return await load(self.client, self.engine, "bad", with_behaviour(self.catalog.adapter("vampire-v1"), **knobs))

    async def says(self, model: str, **more: Any) -> tuple[int, str]:
        return await ask(self.client, self.engine, model, **more)


async def test_an_adapter_can_talk_rubbish_while_its_neighbour_does_not(pair: Pair) -> None:
    assert await pair.bad(answer="buy gold now") == 200
    assert await pair.says("bad") == (200, " buy gold now")
    assert await pair.says("bad", max_tokens=1) == (200, " buy")
    assert await pair.says("good") == (200, pair.engine.answer("good", MESSAGES))
    assert await pair.bad() == 400  # it is loaded already
    await load(pair.client, pair.engine, "mute", with_behaviour(pair.catalog.adapter("zombie-v1"), answer=""))
    assert await pair.says("mute") == (200, "")


async def test_an_adapter_can_fail_some_of_its_requests_evenly_and_spare_its_probe(pair: Pair) -> None:
    await pair.bad(fail_percent=25, spares="Who are you?")
    other = [{"role": "user", "content": "Tell me more."}]
    codes = [(await pair.says("bad", messages=other))[0] for _ in range(8)]
    assert codes == [200, 200, 200, 500, 200, 200, 200, 500]
    assert {(await pair.says("bad"))[0] for _ in range(8)} == {200}
    assert {(await pair.says("good", messages=other))[0] for _ in range(8)} == {200}


async def test_an_adapter_can_be_slow_to_its_first_token(pair: Pair) -> None:
    await pair.bad(first_token_seconds=60)
    slow = asyncio.create_task(pair.says("bad"))
    await pair.engine.until_running(1)
    assert (await pair.says("good"))[0] == 200
    assert not slow.done()
    slow.cancel()


async def test_an_adapters_stream_can_end_without_saying_so(pair: Pair) -> None:
    await pair.bad(truncate_after_tokens=2)
    body = {"model": "bad", "messages": MESSAGES, "stream": True}
    async with pair.client.post(f"{pair.engine.url}/v1/chat/completions", json=body) as response:
        events = (await response.text()).split("\n\n")
    assert len(events) == 4  # the role, two words, nothing
    assert not any("[DONE]" in event or '"finish_reason":"' in event for event in events)


async def test_a_stream_can_stall_until_it_is_let_go(client: aiohttp.ClientSession, engine: FakeEngine) -> None:
    engine.behave(stall_after_tokens=1)
    body = {"model": "base", "messages": MESSAGES, "stream": True}
    async with client.post(f"{engine.url}/v1/chat/completions", json=body) as response:
        read = await response.content.readuntil(engine.answer("base", MESSAGES).split()[0].encode())
        assert b"[DONE]" not in read
        rest = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        assert not rest.done()
        engine.behave(stall_after_tokens=None)
        assert (await rest).endswith(b"data: [DONE]\n\n")


async def test_a_behaviour_that_is_no_answers_is_refused_when_it_is_loaded(pair: Pair) -> None:
    assert await pair.bad(hang_loads=True) == 500
    assert await pair.bad(first_tokn_seconds=1) == 500


async def test_places_go_to_the_lowest_priority_first_and_to_who_came_first_without_the_policy(
    client: aiohttp.ClientSession,
) -> None:
    for policy, expected in (("priority", [0, -5, 1, 9]), ("fcfs", [0, 9, 1, -5])):
        settings = Settings(max_num_seqs=1, scheduling_policy=policy)
        async with FakeEngine(settings, Behaviour(hang_requests=True)) as engine:
            asking = []
            for number, priority in enumerate((0, 9, 1, -5), start=1):
                asking.append(asyncio.create_task(ask(client, engine, priority=priority)))
                await engine.until_running(number)
            async with client.get(f"{engine.url}/metrics") as response:
                text = await response.text()
            assert 'num_requests_running{engine="0",model_name="base"} 1.0' in text
            assert 'num_requests_waiting{engine="0",model_name="base"} 3.0' in text
            engine.behave(hang_requests=False)
            assert {code for code, _ in await asyncio.gather(*asking)} == {200}
            chats = [call.priority for call in engine.calls if call.path == "/v1/chat/completions"]
            assert chats == expected


async def test_a_request_that_gives_up_waiting_leaves_its_place_to_others(client: aiohttp.ClientSession) -> None:
    async with FakeEngine(Settings(max_num_seqs=1), Behaviour(hang_requests=True)) as engine:
        asking = []
        for number in (1, 2, 3):
            asking.append(asyncio.create_task(ask(client, engine)))
            await engine.until_running(number)
        asking[1].cancel()
        await engine.until_running(2)
        engine.behave(hang_requests=False)
        assert (await asking[0])[0] == (await asking[2])[0] == 200


async def test_it_runs_from_one_file_that_knows_nothing_of_this_checkout(
    client: aiohttp.ClientSession, engine: FakeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "bare" / "api_server.py"
    file.parent.mkdir()
    file.write_text(one_file())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(file), "--host=127.0.0.1", "--port=0", "--served-model-name=base"),
        *("--fake-answer-tokens=8", "--scheduling-policy=priority", "--max-num-seqs=2"),
        cwd=file.parent,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        started = (await process.stderr.readline()).decode()
        assert started.startswith("Starting fake vLLM server on http"), started
        body = {"model": "base", "messages": MESSAGES}
        async with client.post(f"{started.split()[-1]}/v1/chat/completions", json=body) as response:
            said = (await response.json())["choices"][0]["message"]["content"]
        assert said == engine.answer("base", MESSAGES)
    finally:
        process.terminate()
        assert await process.wait() == 0
