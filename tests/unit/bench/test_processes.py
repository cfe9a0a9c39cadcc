"""What the kernel's own texts say of a process."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hack.bench.processes import TICKS, cpu_seconds, memory, parse_stat, parse_status, start

STAT = "42 (a (strange) name) S 1 42 42 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 3 0 1000 1 2 3"


def test_cpu_time_is_user_and_system_whatever_the_name_holds() -> None:
    assert parse_stat(STAT.format(user=3 * TICKS, system=TICKS // 2)) == 3.5


def test_the_cpu_time_of_a_process_that_is_gone_is_zero(tmp_path: Path) -> None:
    assert cpu_seconds(42, proc=tmp_path) == 0.0


def test_memory_is_in_megabytes_of_a_million_bytes() -> None:
    seen = parse_status("Name:\tpython\nVmHWM:\t  200000 kB\nVmRSS:\t  100000 kB\n")
    assert (seen.resident, seen.peak) == (102.4, 204.8)


def test_this_process_has_used_cpu_and_memory() -> None:
    assert cpu_seconds(os.getpid()) > 0
    seen = memory(os.getpid())
    assert 10 < seen.resident <= seen.peak


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_child_ends_and_leaves_its_words_in_the_log(tmp_path: Path, how: str) -> None:
    log = tmp_path / "child.log"
    child = start([sys.executable, "-c", "print('here', flush=True); input()"], log=log, env=dict(os.environ))
    # Its standard input is closed, so it ends by itself at the latest; kill and stop must take either.
    while not log.read_text() and not child.ended():
        time.sleep(0.01)
    getattr(child, how)()
    assert child.ended()
    assert child.log_tail().startswith("here")
