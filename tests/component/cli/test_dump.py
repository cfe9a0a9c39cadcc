"""dump: one archive with everything that explains an incident, and nothing of any Secret, wherever it was planted."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from npc_runtime.cli.answers import Code
from tests.component.cli.conftest import CORE, OPERATOR_PODS, OWN, POD, Run
from tests.component.cli.fake_api import FakeApi
from tests.unit.cli import objects as o

PLANTED = "tr0ub4dor-and-three"


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive.getmembers():
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.partition("/")[2]] = file.read().decode()
        return found


def archives(folder: Path) -> list[str]:
    """Whole ones and begun ones."""
    return [path.name for path in folder.glob("*.tar.gz*")]


@pytest.fixture
def planted(api: FakeApi) -> FakeApi:
    """One secret in a Secret, an environment, an annotation, an Event, a status, arguments and logs."""
    value = base64.b64encode(PLANTED.encode()).decode()
    api.put(f"{CORE}/secrets", {"kind": "Secret", "metadata": {"name": "keys"}, "data": {"game": value}})
    pod: dict[str, Any] = api.collections[f"{CORE}/pods"][0]
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"x": "{PLANTED}"}}'}
    pod["metadata"]["managedFields"] = [{"manager": PLANTED}]
    pod["spec"]["containers"] = [
        {
            "name": "engine",
            "args": ["--hf-token", PLANTED],
            "env": [{"name": "HF_TOKEN", "value": PLANTED}],
        }
    ]
    api.put(f"{CORE}/events", o.event(POD, "Failed", f"could not log in with {PLANTED}"))
    tier: dict[str, Any] = api.collections[f"{OWN}/gputiers"][0]
    tier["spec"]["engine"]["env"] = [{"name": "HF_TOKEN", "value": PLANTED}]
    tier["status"]["conditions"][0]["message"] = f"password={PLANTED}"
    api.logs[POD, "engine"] = (
        f"2026-11-21T12:00:00Z token {PLANTED} used\n2026-11-21T12:00:01Z Authorization: Bearer abcdef123\n"
    )
    api.logs[POD, "agent"] = '{"message": "adapter is proven"}\n'
    return api


async def test_no_secret_leaves_with_a_dump(run: Run, planted: FakeApi, tmp_path: Path) -> None:
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.FINE, ran.err
    files = read(tmp_path / "d.tar.gz")
    encoded = base64.b64encode(PLANTED.encode()).decode()
    for name, body in files.items():
        assert PLANTED not in body, name
        assert encoded not in body, name
        assert "abcdef123" not in body, name
    assert "adapter is proven" in files[f"logs/{POD}/agent.log"]
    assert "token (removed) used" in files[f"logs/{POD}/engine.log"]
    assert PLANTED not in ran.out + ran.err


async def test_everything_that_explains_is_in_it(run: Run, planted: FakeApi, tmp_path: Path) -> None:
    planted.put(OPERATOR_PODS)
    await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    files = read(tmp_path / "d.tar.gz")
    names = {
        "npcregions",
        "gputiers",
        "archetypeadapters",
        "pods",
        "services",
        "deployments",
        "events",
        "nodes",
        "lease",
    }
    assert {f"objects/{name}.json" for name in names} <= set(files)
    assert json.loads(files["objects/gputiers.json"])[0]["spec"]["engine"]["image"] == "vllm:test"
    assert json.loads(files["objects/lease.json"])["spec"]["holderIdentity"].startswith("npc-operator-")
    assert files["why.txt"].startswith("namespace eu-west serves")
    assert files["status.txt"].startswith("Regions")
    assert json.loads(files["about.json"])["secretValuesLookedFor"] is True
    assert not [name for name in files if "secret" in name.lower()]


async def test_the_audit_trail_of_all_operators_is_in_one_file_by_time(
    run: Run, planted: FakeApi, tmp_path: Path
) -> None:
    def said(logger: str, **more: str) -> str:
        return json.dumps({"level": "INFO", "logger": logger, "message": "candidate taken back", **more})

    for name, lines in {
        "npc-operator-a": [
            f"2026-11-21T12:00:03Z {said('npc_operator.audit', by=PLANTED)}",
            f"2026-11-21T12:00:02Z {said('npc_operator.loop.runner')}",
            "2026-11-21T12:00:02Z Traceback (most recent call last):",
        ],
        "npc-operator-b": [f"2026-11-21T12:00:01Z {said('npc_operator.audit')}"],
    }.items():
        pod = o.pod(name, init=[], containers=[o.container("operator")])
        pod["metadata"] |= {"namespace": "npc-system", "labels": {"app.kubernetes.io/name": "npc-operator"}}
        planted.put(OPERATOR_PODS, pod)
        planted.logs[name, "operator"] = "\n".join(lines) + "\n"
    await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    files = read(tmp_path / "d.tar.gz")
    first, second = files["audit.txt"].splitlines()
    assert first.startswith("2026-11-21T12:00:01Z ")
    assert json.loads(second.partition(" ")[2])["by"] == "(removed)"
    assert "npc_operator.loop.runner" in files["operator-logs/npc-operator-a/operator.log"]


async def test_it_is_for_its_owner_alone_and_never_overwrites(run: Run, planted: FakeApi, tmp_path: Path) -> None:
    target = tmp_path / "d.tar.gz"
    await run("dump", "--file", str(target))
    assert target.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "d.tar.gz.partial").exists()
    before = target.read_bytes()
    ran = await run("dump", "--file", str(target))
    assert ran.code == Code.USAGE
    assert target.read_bytes() == before


async def test_without_the_right_on_secrets_patterns_do_what_they_can_and_it_is_said(
    run: Run, planted: FakeApi, tmp_path: Path
) -> None:
    planted.refused |= {("list", "secrets"), ("list", "nodes")}
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.FINE
    assert "no values of Secrets could be read" in ran.out
    files = read(tmp_path / "d.tar.gz")
    assert json.loads(files["about.json"])["secretValuesLookedFor"] is False
    assert PLANTED not in files["objects/pods.json"]
    assert PLANTED not in files["objects/gputiers.json"]
    assert "abcdef123" not in files[f"logs/{POD}/engine.log"]
    assert json.loads(files["about.json"])["notRead"] == [
        "log of eu-west-gateway-7c6f-b2k9d/gateway: the API server answered 400 for pods/log: container never ran",
        "there is no secrets/npc-fleet-internal in namespace eu-west",
        (
            "what agents and gateways say: there is no Secret npc-fleet-internal in namespace eu-west: the operator "
            "makes it with the region"
        ),
        "you may not list nodes",
        "you may not list secrets in namespace eu-west",
    ]


async def test_who_may_not_list_secrets_still_has_those_looked_for_that_may_be_read(
    run: Run, planted: FakeApi, tmp_path: Path
) -> None:
    """As with the chart's own Role: the engine's logs hold a word that looks like no secret at all."""
    planted.collections[f"{OWN}/npcregions"][:] = [o.region(auth="game-keys")]
    for name, word in (("npc-fleet-internal", "the-operators-word"), ("game-keys", "a-players-word")):
        value = base64.b64encode(word.encode()).decode()
        planted.put(f"{CORE}/secrets", {"kind": "Secret", "metadata": {"name": name}, "data": {"key": value}})
    planted.logs[POD, "agent"] = "2026-11-21T12:00:00Z heard the-operators-word and a-players-word\n"
    planted.refused.add(("list", "secrets"))
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert "of the values of Secrets only those of game-keys, npc-fleet-internal could be read" in ran.out
    files = read(tmp_path / "d.tar.gz")
    assert files[f"logs/{POD}/agent.log"].endswith("heard (removed) and (removed)\n")
    assert json.loads(files["about.json"])["secretsLookedFor"] == ["game-keys", "npc-fleet-internal"]


async def test_what_cannot_be_read_costs_no_more_than_itself(run: Run, planted: FakeApi, tmp_path: Path) -> None:
    planted.absent |= {f"{OWN}/{kind}" for kind in ("npcregions", "gputiers", "archetypeadapters")}
    planted.broken[f"{CORE}/events"] = 500
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.FINE, ran.err
    files = read(tmp_path / "d.tar.gz")
    assert "adapter is proven" in files[f"logs/{POD}/agent.log"]
    told = json.loads(files["about.json"])["notRead"]
    assert any("the CRDs are not installed" in one for one in told)
    assert any("answered 500 for events" in one for one in told)


async def test_where_nobody_answers_there_is_no_archive(run: Run, planted: FakeApi, tmp_path: Path) -> None:
    planted.broken[f"{OWN}/npcregions"] = 503
    assert (await run("dump", "--file", str(tmp_path / "d.tar.gz"))).code == Code.NO_CLUSTER
    assert archives(tmp_path) == []


async def test_an_archive_that_cannot_be_finished_leaves_nothing_behind(
    run: Run, planted: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tarfile.TarFile.addfile", full)
    ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.USAGE
    assert "No space left on device" in ran.err
    assert archives(tmp_path) == []


async def test_a_folder_that_is_not_there_is_said_before_anything_is_read(
    run: Run, api: FakeApi, tmp_path: Path
) -> None:
    ran = await run("dump", "--file", str(tmp_path / "none" / "d.tar.gz"))
    assert ran.code == Code.USAGE
    assert f"there is no folder {tmp_path}/none" in ran.err
    assert api.requests == []
