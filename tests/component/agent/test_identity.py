"""An adapter that serves is proven to be what it was, before a rollout goes on: by its folder, its root, its words."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from npc_runtime.agent import plan
from npc_runtime.wire import DesiredAdapter, EngineState
from tests.component.agent.harness import (
    ENGINE_KEY,
    Harness,
    adapter_of,
    all_looked_at,
    loads,
    looks,
    make_settings,
    phase_of,
    probes,
    running,
)
from tests.support.fake_engine import FakeEngine, Settings
from tests.unit.agent.makers import Raw, desired_of, lora_tensors, make_adapter


def asked(adapter: DesiredAdapter, number: int) -> DesiredAdapter:
    return adapter.model_copy(update={"identity_check": number})


def folder_of(world: Path, adapter: DesiredAdapter) -> Path:
    return world / "cache" / f"sha256-{adapter.digest.removeprefix('sha256:')}"


@pytest.fixture
def vampire(world: Path) -> DesiredAdapter:
    return desired_of(make_adapter(world / "source" / "vampire", seed=1))


@pytest.fixture
def zombie(world: Path) -> DesiredAdapter:
    return desired_of(make_adapter(world / "source" / "zombie", seed=2), "zombie")


@pytest.fixture
async def serving(agent: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter) -> Harness:
    """Two voices, resident and looked at."""
    await agent.prove(vampire, zombie)
    await engine.until(lambda: all_looked_at(engine))
    return agent


async def until_checked(agent: Harness, adapter: DesiredAdapter, number: int) -> None:
    report = await agent.until(lambda r: adapter_of(r, adapter.served_name).identity_checked == number)
    assert phase_of(report, adapter.served_name) == "Resident"


async def until_lost(agent: Harness, adapter: DesiredAdapter) -> str:
    report = await agent.until_phase(adapter.served_name, "Refused")
    assert report.reason == "IdentityLost"
    return report.message


async def test_a_number_is_reported_once_all_proofs_hold_and_nothing_else_is_touched(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    before = await serving.routable()
    await serving.push(asked(vampire, 1), zombie)
    await until_checked(serving, vampire, 1)
    await serving.push(asked(vampire, 2), zombie)
    await until_checked(serving, vampire, 2)
    assert adapter_of(await serving.status(), zombie.served_name).identity_checked == 0
    assert (await serving.routable()).revision == before.revision
    for adapter, looked in ((vampire, 3), (zombie, 1)):
        name = adapter.served_name
        assert (loads(engine, name), probes(engine, name), looks(engine, name)) == (1, 1, looked)


async def test_bytes_that_changed_in_its_folder_take_it_off_this_pod_and_are_never_loaded_again(
    serving: Harness, engine: FakeEngine, world: Path, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    weights = folder_of(world, vampire) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    await serving.push(asked(vampire, 1), asked(zombie, 1))
    assert "the bytes in its folder are not those of the digest" in await until_lost(serving, vampire)
    await until_checked(serving, zombie, 1)
    assert (await serving.routable()).resident == (zombie.served_name,)
    await engine.until(lambda: vampire.served_name not in engine.names())
    assert not weights.exists()
    # Another engine process is told the right bytes.
    await engine.stop()
    await engine.start()
    await until_checked(serving, vampire, 1)
    assert folder_of(world, vampire).is_dir()


async def test_files_beside_its_own_are_other_bytes_too(
    serving: Harness, world: Path, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    (folder_of(world, vampire) / "more.py").write_text("import os\n")
    (folder_of(world, zombie) / "README.md").symlink_to("/etc/passwd")
    await serving.push(asked(vampire, 1), asked(zombie, 1))
    assert "the bytes in its folder" in await until_lost(serving, vampire)
    assert "the bytes in its folder" in await until_lost(serving, zombie)


@pytest.mark.parametrize("what", ["all", "weights"])
async def test_a_folder_that_a_cleaner_took_is_fetched_again_while_it_serves_on(
    serving: Harness, engine: FakeEngine, world: Path, vampire: DesiredAdapter, zombie: DesiredAdapter, what: str
) -> None:
    folder = folder_of(world, vampire)
    if what == "all":
        shutil.rmtree(folder)
    else:
        (folder / "adapter_model.safetensors").unlink()
    before = await serving.routable()
    await serving.push(asked(vampire, 1), zombie)
    await until_checked(serving, vampire, 1)
    assert (folder / "adapter_model.safetensors").is_file()
    assert (await serving.routable()).revision == before.revision
    assert loads(engine, vampire.served_name) == 1


async def test_a_folder_that_cannot_be_fetched_again_is_told_and_what_serves_serves_on(
    serving: Harness, world: Path, vampire: DesiredAdapter, zombie: DesiredAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "BACKOFF_FIRST", 0.05)
    shutil.rmtree(folder_of(world, vampire))
    (world / "source" / "vampire").rename(world / "away")
    await serving.push(asked(vampire, 1), zombie)
    report = await serving.until(lambda r: "NotFound" in adapter_of(r, vampire.served_name).message)
    told = adapter_of(report, vampire.served_name)
    assert (told.phase, told.identity_checked) == ("Resident", 0)
    assert "is fetched again" in told.message
    (world / "away").rename(world / "source" / "vampire")
    await until_checked(serving, vampire, 1)
    assert adapter_of(await serving.status(), vampire.served_name).message == ""


async def test_a_name_that_stands_for_another_folder_is_not_the_adapter(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    name = vampire.served_name
    engine.adapters[name] = replace(engine.adapters[name], path="/somewhere/else")
    await serving.push(asked(vampire, 1), zombie)
    assert (await until_lost(serving, vampire)).startswith(
        "the engine serves this name from /somewhere/else, not from "
    )
    assert phase_of(await serving.status(), zombie.served_name) == "Resident"


async def test_an_engine_that_answers_like_its_base_model_under_the_name_is_found_out(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    engine.behave(wrong_answers=True)
    await serving.push(asked(vampire, 1), zombie)
    assert "answers like the base model" in await until_lost(serving, vampire)
    # Nobody asked about the other one.
    assert phase_of(await serving.status(), zombie.served_name) == "Resident"


async def test_weights_that_were_replaced_under_the_name_are_found_out(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    name = vampire.served_name
    engine.adapters[name] = replace(engine.adapters[name], voice=engine.adapters[zombie.served_name].voice)
    await serving.push(asked(vampire, 1), zombie)
    assert "does not answer as at load" in await until_lost(serving, vampire)


async def test_what_batches_change_in_the_last_digits_is_no_loss(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    engine.behave(logprob_noise=0.05)
    for number in range(1, 11):
        await serving.push(asked(vampire, number), zombie)
        await until_checked(serving, vampire, number)


async def test_an_adapter_that_changes_nothing_is_resident_and_only_has_to_stay_as_it_was(
    agent: Harness, engine: FakeEngine, world: Path
) -> None:
    tensors = {
        name: Raw(raw.dtype, raw.shape, bytes(len(raw.data))) if ".lora_B." in name else raw
        for name, raw in lora_tensors().items()
    }
    blank = desired_of(make_adapter(world / "source" / "blank", tensors=tensors))
    await agent.prove(asked(blank, 1))
    await until_checked(agent, blank, 1)
    told = adapter_of(await agent.status(), blank.served_name)
    assert "the probe's first token does not tell it from the base model" in told.message
    engine.adapters[blank.served_name] = replace(engine.adapters[blank.served_name], voice="another")
    await agent.push(asked(blank, 2))
    assert "does not answer as at load" in await until_lost(agent, blank)


async def test_an_engine_that_fails_or_is_silent_proves_nothing_and_is_asked_again(
    serving: Harness,
    engine: FakeEngine,
    vampire: DesiredAdapter,
    zombie: DesiredAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "BACKOFF_FIRST", 0.05)
    engine.behave(fail_requests=503)
    await serving.push(asked(vampire, 1), zombie)
    report = await serving.until(lambda r: "ProbeFailed: HTTP 503" in adapter_of(r, vampire.served_name).message)
    assert phase_of(report, vampire.served_name) == "Resident"
    assert adapter_of(report, vampire.served_name).identity_checked == 0
    engine.behave(fail_requests=0, hang_requests=True)
    await engine.until_running(1)
    assert phase_of(await serving.status(), vampire.served_name) == "Resident"
    engine.behave(hang_requests=False)
    await until_checked(serving, vampire, 1)


async def test_a_new_engine_process_is_believed_nothing_that_the_old_one_proved(
    serving: Harness, engine: FakeEngine, vampire: DesiredAdapter, zombie: DesiredAdapter
) -> None:
    await serving.push(asked(vampire, 3), zombie)
    await until_checked(serving, vampire, 3)
    await engine.stop()
    down = await serving.until(lambda r: r.engine.state is EngineState.DOWN)
    assert adapter_of(down, vampire.served_name).identity_checked == 0
    await engine.start()
    await until_checked(serving, vampire, 3)
    assert looks(engine, vampire.served_name) == 4


async def test_a_restarted_agent_remembers_what_was_asked_and_proves_it_without_the_operator(
    world: Path, engine: FakeEngine, vampire: DesiredAdapter
) -> None:
    async with running(make_settings(world, engine.url)) as agent:
        await agent.prove(asked(vampire, 2))
        await until_checked(agent, vampire, 2)
    weights = folder_of(world, vampire) / "adapter_model.safetensors"
    untouched = weights.read_bytes()
    async with running(make_settings(world, engine.url)) as agent:
        await until_checked(agent, vampire, 2)
        weights.write_bytes(untouched[:-1] + b"!")
        await agent.push(asked(vampire, 3))
        await until_lost(agent, vampire)


async def test_without_log_probabilities_the_folder_and_the_root_must_do_and_it_is_said(
    world: Path, vampire: DesiredAdapter
) -> None:
    async with (
        FakeEngine(Settings(api_keys=(ENGINE_KEY,), max_logprobs=0)) as engine,
        running(make_settings(world, engine.url)) as agent,
    ):
        await agent.prove(asked(vampire, 1))
        await until_checked(agent, vampire, 1)
        assert "tells no log-probabilities" in adapter_of(await agent.status(), vampire.served_name).message
