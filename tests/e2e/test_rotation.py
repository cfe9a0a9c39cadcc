"""Every secret can be replaced while lines are being spoken."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from hack.stack.load import Ask, Load, ask_once, new_session
from tests.e2e.world import PROMPT, TIERS, World

ASKS = [Ask(archetype="merchant", prompt=PROMPT, tier=tier) for tier in TIERS]


@pytest.mark.parametrize("what", ["token", "certificate"])
async def test_internal_credentials_rotate_under_load_without_a_failed_line(world: World, what: str) -> None:
    before = await world.internal_secret()
    async with Load(world.url, world.key, ASKS, rate=4) as load:
        await load.until(4)
        await world.annotate_region(f"npcfleet.dev/rotate-{what}")
        key = "token" if what == "token" else "tls.crt"
        rotated = await world.until_internal_secret(lambda data: data[key] != before[key])
        # The proof that it still works end to end: an adapter changes after the rotation.
        old = await world.stable_digest("merchant", "gold")
        new = world.other_version("merchant", old)
        await world.set_version("merchant", new)
        await world.until_adapter_ready("merchant", new)
        await load.until(8)
    world.assert_clean(load.tally)
    if what == "token":
        # As it was written then: the old token is forgotten once no pod needs it, however long the rest took.
        assert rotated["token-previous"] == before["token"]


async def test_the_engine_key_rotates_by_replacing_pods_one_by_one(world: World) -> None:
    before = {tier: {pod["metadata"]["uid"] for pod in await world.pods(tier)} for tier in TIERS}
    async with Load(world.url, world.key, ASKS, rate=3) as load:
        await load.until(3)
        await world.annotate_region("npcfleet.dev/rotate-engine-key")
        for tier in TIERS:
            await world.until_rolled(tier, before[tier], timeout=600)
        await load.until(6)
    world.assert_clean(load.tally)


async def test_an_api_key_works_within_five_seconds_and_stops_within_five(world: World) -> None:
    key, ask = secrets.token_urlsafe(24), Ask(archetype="zombie", prompt=PROMPT, tier="bronze", max_tokens=1)

    async def until_status(status: int) -> float:
        started = asyncio.get_running_loop().time()
        async with new_session() as session:
            while (await ask_once(session, world.url, key, ask)).status != status:
                assert asyncio.get_running_loop().time() - started < 5, f"no {status} within 5 s"
        return asyncio.get_running_loop().time() - started

    await until_status(401)
    await world.set_api_key("e2e-extra", key)
    await until_status(200)
    await world.set_api_key("e2e-extra", None)
    await until_status(401)
