"""Child processes of a benchmark, and what the kernel counted for them: CPU time, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(slots=True)
class Child:
    """One process that this benchmark started, with its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> float:
        """SIGKILL, reaped; returns time.monotonic() of the signal."""
        at = time.monotonic()
        self.process.kill()
        self.process.wait()
        return at

    def stop(self, seconds: float = 30.0) -> float:
        """SIGTERM, and SIGKILL after `seconds`; returns how long it took to end."""
        at = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return time.monotonic() - at

    def terminate(self) -> float:
        """SIGTERM without waiting; returns time.monotonic() of the signal."""
        at = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return at

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads; 0 once it is gone."""
        return cpu_seconds(self.pid)


def start(command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None) -> Child:
    """Start a process whose output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=dict(env), cwd=cwd
        )
    return Child(process, log)


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """User and system time of a process with all its threads; 0 when there is no such process."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return parse_stat(text)


def parse_stat(text: str) -> float:
    """CPU seconds in the text of /proc/PID/stat; the name in parentheses may hold anything, spaces included."""
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes)."""

    resident: float
    peak: float


def memory(pid: int, proc: Path = PROC) -> Memory:
    """Resident memory of a process now and at its highest. Raises FileNotFoundError when there is none."""
    return parse_status((proc / str(pid) / "status").read_text())


def parse_status(text: str) -> Memory:
    """VmRSS and VmHWM of /proc/PID/status, which counts in KiB."""
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Memory(resident=_megabytes(found["VmRSS"]), peak=_megabytes(found["VmHWM"]))


def _megabytes(field: str) -> float:
    return int(field.split()[0]) * 1024 / 1e6
