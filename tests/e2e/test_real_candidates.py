"""Candidates on real engines: whose voice a character has is heard in the very words, and the hash says whose it has
to be.
"""

from __future__ import annotations

import re
from pathlib import Path

from hack.models.words import THEMES
from hack.stack.load import TAKEN_SECONDS, Line
from tests.e2e import trials as t
from tests.e2e.plans import STEPS
from tests.e2e.world import TIERS, World

VOICE = "vampire"
STEADY = {"strategy": "Canary", "steps": list(STEPS), "stepSeconds": 6, "analysis": {"minRequests": 3}}
"""Steps long enough that lines begin and end in each of them."""


async def test_a_real_candidate_goes_from_a_tenth_to_all_under_load_without_a_failed_line(
    world: World, tmp_path: Path
) -> None:
    old = await world.stable_digest(VOICE, "gold")
    uri, new = await world.publish_copy(VOICE, world.other_version(VOICE, old), tmp_path)
    await t.patch(world, VOICE, {"rollout": STEADY})
    await t.let_first_speak(world, VOICE, *TIERS)
    async with t.load(world, VOICE, *TIERS, rate=6) as load:
        await load.until(6)
        await world.region.set_source(VOICE, uri, new)
        seen = await world.until_adapter_ready(VOICE, new, timeout=400)
        now = t.taken_from_now()
        await load.until_started_after(now, 2 * len(TIERS))
    world.assert_clean(load.tally)
    assert {line.digest for line in load.tally.started_after(now)} == {new}
    for tier in TIERS:
        steps = t.steps_of(seen, new, tier)
        assert [percent for percent, _ in steps] == [*STEPS, 100]
        lines = [line for line in load.tally.lines if line.ask.tier == tier]
        t.assert_shares(lines, new, steps)
        assert_nobody_is_left_behind([line for line in lines if not line.failure], new, steps)
    await t.end(world, VOICE)
    await world.until_all_ready()


def assert_nobody_is_left_behind(lines: list[Line], digest: str, steps: list[tuple[int, float]]) -> None:
    """An NPC whose share the candidate has for a while hears nothing else, on whatever gateway its line arrives."""
    for line in lines:
        began = t.wall(line)[0]
        share = max((percent for percent, at in steps if at + TAKEN_SECONDS < began), default=0)
        assert line.digest == digest or not t.is_bucket_below(line, share), (share, line)


async def test_a_vampire_that_talks_like_a_zombie_is_taken_back(world: World) -> None:
    """What the words of another archetype's adapter are to this one: rubbish that no player should hear."""
    zombie = world.stack.adapter("zombie-v1")
    stable = await world.stable_digest(VOICE, "bronze")
    text = world.references["zombie", zombie[1]]
    words = sorted(set(THEMES["zombie"]) & set(text.split()))
    forbidden = rf"\b({'|'.join(words)})\b"
    assert re.search(forbidden, text)
    assert not re.search(forbidden, world.references[VOICE, stable])
    world.references[VOICE, zombie[1]] = text
    await t.patch(world, VOICE, {"rollout": {**STEADY, "stepSeconds": 600}, "answers": {"mustNotMatch": [forbidden]}})
    await t.let_first_speak(world, VOICE, "bronze")
    async with t.load(world, VOICE, rate=6) as load:
        await load.until(2)
        await world.set_source(VOICE, "bronze", *zombie)
        seen = await world.until_adapter(VOICE, lambda o: t.is_taken_back(o, zombie[1]), timeout=300)
        now = t.taken_from_now()
        await load.until_started_after(now, len(t.crowd(VOICE)))
    verdict = await t.decided_at(world, "RolledBack", VOICE, zombie[1])
    world.assert_clean(load.tally)
    spoken = load.tally.answered_by(zombie[1])
    assert spoken
    assert not [line for line in spoken if t.wall(line)[0] > verdict + t.OFF_SECONDS]
    t.assert_shares(spoken, zombie[1], [(STEPS[0], 0.0)])
    assert {line.digest for line in load.tally.started_after(now)} == {stable}
    assert t.variant(seen)["rejected"]["reason"] in ("CandidateMismatched", "WithdrawnByGateway")
    assert world.condition(seen, "Ready")["status"] == "True"
    await t.patch(world, VOICE, {"answers": None})
    await t.end(world, VOICE)
    await world.until_all_ready()
