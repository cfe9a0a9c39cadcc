"""Who may speak: keys come and go while lines are running."""

from __future__ import annotations

import asyncio

from npc_runtime import wire
from tests.component.gateway.engines import Engine
from tests.component.gateway.harness import Rig
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY


async def test_only_a_known_key_may_speak(rig: Rig, world: World, engine: Engine) -> None:
    for key in (None, "", "wrong", KEY + "x", KEY[:-1]):
        answer = await rig.say(key=key)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await rig.say(headers={"Authorization": f"Basic {KEY}"}, key=None)).status == 401
    assert (await rig.say(headers={"Authorization": f"bearer {KEY}"}, key=None)).status == 200
    assert engine.chats == 1


async def test_a_key_is_added_and_revoked_on_the_same_connection(rig: Rig, world: World) -> None:
    assert (await rig.say()).status == 200
    assert (await rig.say(key="second")).status == 401
    world.keys = {"game": KEY, "other": "second"}
    await rig.push(world.table())
    assert (await rig.say(key="second")).status == 200
    world.keys = {"other": "second"}
    await rig.push(world.table())
    assert (await rig.say()).status == 401
    assert (await rig.say(key="second")).status == 200


async def test_a_hash_that_is_none_locks_out_nobody_else(rig: Rig, world: World) -> None:
    table = world.table()
    broken = wire.ApiKey(name="broken", sha256="not-a-hash")
    await rig.push(table.model_copy(update={"api_keys": (broken, *table.api_keys)}))
    assert (await rig.say()).status == 200
    assert (await rig.say(key="not-a-hash")).status == 401


async def test_without_authentication_everyone_may_speak(rig: Rig, world: World) -> None:
    world.authentication = "None"
    await rig.push(world.table())
    assert (await rig.say(key=None)).status == 200
    assert (await rig.say(key="anything")).status == 200


async def test_before_the_first_table_nothing_is_served_but_everything_answers(rig: Rig) -> None:
    assert (await rig.say()).status == 503
    assert await rig.ready() == (503, "no route table yet\n")
    async with rig.session.get(rig.url("/healthz", port="health")) as answer:
        assert answer.status == 200
    async with rig.session.get(rig.url("/openapi.json")) as answer:
        assert (await answer.json())["openapi"] == "3.1.0"


async def test_no_key_that_still_counts_is_refused_while_keys_are_rotated(rig: Rig, world: World) -> None:
    """The old key and the new one speak, each on its connections, while tables with both are pushed again and again."""
    rotating = {"game": KEY, "game-2": "second"}
    world.keys = rotating
    await rig.push(world.table())
    stop = asyncio.Event()

    async def speak(key: str) -> list[int]:
        found = []
        while not stop.is_set():
            found.append((await rig.say(key=key)).status)
        return found

    speaking = [asyncio.create_task(speak(key)) for key in (KEY, KEY, "second", "second")]
    for number in range(20):
        world.keys = dict(reversed(rotating.items())) if number % 2 else {**rotating, f"tools-{number}": "third"}
        await rig.push(world.table())
    stop.set()
    statuses = [await each for each in speaking]
    assert all(statuses)
    assert {status for found in statuses for status in found} == {200}
