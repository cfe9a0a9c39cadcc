"""A new digest takes over under load: no line fails, and none is spoken by anything but what its header says."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from hack.models.reference import LoneEngine
from hack.stack.install import Stack
from hack.stack.load import TAKEN_SECONDS, Ask, Line, Load, Tally
from tests.e2e.world import PROMPT, TIERS, World

RATE = 6.0
"""Lines a second: what three tiny models on two cores hold with room to spare."""


LONG = 800
"""Tokens of an answer long enough that weights can change in the middle of it, also where that takes a while."""


def asks() -> list[Ask]:
    return [Ask(archetype=archetype, prompt=PROMPT, tier=tier) for tier in TIERS for archetype in ("vampire", "zombie")]


async def test_a_new_digest_takes_over_under_load_without_a_failed_or_mixed_line(world: World) -> None:
    before = await world.stable_digest("vampire", "gold")
    target = world.other_version("vampire", before)
    async with Load(world.url, world.key, asks(), rate=RATE) as load:
        await load.until(12)
        await world.set_version("vampire", target)
        await world.until_adapter_ready("vampire", target)
        taken = time.monotonic() + TAKEN_SECONDS
        await load.until_started_after(taken, 12)
    world.assert_clean(load.tally)
    assert load.tally.by_digest()[before] > 0
    # Lines that started well after the status said so must all be the new one's.
    late = [line for line in load.tally.started_after(taken) if line.ask.archetype == "vampire"]
    assert {line.digest for line in late} == {target}


async def test_the_old_digest_leaves_the_engines_after_the_move(world: World) -> None:
    old = await world.stable_digest("zombie", "bronze")
    new = world.other_version("zombie", old)
    await world.set_version("zombie", new)
    await world.until_adapter_ready("zombie", new)
    await world.until_listed("bronze", present=[("zombie", new)], absent=[("zombie", old)])


async def test_swapping_back_and_forth_quickly_ends_at_the_last_wish(world: World) -> None:
    first = await world.stable_digest("merchant", "silver")
    second = world.other_version("merchant", first)
    async with Load(world.url, world.key, [Ask(archetype="merchant", prompt=PROMPT, tier="silver")], rate=4) as load:
        await load.until(4)
        await world.set_version("merchant", second)
        await world.set_version("merchant", first)
        await world.set_version("merchant", second)
        await world.until_adapter_ready("merchant", second)
        taken = time.monotonic() + TAKEN_SECONDS
        await load.until_started_after(taken, 4)
    world.assert_clean(load.tally)
    assert {line.digest for line in load.tally.started_after(taken)} == {second}


async def test_reloading_under_one_name_is_caught_by_the_checker(stack: Stack) -> None:
    """The control: bytes that change under a served name give an answer of neither version, which does not pass."""
    first, second = (stack.catalog.adapter(name) for name in ("vampire-v1", "vampire-v2"))

    def speak() -> tuple[str, str]:
        with LoneEngine(stack.catalog.base) as engine, ThreadPoolExecutor(1) as caller:
            engine.load("vampire", first)
            pure_first = engine.ask("vampire", PROMPT, max_tokens=LONG)
            speaking = caller.submit(engine.ask, "vampire", PROMPT, max_tokens=LONG)
            while not _is_running(engine):
                assert not speaking.done(), "the answer was over before it was seen running"
            reload = {"lora_name": "vampire", "lora_path": str(second), "load_inplace": True}
            assert engine.call("POST", "/v1/load_lora_adapter", reload).status == 200
            return pure_first, speaking.result()

    pure_first, spoken = await asyncio.to_thread(speak)
    line = Line(ask=Ask(archetype="vampire", prompt=PROMPT), intended=0, text=spoken, digest="first")
    tally = Tally([line])
    assert tally.mixed({("vampire", "first"): pure_first}) == [line]


def _is_running(engine: LoneEngine) -> bool:
    metrics = engine.call("GET", "/metrics").body.decode().splitlines()
    return any(line.startswith("vllm:num_requests_running{") and not line.endswith(" 0.0") for line in metrics)
