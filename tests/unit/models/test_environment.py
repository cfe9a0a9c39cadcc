"""Where the engine's packages live, and what is said when they cannot be used."""

import asyncio
import io
import subprocess
from pathlib import Path

import pytest

from hack.demo import __main__ as demo
from hack.demo.console import Console
from hack.models import __main__ as models
from hack.models import environment
from hack.models.environment import EngineEnvironmentError, cache_root, engine_python, is_complete, packages_folder
from hack.stack import commands, install


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "chosen"
    monkeypatch.delenv("NPC_FLEET_CACHE")
    assert cache_root() == tmp_path / "xdg" / "npc-fleet"


def test_another_lock_is_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    before = packages_folder()
    lock = tmp_path / "lock.txt"
    lock.write_bytes(environment.LOCK.read_bytes() + b"one-more==1.0\n")
    monkeypatch.setattr(environment, "LOCK", lock)
    assert packages_folder() != before
    assert packages_folder() == packages_folder()


def test_a_folder_that_was_not_finished_is_not_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    packages_folder().mkdir(parents=True)
    assert not is_complete(packages_folder())


def test_a_machine_without_python_311_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PYTHON_VERSION", "2.3")
    with pytest.raises(EngineEnvironmentError, match=r"Python 2\.3 .*python2\.3 is on PATH"):
        engine_python()


def test_a_machine_without_python_311_is_told_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    async def begin(*words: str) -> str:
        begun.append(" ".join(words))
        return ""

    monkeypatch.setattr(environment, "PYTHON_VERSION", "2.3")
    monkeypatch.setattr(commands, "run_tool", begin)
    out = io.StringIO()
    monkeypatch.setattr(demo, "Console", lambda: Console(out))
    assert demo.main(["up"]) == 1
    assert "Not begun: a real vLLM needs a Python 2.3 on this machine" in out.getvalue()
    assert "install Python 2.3 so that python2.3 is on PATH" in out.getvalue()
    assert models.main(["check"]) == 1
    assert "python2.3 is on PATH" in capsys.readouterr().err
    with pytest.raises(EngineEnvironmentError):
        asyncio.run(install.bring_up())
    assert begun == []


@pytest.mark.parametrize("target", ["test", "test-contract", "test-e2e"])
def test_the_tests_look_for_that_python_first(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=environment.ROOT, check=True, capture_output=True, text=True
    )
    plan = done.stdout
    assert (
        0
        <= plan.find("hack.models check")
        < min(at for at in map(plan.find, ("hack.ladder", "hack.cluster up", "hack.images")) if at >= 0)
    )


def test_too_little_disk_is_said_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    monkeypatch.setattr(environment, "_NEEDED_BYTES", 1 << 60)
    with pytest.raises(EngineEnvironmentError, match="NPC_FLEET_CACHE"):
        environment.ensure_packages()
    assert not is_complete(packages_folder())
