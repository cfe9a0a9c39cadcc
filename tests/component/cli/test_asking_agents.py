"""matrix and diff through port-forward: a real agent answers, over its own TLS, to the token of the namespace."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hack.bench.internal import TOKEN, write_internal
from npc_runtime.cli.answers import Code
from npc_runtime.wire import AGENT_PORT, DesiredAdapter
from tests.component.agent.harness import ENGINE_KEY, Harness, make_settings, running
from tests.component.cli.conftest import CORE, OWN, POD, Run, ours
from tests.component.cli.fake_api import FakeApi
from tests.component.cli.test_dump import read
from tests.support.fake_engine import FakeEngine, Settings
from tests.unit.agent.makers import desired_of, make_adapter, make_base
from tests.unit.cli import objects as o

SECRET = f"{CORE}/secrets/npc-fleet-internal"


def internal_secret(folder: Path, *, token: str = TOKEN) -> dict[str, Any]:
    data = {"ca.crt": (folder / "ca.crt").read_bytes(), "token": token.encode()}
    return {
        "kind": "Secret",
        "metadata": {"name": "npc-fleet-internal"},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


@pytest.fixture
async def agent(tmp_path: Path, api: FakeApi) -> AsyncIterator[Harness]:
    """The agent of POD, reachable through the API server."""
    make_base(tmp_path / "base")
    internal = write_internal(tmp_path / "internal")
    (tmp_path / "source").mkdir()
    api.put(f"{CORE}/secrets", internal_secret(internal))
    async with (
        FakeEngine(Settings(api_keys=(ENGINE_KEY,), max_loras=2, max_cpu_loras=4)) as engine,
        running(make_settings(tmp_path, engine.url)) as harness,
    ):
        api.forwards[POD, AGENT_PORT] = harness.agent.port
        yield harness


@pytest.fixture
async def vampire(agent: Harness, tmp_path: Path, api: FakeApi) -> DesiredAdapter:
    """Resident on the pod, and what spec and status want."""
    made = desired_of(make_adapter(tmp_path / "source" / "vampire"))
    await agent.push(made)
    await agent.until_phase(made.served_name, "Resident")
    stable = {"digest": made.digest, "uri": made.uri}
    voice = o.adapter(digests={"gold": made.digest}, variants=[o.variant(stable=stable)])
    api.collections[f"{OWN}/archetypeadapters"][:] = [voice]
    return made


async def test_the_matrix_is_the_agents_own_word(run: Run, vampire: DesiredAdapter) -> None:
    ran = await run("matrix", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    (row,) = json.loads(ran.out)["rows"]
    assert {name: row[name] for name in ("archetype", "tier", "pod", "digest", "role", "phase")} == {
        "archetype": "vampire",
        "tier": "gold",
        "pod": POD,
        "digest": vampire.digest,
        "role": "stable",
        "phase": "Resident",
    }
    assert row["residentSince"].startswith("20")


async def test_nothing_differs_where_the_pod_holds_what_the_spec_names(run: Run, vampire: DesiredAdapter) -> None:
    ran = await run("diff")
    assert (ran.code, ran.out) == (Code.FINE, "nothing differs on the 1 pods that were heard\n")


async def test_a_spec_that_went_on_differs(run: Run, vampire: DesiredAdapter, api: FakeApi) -> None:
    api.collections[f"{OWN}/archetypeadapters"][0]["spec"]["variants"][0]["source"]["digest"] = o.NEW
    ran = await run("diff")
    assert ran.code == Code.NOT_AS_WANTED
    assert "its agent has not begun with it" in ran.out


async def test_a_pod_that_does_not_answer_is_named_beside_those_that_do(
    run: Run, vampire: DesiredAdapter, api: FakeApi
) -> None:
    api.put(f"{CORE}/pods", ours(o.pod("gold-spot-77f4c-9mmzt")))
    ran = await run("matrix")
    assert ran.code == Code.NOT_REACHED
    assert f"{POD}   {vampire.digest[7:19]}" in ran.out
    assert (
        "not heard: pod gold-spot-77f4c-9mmzt (gold): pod gold-spot-77f4c-9mmzt does not answer on port 9443" in ran.out
    )


async def test_a_stranger_with_the_same_address_is_not_believed(
    run: Run, vampire: DesiredAdapter, api: FakeApi, tmp_path: Path
) -> None:
    """Another namespace's authority: TLS fails before the token is sent."""
    other = write_internal(tmp_path / "other")
    api.collections[f"{CORE}/secrets"][:] = [internal_secret(other)]
    ran = await run("matrix")
    assert ran.code == Code.NOT_REACHED
    assert "certificate" in ran.out.lower()


async def test_a_token_that_is_not_accepted_is_said_and_not_shown(
    run: Run, vampire: DesiredAdapter, api: FakeApi, tmp_path: Path
) -> None:
    api.collections[f"{CORE}/secrets"][:] = [internal_secret(tmp_path / "internal", token="wrong-token")]
    ran = await run("matrix")
    assert ran.code == Code.NOT_REACHED
    assert "does not accept the token" in ran.out
    assert "wrong-token" not in ran.out + ran.err


async def test_a_dump_has_what_the_agent_says_and_names_whom_it_did_not_hear(
    run: Run, vampire: DesiredAdapter, tmp_path: Path
) -> None:
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.FINE, ran.err
    files = read(tmp_path / "d.tar.gz")
    (told,) = json.loads(files[f"agents/{POD}.json"])["adapters"]
    assert (told["digest"], told["phase"]) == (vampire.digest, "Resident")
    assert any(one.startswith("gateways/eu-west-gateway") for one in json.loads(files["about.json"])["notRead"])
    assert all(TOKEN not in body for body in files.values())


@pytest.mark.parametrize(
    ("verb", "resource", "said"),
    [
        ("get", "secrets", "you may not get secrets in namespace eu-west"),
        ("create", "pods/portforward", "you may not create pods/portforward in namespace eu-west"),
        ("list", "pods", "you may not list pods in namespace eu-west"),
    ],
)
async def test_a_missing_right_is_named(
    run: Run, vampire: DesiredAdapter, api: FakeApi, verb: str, resource: str, said: str
) -> None:
    api.refused.add((verb, resource))
    ran = await run("matrix")
    assert ran.code == Code.FORBIDDEN
    assert said in ran.err


async def test_a_namespace_without_its_internal_secret_is_said_to_have_none(run: Run) -> None:
    ran = await run("matrix")
    assert ran.code == Code.NOT_FOUND
    assert "there is no Secret npc-fleet-internal" in ran.err


async def test_a_pod_to_which_no_stream_opens_is_not_waited_for_without_end(
    run: Run, vampire: DesiredAdapter, api: FakeApi
) -> None:
    (pod,) = {name for name, _ in api.forwards}
    api.mute.add(f"{CORE}/pods/{pod}/portforward")
    ran = await run("matrix", "--request-timeout", "4")
    assert ran.code == Code.NOT_REACHED
    assert f"not heard: pod {pod} (gold): pod {pod} cannot be reached: nobody answered within 4 s" in ran.out


@pytest.mark.parametrize("command", ["matrix", "diff"])
async def test_an_archetype_that_does_not_exist_is_refused(run: Run, vampire: DesiredAdapter, command: str) -> None:
    ran = await run(command, "--archetype", "ghost")
    assert ran.code == Code.NOT_FOUND
    assert "there is no archetype ghost in namespace eu-west" in ran.err
    assert (await run(command, "--archetype", vampire.archetype)).code == Code.FINE


async def test_a_tier_that_does_not_exist_is_refused(run: Run) -> None:
    assert (await run("matrix", "--tier", "platinum")).code == Code.NOT_FOUND
