"""`kubectl npc` on the running world: what it tells is what is there, what it changes are the fields that it names."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hack.stack.kubectl import KubectlError, Object
from npc_runtime.cli.answers import Code
from tests.e2e.world import ARCHETYPES, World

VOICE = "merchant"
SECONDS = 120


@dataclass(frozen=True)
class Ran:
    """What came of one run."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


async def npc(world: World, *words: str) -> Ran:
    """The tool as a user runs it: a process of its own with a kubeconfig; nobody sits at its terminal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "npc_runtime.cli", *words, "-n", world.namespace),
        *("--kubeconfig", str(world.kubectl.kubeconfig)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@pytest_asyncio.fixture(loop_scope="session")
async def voice(quiet: World) -> AsyncIterator[str]:
    """A voice that moves at once, as it was before when the test is over."""
    before = (await quiet.kubectl.get("archetypeadapter", VOICE, quiet.namespace))["spec"]
    at_once = {"spec": {"rollout": {"strategy": "Immediate"}}}
    await quiet.kubectl.patch("archetypeadapter", VOICE, quiet.namespace, at_once)
    await quiet.until_all_ready()
    yield VOICE
    after = {
        "variants": before["variants"],
        "suspend": False,
        "quarantinedDigests": [],
        "rollout": {"strategy": "Immediate"},
    }
    await quiet.kubectl.patch("archetypeadapter", VOICE, quiet.namespace, {"spec": after})
    await quiet.until_all_ready()
    strategy = {"spec": {"rollout": {"strategy": before.get("rollout", {}).get("strategy", "Canary")}}}
    await quiet.kubectl.patch("archetypeadapter", VOICE, quiet.namespace, strategy)
    await quiet.until_all_ready()


async def digest_of(world: World, archetype: str) -> str:
    return await world.stable_digest(archetype, "bronze")


async def test_status_why_and_matrix_tell_a_region_that_serves(quiet: World) -> None:
    await quiet.until_all_ready()
    for archetype in ARCHETYPES:  # of what an earlier test took away a voice's status tells for a while
        await quiet.until_adapter(archetype, lambda seen: not seen["status"].get("degraded"))
    told = (await npc(quiet, "status", "-o", "json")).data
    assert [one["ready"] for kind in ("regions", "tiers", "adapters") for one in told[kind]] == ["True"] * 5
    why = await npc(quiet, "why")
    assert why.code == Code.FINE, why.out
    assert "serves" in why.out
    rows = (await npc(quiet, "matrix", "-o", "json")).data["rows"]
    stable = {archetype: await digest_of(quiet, archetype) for archetype in ARCHETYPES}
    pods = {pod["metadata"]["name"] for pod in await quiet.pods("bronze")}
    assert {(one["archetype"], one["digest"], one["pod"]) for one in rows if one["role"] == "stable"} == {
        (archetype, digest, pod) for archetype, digest in stable.items() for pod in pods
    }
    assert {one["weightPercent"] for one in rows if one["role"] == "stable"} == {100.0}


async def test_what_is_paused_stays_until_it_goes_on(quiet: World, voice: str) -> None:
    before = await digest_of(quiet, voice)
    target = quiet.other_version(voice, before)
    ran = await npc(quiet, "pause", voice)
    assert ran.code == Code.FINE, ran.err
    assert "spec.suspend: false -> true" in ran.out
    await quiet.set_version(voice, target)

    def is_paused(seen: Object) -> bool:
        stalled = quiet.condition(seen, "Stalled")
        return bool(stalled) and stalled["reason"] == "Suspended" and _is_observed(seen)

    await quiet.until_adapter(voice, is_paused)
    assert await digest_of(quiet, voice) == before
    why = await npc(quiet, "why", voice)
    assert why.code == Code.NOT_AS_WANTED
    assert "Suspended" in why.out
    ran = await npc(quiet, "resume", voice)
    assert "spec.suspend: true -> false" in ran.out
    await quiet.until_adapter_ready(voice, target)


async def test_a_voice_goes_back_and_back_again_and_its_history_tells_it(quiet: World, voice: str) -> None:
    first = await digest_of(quiet, voice)
    second = quiet.other_version(voice, first)
    source = (await quiet.kubectl.get("archetypeadapter", voice, quiet.namespace))["spec"]["variants"][0]["source"]
    await quiet.set_version(voice, second)
    await quiet.until_adapter_ready(voice, second)
    dry = await npc(quiet, "rollback", voice, "--dry-run")
    assert "nothing was changed" in dry.out, dry.err
    ran = await npc(quiet, "rollback", voice)
    assert ran.code == Code.FINE, ran.err
    assert f"{second} -> {first}" in ran.out
    seen = await quiet.until_adapter_ready(voice, first)
    assert seen["spec"]["variants"][0]["source"] == source
    ran = await npc(quiet, "rollback", voice, "--to", second.removeprefix("sha256:")[:12])
    assert ran.code == Code.FINE, ran.err
    await quiet.until_adapter_ready(voice, second)
    history = (await npc(quiet, "history", voice, "-o", "json")).data["history"]
    assert [one["digest"] for one in history if one["toPercent"] == 100][-3:] == [second, first, second]
    assert [one["time"] for one in history] == sorted(one["time"] for one in history)


async def test_a_quarantined_digest_cannot_be_put_in_by_anybody(quiet: World, voice: str) -> None:
    present = await digest_of(quiet, voice)
    bad = quiet.other_version(voice, present)
    ran = await npc(quiet, "quarantine", bad, voice)
    assert ran.code == Code.FINE, ran.err
    ran = await npc(quiet, "rollback", voice, "--to", bad)
    assert ran.code == Code.REFUSED
    with pytest.raises(KubectlError, match="a quarantined digest cannot be brought in"):
        await quiet.set_version(voice, bad)
    assert await digest_of(quiet, voice) == present
    ran = await npc(quiet, "quarantine", bad, voice, "--remove")
    assert ran.code == Code.FINE, ran.err
    await quiet.set_version(voice, bad)
    await quiet.until_adapter_ready(voice, bad)


async def test_a_dump_has_what_everybody_says_and_no_key(quiet: World, voice: str, tmp_path: Path) -> None:
    moved = quiet.other_version(voice, await digest_of(quiet, voice))
    await quiet.set_version(voice, moved)
    await quiet.until_adapter_ready(voice, moved)
    planted = secrets.token_urlsafe(24)
    await quiet.set_api_key("planted", planted)
    try:
        archive = tmp_path / "incident.tar.gz"
        ran = await npc(quiet, "dump", "--file", str(archive))
        assert ran.code == Code.FINE, ran.err
    finally:
        await quiet.set_api_key("planted", None)
    files = _read(archive)
    hidden = [planted, quiet.key, await quiet.engine_key(), (await quiet.internal_secret())["token"]]
    for name, body in files.items():
        assert not [value for value in hidden if value in body], name
    for pod in await quiet.pods("bronze"):
        told = json.loads(files[f"agents/{pod['metadata']['name']}.json"])
        assert {one["archetype"] for one in told["adapters"]} >= set(ARCHETYPES)
    assert [name for name in files if name.startswith("gateways/")]
    assert [name for name in files if name.startswith("operator-logs/")]
    decisions = [json.loads(line.partition(" ")[2])["audit"] for line in files["audit.txt"].splitlines()]
    assert ("Moved", moved) in {(one["decision"], one["digest"]) for one in decisions if one["adapter"] == voice}


async def test_a_character_can_be_asked_through_the_gateway(world: World) -> None:
    ran = await npc(world, "say", "vampire", "Who are you?", "--tier", "gold", "--max-tokens", "8", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    told = ran.data
    assert (told["tier"], told["digest"]) == ("gold", await world.stable_digest("vampire", "gold"))
    assert (told["degraded"], told["degradedTo"]) == (False, "")
    assert told["text"]
    assert world.key not in ran.out + ran.err


def _is_observed(seen: Object) -> bool:
    return bool(seen["status"]["observedGeneration"] == seen["metadata"]["generation"])


def _read(archive: Path) -> dict[str, str]:
    """Name below the archive's folder -> text."""
    found = {}
    with tarfile.open(archive) as opened:
        for entry in opened.getmembers():
            file = opened.extractfile(entry)
            assert file is not None
            found[entry.name.partition("/")[2]] = file.read().decode()
    return found
