"""A rollout outlives those who run it, and a bad candidate comes off without them. On fake engines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hack.stack.kubectl import Object
from hack.stack.load import Ask, Line, ask_once, new_session
from tests.e2e import trials as t
from tests.e2e.plans import STEPS
from tests.e2e.world import World

SECONDS = 300
ENOUGH = 10
"""Three bad answers of three are enough for a gateway alone; a few more may be under way while they are judged."""
LASTING = {**t.QUICK, "stepSeconds": 10}
"""Steps that last until their leader is found and killed, and no longer than it takes to have another."""


async def test_a_rollout_goes_on_where_it_was_when_its_leader_is_killed_at_each_step(
    trials: World, tmp_path: Path
) -> None:
    voice = "knight"
    source = _, digest = await t.publish(trials, voice, tmp_path)
    await t.let_first_speak(trials, voice, "bronze")
    leaders = []
    async with t.load(trials, voice) as load:
        await t.begin(trials, voice, source, LASTING)
        for share in STEPS:
            seen = await trials.until_adapter(voice, partial(is_at, digest, share), timeout=SECONDS)
            assert t.percent(seen, digest) == share, "a step was passed before its leader could be killed"
            pod, leader = await trials.leader()
            await trials.kill_operator(pod)
            leaders.append(leader)
        seen = await trials.until_adapter(voice, lambda o: t.has_moved(o, digest), timeout=SECONDS)
        await load.until_started_after(t.taken_from_now(), 8)
    trials.assert_clean(load.tally)
    assert len(set(leaders)) == len(STEPS), "each was led by another"
    steps = t.steps_of(seen, digest)
    assert [percent for percent, _ in steps] == [*STEPS, 100], "none was taken twice and none left out"
    t.assert_shares(load.tally.lines, digest, steps)
    await t.end(trials, voice)
    await trials.until_all_ready()


def is_at(digest: str, share: int, seen: Object) -> bool:
    return t.percent(seen, digest) >= share or t.has_moved(seen, digest)


async def test_each_gateway_takes_a_bad_candidate_off_while_there_is_no_operator(trials: World, tmp_path: Path) -> None:
    voice = "pirate"
    # It takes its time, as an engine does: answers are read some times a second, and not one by one.
    rubbish: dict[str, Any] = {"answer": "Lorem ipsum dolor sit amet", "first_token_seconds": 0.1}
    source = _, digest = await t.publish(trials, voice, tmp_path, **rubbish)
    stable = await trials.stable_digest(voice, "bronze")
    await t.let_first_speak(trials, voice, "bronze")
    # It is in the first step, and nobody has asked it anything yet, when the operator goes.
    await t.begin(trials, voice, source, {**t.QUICK, "stepSeconds": 3600})
    await trials.until_adapter(voice, lambda o: t.percent(o, digest) == STEPS[0], timeout=SECONDS)
    gateways = await t.gateways(trials)
    assert len(gateways) == 2
    await trials.scale_operator(0)
    try:
        for url in gateways:
            heard = await until_off(trials, url, t.asks(voice, t.npcs(voice, (0, STEPS[0]), 4)), digest)
            assert 0 < len(heard) <= ENOUGH, f"{len(heard)} lines of a candidate that says nothing but rubbish"
        async with t.load(trials, voice) as load:
            await load.until(len(t.crowd(voice)))
        trials.assert_clean(load.tally)
        assert set(load.tally.by_digest()) == {stable}
    finally:
        await trials.scale_operator(2)
    seen = await trials.until_adapter(voice, lambda o: t.is_taken_back(o, digest), timeout=SECONDS)
    assert t.variant(seen)["rejected"]["reason"] == "WithdrawnByGateway"
    await t.end(trials, voice)
    await trials.until_all_ready()


async def until_off(world: World, url: str, asks: Sequence[Ask], digest: str) -> list[Line]:
    """Asks one gateway until another digest answers those who would hear the candidate; the lines before that."""
    heard: list[Line] = []
    async with new_session() as session:
        for ask in itertools.cycle(asks):
            line = await ask_once(session, url, world.key, ask)
            assert not line.failure, line
            if line.digest != digest:
                return heard
            heard.append(line)
            assert len(heard) < 100, "it goes on and on"
    raise AssertionError("there was nothing to ask")
