"""Who may ask what, how much, and for how long: over real connections."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import aiohttp
import pytest

from npc_runtime import wire
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY, OLD
from tests.unit.gateway.tokens import identity, token


def key(name: str, **policy: Any) -> wire.ApiKey:
    """A key whose text is its name."""
    return wire.ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), **policy)


async def push(rig: Rig, world: World, *keys: wire.ApiKey, **changes: Any) -> None:
    table = world.table()
    await rig.push(table.model_copy(update={"api_keys": (*table.api_keys, *keys), **changes}))


async def listed(rig: Rig, presented: str) -> list[str]:
    headers = {"Authorization": f"Bearer {presented}"}
    async with rig.session.get(rig.url("/v1/models"), headers=headers) as answer:
        assert answer.status == 200
        return [model["id"] for model in (await answer.json())["data"]]


async def test_a_key_asks_for_what_its_policy_names_and_no_engine_hears_of_the_rest(
    rig: Rig, world: World, engine: Engine
) -> None:
    engine.loaded.add(wire.served_name("ghoul", OLD))
    world.aliases["gold", "ghoul"] = [(OLD, 100)]
    world.engines = {"gold": [engine], "silver": []}
    await push(rig, world, key("vampires", archetypes=("vampire",)), key("silver-only", tiers=("silver",)))
    assert await listed(rig, KEY) == ["ghoul", "vampire"]
    assert await listed(rig, "vampires") == ["vampire"]
    assert (await rig.say(key="vampires")).status == 200
    refused = await rig.say("ghoul", key="vampires")
    assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "archetype_not_allowed", "model")
    refused = await rig.say("nobody", key="vampires")
    assert refused.status == 403, "what it may not ask for, it is not told of either"
    refused = await rig.say(key="silver-only")
    assert (refused.status, refused.error["code"]) == (403, "tier_not_allowed")
    assert engine.chats == 1
    assert 'npc_gateway_errors_total{archetype="",reason="Forbidden",tier=""} 3.0' in await rig.metrics()


async def test_a_key_ends_on_a_connection_that_is_kept(
    rig: Rig, world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(rig.service.callers, "_clock", lambda: now)
    await push(rig, world, key("brief", expires_ms=int(now * 1000) + 500))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:

        async def ask() -> tuple[int, str]:
            headers = {"Authorization": "Bearer brief"}
            async with session.get(rig.url("/v1/models"), headers=headers) as answer:
                return answer.status, await answer.text()

        assert (await ask())[0] == 200
        now += 1.0
        status, text = await ask()
        assert status == 401
        assert json.loads(text)["error"]["code"] == "expired_api_key"
        assert rig.service.connections == 1


@pytest.fixture
def no_time_passes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what callers may ask: no token comes back while a test looks at them."""
    now = time.monotonic()
    monkeypatch.setattr(rig.service.callers, "_monotonic", lambda: now)


@pytest.mark.usefixtures("no_time_passes")
async def test_too_many_lines_are_told_when_to_come_back(rig: Rig, world: World, engine: Engine) -> None:
    await push(rig, world, key("busy", rate=wire.Rate(requests_per_second=1, burst=2)))
    answers = [await rig.say(key="busy") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    refused = answers[2]
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["RateLimit-Policy"] == '"key";q=2;w=2'
    assert refused.headers["RateLimit"] == '"key";r=0;t=1'
    assert (await rig.say()).status == 200, "other keys do not notice"
    await push(rig, world, key("busy", rate=wire.Rate(requests_per_second=1, burst=2)))
    assert (await rig.say(key="busy")).status == 429, "a push gives nothing back"
    assert await listed(rig, "busy") == ["vampire"], "only lines are counted"
    assert engine.chats == 3


@pytest.mark.usefixtures("no_time_passes")
async def test_the_regions_rate_is_for_all_keys_and_shared_out_among_gateways(rig: Rig, world: World) -> None:
    await push(rig, world, key("other"), rate=wire.Rate(requests_per_second=1, burst=4), ready_gateways=2)
    answers = [await rig.say(key=name) for name in (KEY, "other", KEY)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["RateLimit"].startswith('"region";r=0;t=')


async def test_a_service_account_speaks_without_a_key(rig: Rig, world: World, engine: Engine) -> None:
    await push(rig, world, identity=identity())
    presented = token().decode()
    for _ in range(2):
        assert (await rig.say(key=presented)).status == 200
    assert await listed(rig, presented) == ["vampire"]
    assert (await rig.say()).status == 200, "keys still count"
    refused = await rig.say(key=token(sub="system:serviceaccount:game:other").decode())
    assert (refused.status, refused.error["code"]) == (403, "service_account_not_allowed")
    refused = await rig.say(key=token(aud=["elsewhere"]).decode())
    assert (refused.status, refused.error["code"]) == (401, "invalid_token")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    refused = await rig.say(key=presented[:-4] + "AAAA")
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    assert engine.chats == 3
    await rig.gateway.plane.counts()
    rig.service.sweep(0.0)
    await eventually(lambda: b'"key":"game:server"' in rig.log.getvalue())
    assert presented.encode() not in rig.log.getvalue()
    await push(rig, world, identity=identity(subjects=("game:else",)))
    assert (await rig.say(key=presented)).status == 403, "taken off the list it is refused at once"


async def test_a_keys_salt_reaches_the_engine_and_a_callers_own_does_not(
    rig: Rig, world: World, engine: Engine
) -> None:
    await push(rig, world, key("tenant", cache_salt="s3cret"))
    assert (await rig.say(key="tenant", cache_salt="mine")).status == 200
    assert (await rig.say(key="tenant")).status == 200
    assert (await rig.say(cache_salt="mine")).status == 200
    assert (await rig.say()).status == 200
    assert [asked.body.get("cache_salt") for asked in engine.asked] == ["s3cret", "s3cret", "mine", None]
