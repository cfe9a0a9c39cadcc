"""What the keeper does when the engine, an order and its own steps come in each other's way."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import cast

import pytest

from npc_runtime.agent import keeper as keeper_module
from npc_runtime.agent import plan
from npc_runtime.agent.engine import Engine
from npc_runtime.agent.errors import Reason, retryable
from npc_runtime.agent.facts import Facts, Stage
from npc_runtime.agent.plan import BOUNDS
from npc_runtime.agent.watch import EngineWatch
from npc_runtime.wire import DesiredAdapter, EngineState
from tests.unit.agent.keeping import Kept, running, turns, voices

# --- an engine that is lost in the middle of something ---


async def test_a_step_that_was_cancelled_before_it_began_is_not_under_way_for_ever(tmp_path: Path) -> None:
    wanted = voices(6)
    kept = Kept(tmp_path, wanted)
    kept.order(*wanted)
    kept.engine()
    kept.keeper._round()
    assert list(kept.keeper.facts().busy.values()) == [Stage.LOAD] * BOUNDS[Stage.LOAD]
    kept.engine(state=EngineState.DOWN)  # no step has had its first turn yet
    await turns()
    assert kept.acts.calls == []
    assert kept.keeper.facts().busy == {}
    async with running(kept.keeper):
        kept.engine(instance="two")
        await kept.until(lambda: set(kept.phases().values()) == {"Resident"})


async def test_whenever_the_engine_is_lost_everything_is_proven_on_the_next_one(tmp_path: Path) -> None:
    unborn = 0
    for seed in range(150):
        chance = random.Random(seed)
        wanted = voices(6)
        kept = Kept(tmp_path, wanted)
        watch = EngineWatch(
            cast(Engine, None),
            "http://127.0.0.1:8000",
            progress_file=None,
            changed=kept.keeper.engine_changed,
            listing_mark=kept.keeper.listing_mark,
        )
        async with running(kept.keeper):
            kept.order(*wanted)
            for process in range(4):
                called = len(kept.acts.calls)
                watch._found(f"{seed}-{process}", {})
                await turns(chance.randrange(8))
                under_way = kept.keeper.facts().busy
                watch._lost("gone")
                await turns()
                assert kept.keeper.facts().busy == {}
                unborn += bool(under_way) and called == len(kept.acts.calls)
            watch._found(f"{seed}-last", {})
            await kept.until(lambda kept=kept: set(kept.phases().values()) == {"Resident"})  # type: ignore[misc]
    assert unborn > 10  # the window was hit


async def test_a_fault_nobody_foresaw_is_logged_and_the_step_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (wanted,) = voices(1)
    kept = Kept(tmp_path, [wanted])
    kept.order(wanted)
    kept.engine()
    kept.acts.faults[Stage.LOAD] = ZeroDivisionError("nobody foresaw this")
    with caplog.at_level(logging.ERROR):
        async with running(kept.keeper):
            await kept.until(lambda: kept.phases() == {wanted.served_name: "Retrying"})
            assert kept.published[0].reason == "Internal"
            kept.acts.faults.clear()
            await kept.until(lambda: kept.phases() == {wanted.served_name: "Resident"})
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


async def test_nothing_is_left_running_when_the_keeper_ends(tmp_path: Path) -> None:
    wanted = voices(6)
    kept = Kept(tmp_path, wanted)
    kept.acts.held.add(Stage.LOAD)
    kept.order(*wanted)
    kept.engine()
    async with running(kept.keeper):
        await kept.until(lambda: "Loading" in kept.phases().values())
    assert kept.keeper.facts().busy == {}
    assert kept.keeper._tasks == {}


# --- an order that wants back what is being unloaded ---


@pytest.mark.parametrize("unload_fails", [False, True])
async def test_what_is_wanted_again_while_it_is_unloaded_is_not_resident_until_it_is_proven_anew(
    tmp_path: Path, unload_fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "DRAIN_GRACE_SECONDS", 0.0)
    (voice,) = voices(1)
    name = voice.served_name
    kept = Kept(tmp_path, [voice], drain=0.0)
    kept.acts.held.add(Stage.UNLOAD)
    async with running(kept.keeper):
        kept.order(voice)
        kept.engine()
        await kept.until(lambda: kept.phases() == {name: "Resident"})
        kept.order()
        await kept.until(lambda: (Stage.UNLOAD, name) in kept.acts.calls)
        kept.order(voice)  # the engine is about to drop it, and nobody can stop that
        await kept.until(lambda: kept.phases() == {name: "Queued"})
        assert "taken off the engine" in kept.published[0].message
        if unload_fails:
            kept.acts.faults[Stage.UNLOAD] = retryable(Reason.LOAD_FAILED, "unload: HTTP 500")
        kept.acts.let_go()
        await kept.until(lambda: kept.phases() == {name: "Resident"})
    again = [Stage.PROBE] if unload_fails else [Stage.LOAD, Stage.PROBE]
    assert [stage for stage, _ in kept.acts.steps] == [Stage.LOAD, Stage.PROBE, Stage.UNLOAD, *again]


# --- an engine that will not give an adapter up ---


async def test_an_unload_that_keeps_failing_does_not_stop_the_loads_of_its_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "DRAIN_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(plan, "BACKOFF_FIRST", 0.01)
    old, new = voices(2)
    kept = Kept(tmp_path, [old, new], slots=1, drain=0.0)
    kept.acts.faults[Stage.UNLOAD] = retryable(Reason.LOAD_FAILED, "unload: HTTP 500")
    async with running(kept.keeper):
        kept.order(new)
        kept.engine(old)
        await kept.until(lambda: kept.phases() == {old.served_name: "Draining", new.served_name: "Resident"})
        before = [stage for stage, _ in kept.acts.calls[: kept.acts.calls.index((Stage.LOAD, new.served_name))]]
        assert before == [Stage.UNLOAD] * plan.UNLOAD_TRIES
        stuck = next(report for report in kept.published if report.served_name == old.served_name)
        assert stuck.reason == "LoadFailed"
        assert stuck.message.startswith("unload: HTTP 500")
        assert stuck.attempts >= plan.UNLOAD_TRIES
        kept.acts.faults.clear()
        await kept.until(lambda: kept.phases() == {new.served_name: "Resident"})


async def test_an_unload_that_keeps_failing_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    (old,) = voices(1)
    kept = Kept(tmp_path, [old])
    kept.order()
    kept.engine(old)
    kept.acts.faults[Stage.UNLOAD] = retryable(Reason.LOAD_FAILED, "unload: HTTP 500")
    pauses: list[float] = []
    for _ in range(7):
        kept.keeper._start(Stage.UNLOAD, old.served_name, None)
        await turns()
        facts = kept.keeper.facts()
        pauses.append(facts.unload_failures[old.served_name].retry_at - facts.now)
    for pause, expected in zip(pauses, (1, 2, 4, 8, 16, 30, 30), strict=True):
        assert expected - 0.5 < pause <= expected * 1.25
    kept.engine(old, instance="two")  # another process is asked anew
    kept.keeper._start(Stage.UNLOAD, old.served_name, None)
    await turns()
    assert kept.keeper.facts().unload_failures[old.served_name].attempts == 1


# --- many that wait for few slots ---


async def test_those_that_wait_for_a_slot_are_not_all_looked_at_for_each_load_and_keep_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, *wanted = voices(201)
    kept = Kept(tmp_path, [old, *wanted], slots=3)
    kept.order(*wanted)
    kept.engine(old)
    looks: list[str] = []

    def counted(facts: Facts, name: str, adapter: DesiredAdapter | None) -> plan.Step | None:
        looks.append(name)
        return plan.next_step(facts, name, adapter)

    monkeypatch.setattr(keeper_module, "next_step", counted)
    kept.keeper._round()  # the only one: what follows is given on without a look at all the others
    await turns()
    first = [adapter.served_name for adapter in wanted[:3]]
    assert kept.acts.steps == [
        *((Stage.LOAD, name) for name in first[:2]),
        *((Stage.PROBE, name) for name in first[:2]),
    ]
    assert len(looks) < 10
    kept.acts.held.add(Stage.LOAD)
    kept.keeper._start(Stage.UNLOAD, old.served_name, None)
    await turns()
    begun = list(kept.acts.calls)
    async with running(kept.keeper):
        pass
    assert (Stage.LOAD, first[2]) in begun
    assert kept.keeper._tasks == {}
