"""A digest that must not be used is off every route in seconds, and something of the voice answers all the same."""

from __future__ import annotations

from pathlib import Path

from hack.stack.kubectl import Object
from hack.stack.load import Line, Load
from tests.e2e import trials as t
from tests.e2e.plans import PERSONA
from tests.e2e.world import World

VOICE = "monk"
SECONDS = 180


async def test_a_quarantined_stable_digest_is_replaced_by_the_best_that_is_left(trials: World, tmp_path: Path) -> None:
    first = await trials.stable_digest(VOICE, "bronze")
    source = _, second = await t.publish(trials, VOICE, tmp_path)
    await t.begin(trials, VOICE, source, {"strategy": "Immediate"})
    await trials.until_adapter(VOICE, lambda o: t.has_moved(o, second), timeout=SECONDS)
    async with t.load(trials, VOICE) as load:
        await load.until_answered_by(second, VOICE)
        # By the region: one line for every voice of it that has these bytes.
        off = await quarantined_by_region(trials, second)
        seen = await until_serving(trials, "LastGood")
        assert t.variant(seen)["stable"]["digest"] == first
        assert trials.condition(seen, "Stalled")["reason"] == "Quarantined"
        await load.until_any(lambda line: line.digest == first and line.started > off)
        await until_off(load, second, off)
        await trials.until_listed("bronze", present=[(VOICE, first)], absent=[(VOICE, second)], timeout=SECONDS)
        # By the voice itself, and there is nothing older.
        off = await quarantined_by_voice(trials, first, second)
        await until_serving(trials, "BaseModel")
        line = await load.until_any(lambda line: line.degraded == "BaseModel" and line.started > off)
        assert (line.digest, line.text, line.tier) == ("base", t.said_by_base(), "bronze")
        await until_off(load, first, off)
        # Without a persona's prompt there is nothing that the base model could be told.
        await t.patch(trials, VOICE, {"persona": {"systemPrompt": None}})
        await until_serving(trials, "Scripted")
        line = await load.until_any(lambda line: line.degraded == "Scripted")
        assert line.digest == "scripted"
        assert line.text in PERSONA["scriptedLines"]
        # And all the way up again.
        await quarantined_by_region(trials)
        await t.patch(trials, VOICE, {"quarantinedDigests": [], "persona": PERSONA})
        await trials.until_adapter(VOICE, lambda o: is_serving(o, "Stable", second), timeout=SECONDS)
        back = t.taken_from_now()
        await load.until_started_after(back, 8)
    assert not load.tally.failures, [(line.failure, line.ask) for line in load.tally.failures[:5]]
    late = load.tally.started_after(back)
    assert {(line.degraded, line.digest) for line in late} == {("", second)}
    await t.end(trials, VOICE)
    await trials.until_all_ready()


async def quarantined_by_region(world: World, *digests: str) -> float:
    """Puts them there, and nothing else. Returns time.monotonic() at which no line may begin with them any more."""
    patch = {"spec": {"quarantinedDigests": list(digests)}}
    await world.kubectl.patch("npcregion", world.region.name, world.namespace, patch)
    return t.off_from_now()


async def quarantined_by_voice(world: World, *digests: str) -> float:
    await t.patch(world, VOICE, {"quarantinedDigests": list(digests)})
    return t.off_from_now()


async def until_serving(world: World, serving: str) -> Object:
    return await world.until_adapter(VOICE, lambda o: t.variant(o).get("serving") == serving, timeout=SECONDS)


def is_serving(seen: Object, serving: str, digest: str) -> bool:
    told = t.variant(seen)
    return bool(told.get("serving") == serving and told["stable"]["digest"] == digest)


async def until_off(load: Load, digest: str, off: float) -> None:
    """As many lines as there are NPCs began after that moment, and none of them was the digest's."""
    await load.until_started_after(off, 20)
    spoken: list[Line] = [line for line in load.tally.started_after(off) if line.digest == digest]
    assert not spoken, f"{len(spoken)} lines began later than {t.OFF_SECONDS} s after the quarantine"
