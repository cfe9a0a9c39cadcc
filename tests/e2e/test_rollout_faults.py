"""A rollout outlives those who run it, and a bad candidate comes off without them. On fake engines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hack.stack.kubectl import Object
from tests.e2e import trials as t
from tests.e2e.plans import STEPS
from tests.e2e.world import World

SECONDS = 300


async def test_a_rollout_goes_on_where_it_was_when_its_leader_is_killed_at_each_step(
    trials: World, tmp_path: Path
) -> None:
    voice = "knight"
    source = _, digest = await t.publish(trials, voice, tmp_path)
    await t.let_first_speak(trials, voice, "bronze")
    leaders = []
    async with t.load(trials, voice) as load:
        await t.begin(trials, voice, source, t.QUICK)
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


async def test_gateways_take_a_bad_candidate_off_while_there_is_no_operator(trials: World, tmp_path: Path) -> None:
    voice = "pirate"
    source = _, digest = await t.publish(trials, voice, tmp_path, answer="Lorem ipsum dolor sit amet")
    stable = await trials.stable_digest(voice, "bronze")
    await t.let_first_speak(trials, voice, "bronze")
    # It is in the first step, and nobody has asked it anything yet, when the operator goes.
    await t.begin(trials, voice, source, {**t.QUICK, "stepSeconds": 3600})
    await trials.until_adapter(voice, lambda o: t.percent(o, digest) == STEPS[0], timeout=SECONDS)
    await trials.scale_operator(0)
    try:
        async with t.load(trials, voice, rate=16) as load:
            await load.until_answered_by(digest, voice)
            # Lines of those alone who would hear it: enough for each gateway to have had its share of them.
            await load.until(len(t.crowd(voice)) * 6)
        would = [line for line in load.tally.lines if t.is_bucket_below(line, STEPS[0])]
        would.sort(key=lambda line: line.started)
        heard = [line for line in would if line.digest == digest]
        last = max(line.started for line in heard)
        after = [line for line in would if line.started > last]
        assert len(after) >= len(would) // 2, f"{len(heard)} of {len(would)} lines were its own until the last few"
        assert {line.digest for line in after} == {stable}
    finally:
        await trials.scale_operator(2)
    trials.assert_clean(load.tally)
    seen = await trials.until_adapter(voice, lambda o: t.is_taken_back(o, digest), timeout=SECONDS)
    assert t.variant(seen)["rejected"]["reason"] == "WithdrawnByGateway"
    await t.end(trials, voice)
    await trials.until_all_ready()
