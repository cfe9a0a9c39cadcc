"""What becomes resident, what does not, and what happens when the engine changes under it."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from hack.cluster.ports import pick_port
from npc_runtime.agent import failing, keeper
from npc_runtime.agent.report import Board, Content
from npc_runtime.wire import EngineState, Probe
from tests.component.agent.harness import (
    ENGINE_KEY,
    Harness,
    adapter_of,
    loads,
    make_settings,
    phase_of,
    probes,
    running,
)
from tests.support.fake_engine import FakeEngine, Settings
from tests.unit.agent.makers import config_of, desired_of, lora_tensors, make_adapter


async def test_an_ordered_adapter_becomes_resident_and_routable(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "vampire"))
    assert (await agent.push(vampire))[0] == 200
    resident = await agent.until_phase(vampire.served_name, "Resident")
    assert resident.resident_since_ms is not None
    assert engine.names() == [vampire.served_name]
    assert probes(engine, vampire.served_name) == 1
    routable = await agent.routable()
    assert routable.accepting
    assert routable.resident == (vampire.served_name,)
    assert (await agent.health("/readyz"))[0] == 200
    _, text = await agent.health("/metrics")
    assert 'npc_agent_resident_adapters{archetype="vampire"} 1.0' in text
    assert "npc_agent_slots_used 1.0" in text


async def test_one_bad_adapter_neither_blocks_the_others_nor_readiness(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    good = desired_of(make_adapter(world / "source" / "good"), "good")
    bad = desired_of(
        make_adapter(world / "source" / "bad", config=config_of(use_dora=True)), "bad", importance="Critical"
    )
    wrong = desired_of(make_adapter(world / "source" / "wrong", seed=3), "wrong", digest=f"sha256:{'0' * 64}")
    missing = desired_of(world / "source" / "missing", "missing", digest=f"sha256:{'1' * 64}")
    await agent.push(bad, wrong, missing, good)
    await agent.until_phase(good.served_name, "Resident")
    report = await agent.until(lambda r: phase_of(r, missing.served_name) == "Retrying")
    assert adapter_of(report, bad.served_name).reason == "UnsupportedFeature"
    assert adapter_of(report, wrong.served_name).reason == "DigestMismatch"
    assert adapter_of(report, missing.served_name).reason == "NotFound"
    assert phase_of(report, bad.served_name) == phase_of(report, wrong.served_name) == "Refused"
    assert engine.names() == [good.served_name]
    await agent.until(lambda r: r.ready)


async def test_a_source_that_appears_later_is_taken_up(agent: Harness, world: Path) -> None:
    made = make_adapter(world / "elsewhere")
    vampire = desired_of(made).model_copy(update={"uri": f"file://{world}/source/late"})
    await agent.push(vampire)
    await agent.until_phase(vampire.served_name, "Retrying")
    made.rename(world / "source" / "late")
    await agent.until_phase(vampire.served_name, "Resident")


async def test_a_folder_outside_the_allowed_roots_is_refused(agent: Harness, world: Path) -> None:
    make_adapter(world / "outside")
    (world / "source" / "link").symlink_to(world / "outside")
    direct = desired_of(world / "outside", "direct")
    linked = desired_of(world / "outside", "linked", uri=f"file://{world}/source/link")
    await agent.push(direct, linked)
    for adapter in (direct, linked):
        assert (await agent.until_phase(adapter.served_name, "Refused")).reason == "RootNotAllowed"


async def test_an_answer_the_probe_does_not_want_is_refused_and_the_adapter_unloaded(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"), probe=Probe(must_not_match=(".",)))
    await agent.push(vampire)
    refused = await agent.until_phase(vampire.served_name, "Refused")
    assert refused.reason == "ProbeMismatch"
    await agent.until(lambda r: r.slots_used == 0)
    assert engine.names() == []
    assert (await agent.routable()).resident == ()
    mended = vampire.model_copy(update={"probe": Probe()})
    await agent.push(mended)
    await agent.until_phase(vampire.served_name, "Resident")


async def test_listed_is_not_resident_until_it_has_answered(agent: Harness, engine: FakeEngine, world: Path) -> None:
    engine.behave(hang_requests=True)
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    await agent.until_phase(vampire.served_name, "Probing")
    assert engine.names() == [vampire.served_name]
    assert (await agent.routable()).resident == ()
    assert not (await agent.status()).ready
    engine.behave(hang_requests=False)
    await agent.until_phase(vampire.served_name, "Resident")


async def test_a_killed_engine_is_reported_at_once_and_repaired_without_any_order(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    adapters = [desired_of(make_adapter(world / "source" / f"{n}", seed=n), f"npc{n}") for n in range(3)]
    await agent.push(*adapters)
    before = await agent.until(lambda r: [a.phase for a in r.adapters] == ["Resident"] * 3)
    loop = asyncio.get_running_loop()
    took = []
    for killed in (1, 2, 3):
        killed_at = loop.time()
        await engine.stop()
        down = await agent.until(lambda r: r.engine.state is EngineState.DOWN)
        took.append(loop.time() - killed_at)
        assert not down.ready
        assert all(adapter.phase != "Resident" and adapter.resident_since_ms is None for adapter in down.adapters)
        routable = await agent.routable()
        assert (routable.accepting, routable.resident) == (False, ())
        assert (await agent.health("/readyz"))[0] == 503
        await engine.start()
        back_at = loop.time()
        after = await agent.until(lambda r: [a.phase for a in r.adapters] == ["Resident"] * 3)
        print(f"engine back -> proven {loop.time() - back_at:.3f} s")
        assert after.ready
        assert after.engine.instance != before.engine.instance
        assert all(probes(engine, adapter.served_name) == 1 + killed for adapter in adapters)
        before = after
    # Some milliseconds; a machine that stands still for a moment does so once, not twice.
    assert statistics.median(took) < 1.0


async def test_an_unhealthy_engine_is_down_though_its_connection_holds(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
    engine.behave(health_status=503)
    await agent.until(lambda r: r.engine.state is EngineState.DOWN)
    assert not (await agent.routable()).accepting
    engine.behave(health_status=200)
    await agent.until_phase(vampire.served_name, "Resident")


def health_checks(engine: FakeEngine) -> int:
    return sum(call.path == "/health" for call in engine.calls)


async def test_a_question_for_its_health_that_breaks_does_not_take_a_ready_engine_off(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
    said = await agent.routable()
    # The client itself asks again where it used a connection a second time.
    engine.behave(health_resets=2)
    async with asyncio.timeout(30):
        while engine.behaviour.health_resets:  # noqa: ASYNC110 (an engine tells nobody that it was asked)
            await asyncio.sleep(0.05)
        asked = health_checks(engine)
        while health_checks(engine) < asked + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await agent.routable()).revision == said.revision, "it was never called down"


async def test_an_adapter_unloaded_behind_its_back_is_noticed_and_proven_again(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.prove(vampire)
    first = (await agent.routable()).revision
    engine.forget(vampire.served_name)
    boot = (await agent.status()).boot_id
    assert (await agent.routable(after=first, boot=boot, wait=50)).resident == ()
    await agent.until_phase(vampire.served_name, "Resident")
    assert (loads(engine, vampire.served_name), probes(engine, vampire.served_name)) == (2, 2)


async def test_other_bytes_under_the_served_name_are_refused(agent: Harness, engine: FakeEngine, world: Path) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    other = make_adapter(world / "other", seed=9)
    async with agent.session.post(
        f"{engine.url}/v1/load_lora_adapter",
        json={"lora_name": vampire.served_name, "lora_path": str(other)},
        headers={"Authorization": f"Bearer {ENGINE_KEY}"},
    ) as answer:
        assert answer.status == 200
    await agent.push(vampire)
    refused = await agent.until_phase(vampire.served_name, "Refused")
    assert refused.reason == "NameClash"
    assert (await agent.routable()).resident == ()


async def test_loads_that_fail_back_off_and_give_up_only_for_this_engine_process(
    agent: Harness, engine: FakeEngine, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After the second failure so long that only another engine process can be what ends it.
    monkeypatch.setattr(failing, "backoff", lambda attempts, jitter: 0.2 if attempts == 1 else 600.0)
    engine.behave(refuse_loads=500)
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    retrying = await agent.until_phase(vampire.served_name, "Retrying")
    assert (retrying.reason, retrying.attempts) == ("LoadFailed", 1)
    await agent.until(lambda r: adapter_of(r, vampire.served_name).attempts == 2)
    assert loads(engine, vampire.served_name) == 2
    engine.behave(refuse_loads=0)
    await engine.stop()
    await agent.until(lambda r: r.engine.state is EngineState.DOWN)
    await engine.start()
    await agent.until_phase(vampire.served_name, "Resident")


async def test_a_rotated_engine_key_is_taken_up(world: Path) -> None:
    (world / "engine-key-next").write_text("another key")
    async with FakeEngine(Settings(api_keys=("another key",))) as engine:
        base = make_settings(world, engine.url)
        settings = replace(base, engine_key_files=(*base.engine_key_files, world / "engine-key-next"))
        async with running(settings) as agent:
            vampire = desired_of(make_adapter(world / "source" / "v"))
            await agent.prove(vampire)


async def test_with_a_wrong_engine_key_the_reason_is_named(world: Path) -> None:
    async with (
        FakeEngine(Settings(api_keys=("another key",))) as engine,
        running(make_settings(world, engine.url)) as agent,
    ):
        report = await agent.until(lambda r: "none of the keys" in r.engine.message)
        assert report.engine.state is EngineState.STARTING
        assert not report.ready


@pytest.mark.parametrize("timeout", [1, 600])
async def test_readiness_waits_for_the_first_set_at_most_the_ready_timeout(
    world: Path, engine: FakeEngine, timeout: int
) -> None:
    async with running(make_settings(world, engine.url, ready_timeout_seconds=timeout)) as agent:
        await agent.until(lambda r: r.engine.state is EngineState.READY)
        if timeout == 1:
            await agent.until(lambda r: r.ready)
        else:
            assert not (await agent.status()).ready
            await agent.push()
            await agent.until(lambda r: r.ready)


async def test_the_engine_may_be_far_from_ready_while_adapters_are_fetched_and_inspected(world: Path) -> None:
    engine = FakeEngine(Settings(api_keys=(ENGINE_KEY,)), port=pick_port())
    await engine.start()
    url = engine.url
    await engine.stop()
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(make_settings(world, url)) as agent:
        await agent.push(vampire)
        await agent.until(lambda r: r.cache_bytes > 0 and phase_of(r, vampire.served_name) == "Queued")
        assert (await agent.status()).engine.state is EngineState.STARTING
        await engine.start()
        await agent.until_phase(vampire.served_name, "Resident")
    await engine.stop()


async def test_the_download_of_the_base_model_is_told(
    world: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Content] = []
    publish = Board.publish

    def note(board: Board, content: Content) -> None:
        said.append(content)
        publish(board, content)

    monkeypatch.setattr(Board, "publish", note)
    await engine.stop()
    progress = world / "progress.json"
    settings = make_settings(world, f"http://127.0.0.1:{engine._port}", progress_file=progress)
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(settings) as agent:
        first = (await agent.status()).engine
        assert (first.state, first.done_bytes, first.total_bytes) == (EngineState.FETCHING_MODEL, 0, 0)
        assert first.message == "the container that fetches the base model has not begun"
        progress.write_text('{"state": "fetching", "doneBytes": 5, "totalBytes": 20, "message": ""}')
        await agent.push(vampire)
        report = await agent.until(lambda r: r.engine.done_bytes == 5 and r.cache_bytes > 0)
        assert report.engine.state is EngineState.FETCHING_MODEL
        assert report.engine.total_bytes == 20
        # Without the whole base model nothing is inspected.
        assert not [path for path in (world / "cache").iterdir() if path.name.startswith("sha256-")]
        progress.write_text('{"state": "done", "doneBytes": 20, "totalBytes": 20, "message": ""}')
        await agent.until(lambda r: r.engine.state is EngineState.STARTING)
        await engine.start()
        await agent.until_phase(vampire.served_name, "Resident")
    states = [content.engine.state for content in said]
    changes = [state for number, state in enumerate(states) if number == 0 or states[number - 1] is not state]
    assert changes == [EngineState.FETCHING_MODEL, EngineState.STARTING, EngineState.READY]  # never there and back


async def test_slots_in_use_are_counted_even_beyond_what_the_engine_keeps(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    adapters = [
        desired_of(make_adapter(world / "source" / f"{n}", tensors=lora_tensors(seed=n)), f"npc{n}") for n in range(6)
    ]
    await agent.push(*adapters)
    report = await agent.until(lambda r: [a.phase for a in r.adapters] == ["Resident"] * 6)
    assert (report.slots_used, report.slots_total) == (6, 4)


async def test_a_free_place_is_given_on_without_a_look_at_all_the_others(
    agent: Harness, engine: FakeEngine, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [
        desired_of(make_adapter(world / "source" / f"v{number}", seed=number), f"voice{number}") for number in range(12)
    ]
    await agent.push(wanted[0])
    await agent.until_phase(wanted[0].served_name, "Resident")
    monkeypatch.setattr(keeper, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(keeper, "PAUSE_SHARE", 1e9)
    await agent.push(*wanted)  # one round sees it; the next would be a minute later
    await engine.until(lambda: all(probes(engine, adapter.served_name) for adapter in wanted))
    assert sorted(engine.names()) == sorted(adapter.served_name for adapter in wanted)
    assert [loads(engine, adapter.served_name) for adapter in wanted] == [1] * len(wanted)
    # Nor does a new order wait for the next look, or the end of an engine.
    more = desired_of(make_adapter(world / "source" / "more", seed=99), "more")
    await agent.push(*wanted, more)
    await engine.until(lambda: probes(engine, more.served_name) == 1)
    await engine.stop()
    down = await agent.until(lambda r: r.engine.state is EngineState.DOWN)
    assert not [adapter for adapter in down.adapters if adapter.phase == "Resident"]
