"""A tier can vanish and every character still answers: by the next tier, and at last with a line that was written.

Every level says so: in the answer's headers, in the gateways' counters, and in an Event of the voice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial

import pytest_asyncio

from hack.stack.load import Ask, Line, Load
from tests.e2e import trials as t
from tests.e2e.plans import PERSONA
from tests.e2e.world import ARCHETYPES, PROMPT, World

SECONDS = 240


async def test_each_level_speaks_while_those_above_it_are_gone_and_no_longer(stories: t.Stories) -> None:
    await stories["fake"]


async def test_a_real_gold_tier_that_goes_to_nothing_and_comes_back_fails_no_line(stories: t.Stories) -> None:
    await stories["real"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stories(trials: World, world: World) -> AsyncIterator[t.Stories]:
    """Both, under way: most of their time is an engine's start."""
    async with t.at_once({"fake": tell_of_every_level(trials), "real": tell_of_a_real_tier(world)}) as told:
        yield told


async def tell_of_every_level(trials: World) -> None:
    voice = "herald"
    known, before = await trials.events(voice), await counted(trials, voice)
    async with t.load(trials, voice, "gold", "bronze") as load:
        await load.until(8)
        await until_gone(trials, "gold")
        await trials.until_event(voice, "Degraded", "asked on tier gold", known=known, timeout=SECONDS)
        assert said(await settled(load)) == {("gold", "Tier", "bronze"), ("bronze", "", "bronze")}
        known = await trials.events(voice)
        await until_gone(trials, "bronze")
        await trials.until_event(voice, "Degraded", "asked on tier bronze", known=known, timeout=SECONDS)
        lines = await settled(load)
        assert said(lines) == {("gold", "Scripted", "gold"), ("bronze", "Scripted", "bronze")}
        assert {line.text for line in lines} <= set(PERSONA["scriptedLines"])
        known = await trials.events(voice)
        await trials.scale("bronze", 1)
        await load.until_any(partial(is_whole, "bronze", lines[-1].ended), timeout=SECONDS)
        await asyncio.gather(
            trials.until_event(voice, "LessDegraded", "asked on tier gold", known=known, timeout=SECONDS),
            trials.until_event(voice, "NotDegraded", "asked on tier bronze", known=known, timeout=SECONDS),
        )
        assert said(await settled(load)) == {("gold", "Tier", "bronze"), ("bronze", "", "bronze")}
        await trials.scale("gold", 1)
        await load.until_any(partial(is_whole, "gold", lines[-1].ended), timeout=SECONDS)
        assert said(await settled(load)) == {("gold", "", "gold"), ("bronze", "", "bronze")}
    assert not load.tally.failures, [(line.failure, line.ask) for line in load.tally.failures[:5]]
    after = await counted(trials, voice)
    assert after - before == len(load.tally.degraded)
    await trials.until_all_ready()


async def tell_of_a_real_tier(world: World) -> None:
    known, before = await world.events("vampire"), await counted(world, "vampire")
    asks = [Ask(archetype=archetype, prompt=PROMPT, tier="gold") for archetype in ARCHETYPES]
    async with Load(world.url, world.key, asks, rate=4) as load:
        await load.until(len(asks))
        await until_gone(world, "gold")
        assert {(line.degraded, line.tier) for line in await settled(load)} == {("Tier", "silver")}
        await world.until_event("vampire", "Degraded", "asked on tier gold", known=known, timeout=SECONDS)
        await world.scale("gold", 1)
        await world.until_event("vampire", "NotDegraded", "asked on tier gold", known=known, timeout=600)
        assert {(line.degraded, line.tier) for line in await settled(load)} == {("", "gold")}
    world.assert_answered(load.tally)
    degraded = [line for line in load.tally.degraded if line.ask.archetype == "vampire"]
    assert await counted(world, "vampire") - before == len(degraded)
    await world.until_all_ready()


async def until_gone(world: World, tier: str) -> None:
    """No pod of the tier is left."""
    await world.scale(tier, 0)
    await world.until_tier(tier, lambda seen: seen["status"].get("replicas", 0) == 0, timeout=SECONDS)


async def settled(load: Load) -> list[Line]:
    """Lines that began when every gateway surely knew what a status or Event has just told."""
    now = t.taken_from_now()
    await load.until_started_after(now, 12)
    return load.tally.started_after(now)


def is_whole(tier: str, moment: float, line: Line) -> bool:
    """Whether it began after that moment on that tier and was answered there by the voice's adapter."""
    return line.ask.tier == tier and line.started > moment and not (line.degraded or line.failure)


def said(lines: Iterable[Line]) -> set[tuple[str, str, str]]:
    """(tier asked, level, tier that answered)."""
    return {(line.ask.tier, line.degraded, line.tier) for line in lines}


async def counted(world: World, voice: str) -> int:
    """Lines of a voice that the gateways counted as answered by less than was asked for, on whatever level."""
    found = [await t.degraded_lines(world, voice, tier) for tier in world.region.plan.tiers]
    return sum(sum(levels.values()) for levels in found)
