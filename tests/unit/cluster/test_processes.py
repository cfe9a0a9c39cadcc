"""A process of ours is known by pid, start time and boot: a recycled pid is never taken for it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import processes
from hack.cluster.console import wait_for
from hack.cluster.errors import ClusterError
from hack.cluster.processes import (
    ProcessTable,
    end_processes,
    fingerprint,
    is_alive,
    parse_stat,
    start_ticks,
    started_at,
    uninterrupted,
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    table = ProcessTable(tmp_path / "pids", str(tmp_path))
    yield table
    end_processes(table.marked(), grace_seconds=0)


def start(table: ProcessTable, tmp_path: Path, role: str = "sleeper", seconds: str = "1000") -> bool:
    return table.start(role, ["sleep", seconds], log=tmp_path / "log")


def test_a_stat_line_is_read_whatever_the_command_is_called() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_stat(f"17 (a ) b) S 1 {fields}") == ("S", 1, 21)


def test_a_record_tells_when_its_process_started(table: ProcessTable, tmp_path: Path) -> None:
    before = time.time()
    start(table, tmp_path)
    record = table.running("sleeper")
    assert record is not None
    # The kernel counts in hundredths of a second.
    assert before - 0.1 <= started_at(record) <= time.time() + 0.1


def test_a_started_process_runs_and_is_found_by_its_mark(table: ProcessTable, tmp_path: Path) -> None:
    assert start(table, tmp_path)
    record = table.running("sleeper")
    assert record is not None
    assert table.marked() == [record.pid]


def test_a_start_returns_only_when_the_process_shows_its_mark(
    table: ProcessTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = iter([[b""], [b""]])
    real = processes._environment
    monkeypatch.setattr(processes, "_environment", lambda pid: next(shown, None) or real(pid))
    start(table, tmp_path)
    assert next(shown, None) is None


def test_starting_what_runs_already_changes_nothing(table: ProcessTable, tmp_path: Path) -> None:
    start(table, tmp_path)
    first = table.running("sleeper")
    assert not start(table, tmp_path)
    assert table.running("sleeper") == first


def test_a_changed_argument_restarts_the_process(table: ProcessTable, tmp_path: Path) -> None:
    start(table, tmp_path)
    first = table.running("sleeper")
    assert start(table, tmp_path, seconds="2000")
    second = table.running("sleeper")
    assert first is not None
    assert second is not None
    assert first.pid != second.pid
    assert start_ticks(first.pid) is None


def test_a_frozen_process_goes_on_when_it_is_started_again(table: ProcessTable, tmp_path: Path) -> None:
    start(table, tmp_path)
    record = table.running("sleeper")
    assert record is not None

    def state() -> str:
        return parse_stat(Path(f"/proc/{record.pid}/stat").read_text())[0]

    table.signal("sleeper", signal.SIGSTOP)
    wait_for("the process to stop", lambda: state() == "T", seconds=30, every=0.01)
    start(table, tmp_path)
    wait_for("the process to go on", lambda: state() == "S", seconds=30, every=0.01)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_a_pid_with_another_start_or_boot_is_not_ours(
    table: ProcessTable, tmp_path: Path, change: dict[str, object]
) -> None:
    start(table, tmp_path)
    record = table.running("sleeper")
    assert record is not None
    assert not is_alive(dataclasses.replace(record, **change))  # type: ignore[arg-type]


def test_stopping_a_role_whose_pid_was_used_again_leaves_the_stranger_alive(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "pids", str(tmp_path))
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        start(table, tmp_path)
        file = tmp_path / "pids" / "sleeper.json"
        record = table.running("sleeper")
        assert record is not None
        recycled = dataclasses.replace(record, pid=stranger.pid, start_ticks=1)
        file.write_text(json.dumps(dataclasses.asdict(recycled)))
        table.stop(["sleeper"], grace_seconds=0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        end_processes(table.marked(), grace_seconds=0)


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(table: ProcessTable, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    table.start("deaf", ["sh", "-c", f"trap '' TERM; touch {ready}; sleep 1000 & wait; wait"], log=tmp_path / "log")
    wait_for("the trap to be set", ready.exists, seconds=30, every=0.01)
    record = table.running("deaf")
    assert record is not None
    table.stop(["deaf"], grace_seconds=0.1)
    assert start_ticks(record.pid) is None
    assert table.roles() == []


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(child.pid) is None
    child.returncode = 0


def test_a_process_that_ended_at_once_is_reported_with_the_end_of_its_log(table: ProcessTable, tmp_path: Path) -> None:
    log = tmp_path / "log"
    table.start("broken", ["sh", "-c", "echo no such flag; exit 1"], log=log)
    wait_for("the process to end", lambda: table.running("broken") is None, seconds=30, every=0.01)
    with pytest.raises(ClusterError, match="no such flag"):
        table.check("broken", log=log)


def test_a_torn_record_is_no_record(table: ProcessTable, tmp_path: Path) -> None:
    start(table, tmp_path)
    (tmp_path / "pids" / "sleeper.json").write_text('{"role": "sle')
    assert table.running("sleeper") is None


def test_ctrl_c_waits_until_the_process_is_on_record() -> None:
    reached = []

    def record() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end of the body")

    with pytest.raises(KeyboardInterrupt):
        record()
    assert reached


def test_a_fingerprint_covers_arguments_and_files(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("one")
    before = fingerprint(["a", "b"], [file])
    assert before == fingerprint(["a", "b"], [file])
    assert before != fingerprint(["a b"], [file])
    file.write_text("two")
    assert before != fingerprint(["a", "b"], [file])
