"""Kubeconfigs as they come: what cannot be used is said in a sentence, with code 5 and nothing of what is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from tests.component.cli.fake_api import FakeApi

SECRET = "callers-own-token"


def without(folder: Path, *keys: str) -> str:
    """A usable kubeconfig that lacks something."""
    path = Path(FakeApi(port=1).kubeconfig(folder))
    content = yaml.safe_load(path.read_text())
    for key in keys:
        del content[key]
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"users: [{{user: {{token: {SECRET}\n", "is no YAML: expected ',' or '}'"),
        ("", "cannot be used: Invalid kube-config"),
        (f"{SECRET}\n", "cannot be read: "),
        ("[1, 2]\n", "cannot be read: "),
        ("clusters: 5\n", "cannot be read: "),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_said_to_be_none(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    assert main(["status", "--kubeconfig", str(path)]) == Code.NO_CLUSTER
    err = capsys.readouterr().err
    assert err.startswith(f"error: the kubeconfig {path} {said}")
    assert "\nnext: kubectl config " in err
    assert SECRET not in err


@pytest.mark.parametrize("missing", ["clusters", "contexts", "current-context"])
def test_a_kubeconfig_that_lacks_a_part_is_said_to_be_unusable(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(without(tmp_path, missing))
    assert main(["status", "--kubeconfig", str(path)]) == Code.NO_CLUSTER
    assert f"the kubeconfig {path} cannot be " in capsys.readouterr().err


def test_a_context_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = FakeApi(port=1).kubeconfig(tmp_path)
    assert main(["status", "--kubeconfig", path, "--context", "nope"]) == Code.NO_CLUSTER
    err = capsys.readouterr().err
    assert "nope" in err
    assert "kubectl config get-contexts" in err


def test_a_kubeconfig_that_is_not_there_or_a_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--kubeconfig", str(tmp_path / "none")]) == Code.NO_CLUSTER
    assert capsys.readouterr().err.startswith(f"error: there is no kubeconfig at {tmp_path}/none\n")
    assert main(["status", "--kubeconfig", str(tmp_path)]) == Code.NO_CLUSTER
    assert f"the kubeconfig {tmp_path} cannot be read" in capsys.readouterr().err


def test_a_home_that_nobody_knows_is_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--kubeconfig", "~nobody-of-that-name/.kube/config"]) == Code.NO_CLUSTER
    assert "there is no kubeconfig at ~nobody-of-that-name/.kube/config" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("broken", "cannot be used"), ("none", "there is no kubeconfig at")])
def test_the_kubeconfig_of_the_environment_is_named_where_it_cannot_be_used(
    name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").write_text(without(tmp_path, "current-context") + "current-context: gone\n")
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / name), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "npc_runtime.cli", "status"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == Code.NO_CLUSTER, ran.stderr
    assert said in ran.stderr
    assert f"{tmp_path}/{name}" in ran.stderr
    assert "Traceback" not in ran.stderr
