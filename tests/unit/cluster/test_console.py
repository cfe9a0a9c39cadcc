"""What takes long says what it is and how long it usually takes, and what fails names its log and shows its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hack.cluster import console, packages
from hack.cluster.console import run_logged, run_quiet, step, wait_for
from hack.cluster.errors import ClusterError


def test_a_step_says_what_it_does_how_long_it_usually_takes_and_that_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reminded = threading.Event()
    say = console.say

    def listen(message: str) -> None:
        say(message)
        if "still at it" in message:
            reminded.set()

    monkeypatch.setattr(console, "say", listen)
    monkeypatch.setattr(console, "_PROGRESS_SECONDS", 0.01)
    with step("building Kubernetes", usually="5 minutes"):
        assert reminded.wait(5)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "[cluster] building Kubernetes ... (usually 5 minutes)"
    assert "still at it: building Kubernetes" in said[1]


def test_a_command_that_fails_names_its_log_and_shows_its_end(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    script = "print('step one'); import sys; sys.exit('no space left on device')"
    with pytest.raises(ClusterError) as failed:
        run_logged([sys.executable, "-c", script], log=log, what="building it")
    assert str(failed.value).startswith(f"building it failed (exit status 1); its log is {log}\n")
    assert "no space left on device" in str(failed.value)
    assert "step one" in log.read_text()


def test_a_command_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot start /no/such/tool"):
        run_quiet(["/no/such/tool"])
    with pytest.raises(ClusterError, match="cannot start /no/such/tool"):
        run_logged(["/no/such/tool"], log=tmp_path / "log", what="building it")


def test_what_is_waited_for_in_vain_is_named() -> None:
    with pytest.raises(ClusterError, match=r"gave up after 0 s waiting for node spot-1"):
        wait_for("node spot-1", lambda: False, seconds=0.0, every=0.001)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order: said, or run."""
    done: list[str] = []
    monkeypatch.setattr(packages, "find_command", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "say", lambda message: done.append(f"said: {message}"))
    monkeypatch.setattr(packages, "run_logged", lambda argv, **_: done.append(" ".join(argv)))
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0))
    return done


def test_packages_are_named_before_apt_installs_them(apt: list[str]) -> None:
    packages.ensure_packages(["runc", "containerd"], purpose="the local cluster")
    assert apt == [
        "said: the local cluster needs packages that are not installed: containerd runc",
        "apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends containerd runc",
    ]


@pytest.mark.parametrize(
    ("complaint", "held", "runs"),
    [("E: Could not get lock /var/lib/apt/lists/lock.", 2, 3), ("E: The repository has no Release file.", 1, 1)],
    ids=["a held lock is waited for", "anything else is not"],
)
def test_lists_that_another_apt_reads_are_waited_for(
    apt: list[str], monkeypatch: pytest.MonkeyPatch, complaint: str, held: int, runs: int
) -> None:
    updates: list[str] = []

    def run(argv: list[str], **_: object) -> None:
        if argv[-1] == "update":
            updates.append(" ".join(argv))
            if len(updates) <= held:
                raise ClusterError(f"apt-get update failed (exit status 100)\n    {complaint}")

    monkeypatch.setattr(packages, "run_logged", run)
    monkeypatch.setattr(packages, "_UPDATE_PAUSE_SECONDS", 0.0)
    # The simulation that says whether the lists are good enough: they are not.
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 100))
    if runs > held:
        packages.ensure_packages(["runc"], purpose="the local cluster")
    else:
        with pytest.raises(ClusterError, match="no Release file"):
            packages.ensure_packages(["runc"], purpose="the local cluster")
    assert updates == ["apt-get -o DPkg::Lock::Timeout=300 update"] * runs
    assert len([line for line in apt if "another apt holds the lock" in line]) == runs - 1


@pytest.mark.parametrize(
    ("command", "uid", "words"),
    [(None, 0, "install them and try again"), ("/usr/bin/apt-get", 1000, "sudo apt-get install")],
    ids=["no apt", "no root"],
)
def test_where_nothing_can_be_installed_the_packages_are_named(
    apt: list[str], monkeypatch: pytest.MonkeyPatch, command: str | None, uid: int, words: str
) -> None:
    monkeypatch.setattr(packages, "find_command", lambda _: command)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(ClusterError, match=words) as refused:
        packages.ensure_packages(["runc"], purpose="the local cluster")
    assert "runc" in str(refused.value)
    assert apt == []
