"""Every archetype answers on every tier with its own adapter's words, and says which bytes spoke."""

from __future__ import annotations

import aiohttp
import pytest

from hack.stack.load import Ask, ask_once, new_session
from tests.e2e.world import ARCHETYPES, PROMPT, TIERS, World


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("archetype", ARCHETYPES)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_each_archetype_answers_on_each_tier_with_the_text_of_its_own_adapter(
    world: World, archetype: str, tier: str, stream: bool
) -> None:
    digest = await world.stable_digest(archetype, tier)
    line = await world.ask(Ask(archetype=archetype, prompt=PROMPT, tier=tier, stream=stream))
    assert line.failure == ""
    assert (line.tier, line.digest) == (tier, digest)
    assert line.text == world.references[archetype, digest]


async def test_no_two_archetypes_sound_alike(world: World) -> None:
    texts = [world.references[archetype, await world.stable_digest(archetype, "gold")] for archetype in ARCHETYPES]
    assert len(set(texts)) == len(ARCHETYPES)


async def test_the_default_tier_answers_when_the_request_names_none(world: World) -> None:
    line = await world.ask(Ask(archetype="zombie", prompt=PROMPT))
    assert (line.failure, line.tier) == ("", "bronze")


async def test_an_assignment_by_npc_prefix_chooses_the_tier(world: World) -> None:
    line = await world.ask(Ask(archetype="zombie", prompt=PROMPT, npc="boss-7"))
    assert (line.failure, line.tier) == ("", "gold")


async def test_an_unknown_archetype_is_refused_by_name(world: World) -> None:
    line = await world.ask(Ask(archetype="werewolf", prompt=PROMPT))
    assert line.status == 404
    assert "werewolf" in line.failure


async def test_a_caller_without_a_valid_key_is_refused(world: World) -> None:
    async with new_session() as session:
        line = await ask_once(session, world.url, "not-a-key", Ask(archetype="zombie", prompt=PROMPT))
    assert line.status == 401


async def test_the_models_list_names_archetypes_and_no_engine(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.key}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{world.url}/v1/models") as response:
        listed = await response.json()
    assert {entry["id"] for entry in listed["data"]} == set(ARCHETYPES)


async def test_an_engine_answers_nobody_without_its_key(world: World) -> None:
    pod = (await world.pods("gold"))[0]
    url = f"http://{pod['status']['podIP']}:8000/v1/models"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 401


async def test_an_agent_takes_no_order_without_the_token(world: World) -> None:
    pod = (await world.pods("gold"))[0]
    url = f"https://{pod['status']['podIP']}:9443/v1/desired"
    body = {"protocol": 1, "stamp": {"epoch": 2**60, "generation": 1}, "adapters": []}
    headers = {"Authorization": "Bearer wrong"}
    async with aiohttp.ClientSession() as session, session.put(url, json=body, headers=headers, ssl=False) as response:
        assert response.status == 401
    line = await world.ask(Ask(archetype="vampire", prompt=PROMPT, tier="gold"))
    assert line.failure == ""
