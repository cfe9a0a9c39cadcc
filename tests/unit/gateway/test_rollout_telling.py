"""Counts are gathered while something is tried, and not at rest."""

from __future__ import annotations

import asyncio

import pytest

from npc_runtime import wire
from npc_runtime.gateway.rollouts import telling
from npc_runtime.gateway.rollouts.tally import Seen
from npc_runtime.gateway.rollouts.telling import Telling
from npc_runtime.gateway.table import CompiledTable, compile_table
from tests.unit.gateway.tables import NEW, OLD, route_table

SEEN = Seen(archetype="vampire", tier="gold", stable=OLD, candidate=NEW)
AT_REST = compile_table(route_table())


def trying() -> CompiledTable:
    table = route_table(targets=((OLD, 90), (NEW, 10)))
    rollout = wire.AliasRollout(candidate_below=1000, control_below=2000)
    aliases = tuple(alias.model_copy(update={"rollout": rollout}) for alias in table.aliases)
    return compile_table(table.model_copy(update={"aliases": aliases}))


async def test_counts_are_asked_for_only_while_something_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "TELL_SECONDS", 0.001)
    asked = 0
    told: list[tuple[Seen, ...]] = []
    thrice = asyncio.Event()

    async def ask() -> list[Seen]:
        nonlocal asked
        asked += 1
        if asked == 3:
            thrice.set()
        return [SEEN]

    teller = Telling(ask=ask, tell=told.append)
    task = asyncio.create_task(teller.tell_for_ever())
    teller.follow(AT_REST)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (asked, told) == (0, [])
    teller.follow(trying())
    async with asyncio.timeout(50):
        await thrice.wait()
    teller.follow(AT_REST)
    assert told[-1] == ()
    for _ in range(3):
        await asyncio.sleep(0.001)
    after = asked
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert asked == after
    assert told[-1] == ()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_gathered_while_the_rollout_ends_is_told_to_nobody() -> None:
    told: list[tuple[Seen, ...]] = []

    async def ask() -> list[Seen]:
        teller.follow(AT_REST)
        return [SEEN]

    teller = Telling(ask=ask, tell=told.append)
    teller.follow(trying())
    task = asyncio.create_task(teller.tell_for_ever())
    async with asyncio.timeout(50):
        while not told:  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [()]
