"""What becomes of candidates: the good one goes all the way, the bad one is taken back before a tenth of the voice's
NPCs has heard much of it, and one that waits for somebody waits.

On fake engines, where a candidate can be bad in exactly one way. Each story is one voice's, and all are told at the
same time: a region has many voices, and what one candidate does must not touch the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hack.stack import commands
from hack.stack.kubectl import Object
from hack.stack.load import Line, Load
from tests.e2e import trials as t
from tests.e2e.plans import PERSONA, STEPS
from tests.e2e.world import World

SECONDS = 300
"""For what takes ten when nothing else does, on a machine that does all of it at once."""
GATE = commands.ROOT / "examples" / "gate" / "gate.py"


async def test_a_good_candidate_goes_in_steps_to_npcs_of_its_share_alone(stories: t.Stories) -> None:
    await stories["bard"]


async def test_a_candidate_that_fails_is_taken_back_and_no_line_with_it(stories: t.Stories) -> None:
    await stories["ghost"]


async def test_a_candidate_that_talks_rubbish_is_taken_back_within_seconds(stories: t.Stories) -> None:
    await stories["jester"]


async def test_a_candidate_that_is_slower_than_what_serves_is_taken_back(stories: t.Stories) -> None:
    await stories["hermit"]


async def test_a_candidate_holds_at_its_ceiling_until_its_digest_is_approved(stories: t.Stories) -> None:
    await stories["duke"]


async def test_a_quarantined_digest_is_replaced_by_the_best_that_is_left(stories: t.Stories) -> None:
    await stories["monk"]


async def test_the_gate_lets_a_good_candidate_through_and_no_npc_hear_a_bad_one(stories: t.Stories) -> None:
    await stories["oracle"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stories(trials: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[t.Stories]:
    """All of them, under way."""
    folder = tmp_path_factory.mktemp("candidates")
    async with t.at_once({voice: story(trials, voice, folder) for voice, story in STORIES.items()}) as told:
        yield told
    await quarantined_by_region(trials)
    for voice in told:
        await t.end(trials, voice)
    await trials.until_all_ready()


async def tell_of_a_good_one(world: World, voice: str, folder: Path) -> None:
    source = uri, digest = await t.publish(world, voice, folder)
    stable = await world.stable_digest(voice, "bronze")
    await t.let_first_speak(world, voice, "bronze")
    async with t.load(world, voice) as load:
        await load.until(4)
        await t.begin(world, voice, source, t.QUICK)
        seen = await world.until_adapter(voice, lambda o: t.has_moved(o, digest), timeout=SECONDS)
        await until_taken(load)
    world.assert_clean(load.tally)
    steps = t.steps_of(seen, digest)
    assert [percent for percent, _ in steps] == [*STEPS, 100]
    t.assert_shares(load.tally.lines, digest, steps)
    assert load.tally.answered_by(stable)
    assert t.variant(seen)["stable"]["uri"] == uri


async def tell_of_one_that_fails(world: World, voice: str, folder: Path) -> None:
    source = await t.publish(world, voice, folder, fail_percent=50)
    load, told = await tell_of_a_bad_one(world, voice, source)
    assert told["reason"] in ("CandidateErrors", "WithdrawnByGateway")
    assert "failed" in told["message"]
    # Nothing was sent yet when the engine failed, so the stable voice answered in its place.
    world.assert_clean(load.tally)


async def tell_of_rubbish(world: World, voice: str, folder: Path) -> None:
    source = await t.publish(world, voice, folder, answer="Lorem ipsum dolor sit amet")
    load, told = await tell_of_a_bad_one(world, voice, source)
    assert told["reason"] in ("CandidateMismatched", "WithdrawnByGateway")
    assert "forbidden" in told["message"]
    world.assert_clean(load.tally)
    heard = sorted(t.wall(line)[1] for line in load.tally.answered_by(source[1]))
    verdict = await t.decided_at(world, "RolledBack", voice, source[1])
    # Three of three are enough by the test that gateways and operator hold answers against.
    assert verdict - heard[2] <= 5, f"{verdict - heard[2]:.1f} s after the evidence sufficed"


async def tell_of_a_slow_one(world: World, voice: str, folder: Path) -> None:
    source = await t.publish(world, voice, folder, first_token_seconds=0.4)
    load, told = await tell_of_a_bad_one(world, voice, source)
    assert told["reason"] == "CandidateSlow"
    world.assert_clean(load.tally)


async def tell_of_a_bad_one(world: World, voice: str, source: t.Source) -> tuple[Load, Object]:
    """Begins at a tenth of the NPCs and stays there until it is judged. Returns the lines and what was said of it."""
    _, digest = source
    stable = await world.stable_digest(voice, "bronze")
    await t.let_first_speak(world, voice, "bronze")
    async with t.load(world, voice) as load:
        await load.until(4)
        await t.begin(world, voice, source, {**t.QUICK, "stepSeconds": 600})
        seen = await world.until_adapter(voice, lambda o: t.is_taken_back(o, digest), timeout=SECONDS)
        await until_taken(load)
    verdict = await t.decided_at(world, "RolledBack", voice, digest)
    late = [line for line in load.tally.answered_by(digest) if t.wall(line)[0] > verdict + t.OFF_SECONDS]
    assert not late, f"{len(late)} lines began later than {t.OFF_SECONDS} s after the verdict"
    t.assert_shares(load.tally.lines, digest, t.steps_of(seen, digest))
    assert max(percent for percent, _ in t.steps_of(seen, digest)) == STEPS[0]
    assert world.condition(seen, "Ready")["status"] == "True"
    assert world.condition(seen, "Stalled")["status"] == "True"
    told: Object = t.variant(seen)
    assert told["stable"]["digest"] == stable
    assert told["history"][0]["reason"] == "RolledBack"
    # It is on no pod any more, and nothing brings it back: the variant still names it.
    await world.until_listed("bronze", present=[(voice, stable)], absent=[(voice, digest)], timeout=SECONDS)
    again = await world.kubectl.get("archetypeadapter", voice, world.namespace)
    assert t.variant(again)["rejected"] == told["rejected"]
    return load, told["rejected"]


async def tell_of_a_ceiling(world: World, voice: str, folder: Path) -> None:
    source = _, digest = await t.publish(world, voice, folder)
    await t.let_first_speak(world, voice, "bronze")
    async with t.load(world, voice) as load:
        await t.begin(world, voice, source, {**t.QUICK, "ceilingPercent": 25})
        held = await world.until_adapter(
            voice, lambda o: world.condition(o, "Stalled").get("reason") == "AwaitingApproval", timeout=SECONDS
        )
        assert t.percent(held, digest) == 25
        assert world.condition(held, "Ready")["status"] == "True"
        # It could go on by its numbers: many answers, and as many step lengths as it takes to say so.
        await load.until(40)
        seen = await world.kubectl.get("archetypeadapter", voice, world.namespace)
        assert t.percent(seen, digest) == 25
        t.assert_shares(load.tally.lines, digest, [(25, 0.0)])
        await t.patch(world, voice, {"rollout": {"approvedDigest": digest}})
        seen = await world.until_adapter(voice, lambda o: t.has_moved(o, digest), timeout=SECONDS)
        await until_taken(load)
    world.assert_clean(load.tally)
    steps = t.steps_of(seen, digest)
    assert [percent for percent, _ in steps] == [*STEPS, 100]
    t.assert_shares(load.tally.lines, digest, steps)
    approved = next(one for one in t.variant(seen)["history"] if one.get("toPercent") == 50)
    assert approved["by"].startswith("kubectl"), "whoever approved is named"


async def tell_of_a_gate(world: World, voice: str, folder: Path) -> None:
    bad = await t.publish(world, voice, folder, answer="Lorem ipsum dolor sit amet")
    good = await t.publish(world, voice, folder)
    rollout = {**t.QUICK, "steps": [100], "analysis": {"minRequests": 1, "gate": gate(world)}}
    async with t.load(world, voice) as load:
        await t.begin(world, voice, bad, rollout)
        seen = await world.until_adapter(voice, lambda o: t.is_taken_back(o, bad[1]), timeout=SECONDS)
        assert t.variant(seen)["rejected"]["reason"] == "GateFailed"
        assert "something matches" in t.variant(seen)["rejected"]["message"]
        await t.begin(world, voice, good, rollout)
        await world.until_adapter(voice, lambda o: t.has_moved(o, good[1]), timeout=SECONDS)
        await until_taken(load)
    world.assert_clean(load.tally)
    assert not load.tally.answered_by(bad[1])
    assert load.tally.answered_by(good[1])


def gate(world: World) -> dict[str, Any]:
    """The example's gate without an image of its own: the fleet's has Python, and its questions are an argument."""
    source, size = GATE.read_text(), 1000
    question = '[{"ask": "Who are you?", "mustNotMatch": ["Lorem ipsum"]}]'
    start = "import pathlib, sys; pathlib.Path('/tmp/q').write_text(sys.argv[1]); exec(''.join(sys.argv[2:]))"
    parts = [source[at : at + size] for at in range(0, len(source), size)]
    return {
        "image": world.stack.images.fleet,
        "command": ["python3", "-c", start, question, *parts],
        "env": [{"name": "QUESTIONS", "value": "/tmp/q"}],
        "timeoutSeconds": 240,
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
    }


async def tell_of_a_quarantine(world: World, voice: str, folder: Path) -> None:
    first = await world.stable_digest(voice, "bronze")
    source = _, second = await t.publish(world, voice, folder)
    await t.begin(world, voice, source, {"strategy": "Immediate"})
    await world.until_adapter(voice, lambda o: t.has_moved(o, second), timeout=SECONDS)
    async with t.load(world, voice) as load:
        await load.until_answered_by(second, voice)
        # By the region: one line for every voice of it that has these bytes.
        off = await quarantined_by_region(world, second)
        seen = await until_serving(world, voice, "LastGood")
        assert t.variant(seen)["stable"]["digest"] == first
        assert world.condition(seen, "Stalled")["reason"] == "Quarantined"
        await load.until_any(lambda line: line.digest == first and line.started > off)
        await until_off(load, second, off)
        await world.until_listed("bronze", present=[(voice, first)], absent=[(voice, second)], timeout=SECONDS)
        # By the voice itself, and there is nothing older.
        off = await quarantined_by_voice(world, voice, first, second)
        await until_serving(world, voice, "BaseModel")
        line = await load.until_any(lambda line: line.degraded == "BaseModel" and line.started > off)
        assert (line.digest, line.text, line.tier) == ("base", t.said_by_base(), "bronze")
        await until_off(load, first, off)
        # Without a persona's prompt there is nothing that the base model could be told.
        await t.patch(world, voice, {"persona": {"systemPrompt": None}})
        await until_serving(world, voice, "Scripted")
        line = await load.until_any(lambda line: line.degraded == "Scripted")
        assert line.digest == "scripted"
        assert line.text in PERSONA["scriptedLines"]
        # And all the way up again.
        await quarantined_by_region(world)
        await t.patch(world, voice, {"quarantinedDigests": [], "persona": PERSONA})
        await world.until_adapter(voice, lambda o: is_serving(o, "Stable", second), timeout=SECONDS)
        back = t.taken_from_now()
        await load.until_started_after(back, 8)
    assert not load.tally.failures, [(line.failure, line.ask) for line in load.tally.failures[:5]]
    late = load.tally.started_after(back)
    assert {(line.degraded, line.digest) for line in late} == {("", second)}


async def quarantined_by_region(world: World, *digests: str) -> float:
    """Puts them there, and nothing else. Returns time.monotonic() at which no line may begin with them any more."""
    patch = {"spec": {"quarantinedDigests": list(digests)}}
    await world.kubectl.patch("npcregion", world.region.name, world.namespace, patch)
    return t.off_from_now()


async def quarantined_by_voice(world: World, voice: str, *digests: str) -> float:
    await t.patch(world, voice, {"quarantinedDigests": list(digests)})
    return t.off_from_now()


async def until_serving(world: World, voice: str, serving: str) -> Object:
    return await world.until_adapter(voice, lambda o: t.variant(o).get("serving") == serving, timeout=SECONDS)


def is_serving(seen: Object, serving: str, digest: str) -> bool:
    told = t.variant(seen)
    return bool(told.get("serving") == serving and told["stable"]["digest"] == digest)


async def until_off(load: Load, digest: str, off: float) -> None:
    """As many lines as there are NPCs began after that moment, and none of them was the digest's."""
    await load.until_started_after(off, 20)
    spoken: list[Line] = [line for line in load.tally.started_after(off) if line.digest == digest]
    assert not spoken, f"{len(spoken)} lines began later than {t.OFF_SECONDS} s after the quarantine"


async def until_taken(load: Load) -> None:
    """Lines that began when every gateway surely had the routes that the last status speaks of have ended."""
    await load.until_started_after(t.taken_from_now(), 2 * len(STEPS))


Story = Callable[[World, str, Path], Coroutine[Any, Any, None]]

STORIES: dict[str, Story] = {
    "bard": tell_of_a_good_one,
    "duke": tell_of_a_ceiling,
    "ghost": tell_of_one_that_fails,
    "hermit": tell_of_a_slow_one,
    "jester": tell_of_rubbish,
    "monk": tell_of_a_quarantine,
    "oracle": tell_of_a_gate,
}
