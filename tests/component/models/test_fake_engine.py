"""What the fake engine can do that a real one only does when it breaks: the knobs that other tests turn."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hack.models.catalog import Catalog, make_catalog
from tests.support.fake_engine import Behaviour, FakeEngine, Settings

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
    assert calls == [{"method": "POST", "path": "/v1/chat/completions", "model": "base", "status": 500}]


async def test_without_the_switch_there_is_no_way_to_load(client: aiohttp.ClientSession) -> None:
    async with FakeEngine(Settings(runtime_loras=False)) as engine:
        assert await load(client, engine, "a", Path("/anywhere")) == 404
