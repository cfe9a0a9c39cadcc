"""The cluster's processes: started detached, found again for certain, ended one by one by pid.

A pid alone proves nothing: it is used again after a process ended. A process is ours when its pid, its start time
and the boot it started in are all as recorded. What a crash or Ctrl-C kept from being recorded (and the container
shims that containerd starts) is found by a mark in its environment that names the state folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster.console import tail
from hack.cluster.errors import ClusterError

MARK = "NPC_FLEET_CLUSTER"
_STATE_FIELD, _PARENT_FIELD, _START_FIELD = 0, 1, 19  # of /proc/PID/stat, counted after the command's name


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process as it was started. ``fingerprint`` covers its arguments and configuration files."""

    role: str
    pid: int
    start_ticks: int
    boot_id: str
    fingerprint: str


def boot_id() -> str:
    """The kernel's name for the time since the last boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def parse_stat(text: str) -> tuple[str, int, int]:
    """(state letter, parent pid, start time in ticks since boot) from the text of ``/proc/PID/stat``.

    The command's name may hold blanks and brackets, so fields count from its last closing bracket.
    """
    fields = text[text.rindex(")") + 2 :].split()
    return fields[_STATE_FIELD], int(fields[_PARENT_FIELD]), int(fields[_START_FIELD])


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, or None when no such process runs.

    A zombie has ended, unless threads of it are still ending: until then its ports and files are in use.
    """
    try:
        state, _, ticks = parse_stat(Path(f"/proc/{pid}/stat").read_text())
        if state in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) > 1:
            return ticks
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        with contextlib.suppress(ChildProcessError):  # somebody else's child: its parent reaps it
            os.waitpid(pid, os.WNOHANG)
        return None
    return ticks


def is_alive(record: ProcessRecord) -> bool:
    """Whether exactly this process still runs."""
    return record.boot_id == boot_id() and start_ticks(record.pid) == record.start_ticks


def started_at(record: ProcessRecord) -> float:
    """When the process started, in Unix seconds."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - record.start_ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the body is done (a no-op outside the main thread).

    Handlers are swapped rather than signals blocked: a blocked mask would be inherited by what the body starts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda got, _frame: held.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for got in held:
            signal.raise_signal(got)


def fingerprint(argv: Sequence[str], files: Iterable[Path] = ()) -> str:
    """What a process was started with, so that a changed flag or file means a restart."""
    digest = hashlib.sha256(json.dumps(list(argv)).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class ProcessTable:
    """The recorded processes of one cluster, one small file each."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        self._mark = mark

    def _file(self, role: str) -> Path:
        return self._folder / f"{role.replace('/', '@')}.json"

    def get(self, role: str) -> ProcessRecord | None:
        """The record of ``role``; None when there is none that can be read (a torn file is no record)."""
        try:
            return ProcessRecord(**json.loads(self._file(role).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def running(self, role: str) -> ProcessRecord | None:
        """The record of ``role`` if that very process still runs."""
        record = self.get(role)
        return record if record is not None and is_alive(record) else None

    def roles(self) -> list[str]:
        """Every recorded role, dead or alive."""
        if not self._folder.is_dir():
            return []
        return sorted(path.stem.replace("@", "/") for path in self._folder.glob("*.json"))

    def start(
        self,
        role: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        depends_on: Iterable[Path] = (),
    ) -> bool:
        """Start ``role`` unless it runs already with the same arguments and files; True when it was (re)started.

        The process gets a session of its own, so Ctrl-C at the terminal never reaches it.
        """
        wanted = fingerprint(argv, depends_on)
        current = self.running(role)
        if current is not None:
            if current.fingerprint == wanted:
                _send(current.pid, current.start_ticks, signal.SIGCONT)  # a test may have left it frozen
                return False
            self.stop([role], grace_seconds=5.0)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **(env or {}), MARK: self._mark}
        with uninterrupted(), log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
            ticks = start_ticks(child.pid)
            record = ProcessRecord(role, child.pid, -1 if ticks is None else ticks, boot_id(), wanted)
            temporary = self._file(role).with_suffix(".new")
            temporary.write_text(json.dumps(asdict(record)))
            temporary.rename(self._file(role))
        child.returncode = 0  # detached on purpose: keeps Popen from warning that its child still runs
        self._await_mark(child.pid, record.start_ticks)
        return True

    def check(self, role: str, *, log: Path) -> None:
        """:raises ClusterError: when ``role`` has ended, with the end of its log."""
        if self.running(role) is None:
            raise ClusterError(f"{role} ended right after its start; its log is {log}\n{tail(log)}")

    def stop(self, roles: Iterable[str], *, grace_seconds: float) -> None:
        """End these roles: SIGTERM, then SIGKILL after ``grace_seconds`` (0: SIGKILL at once); forget them."""
        names = list(roles)
        pids = [record.pid for name in names if (record := self.running(name)) is not None]
        end_processes(pids, grace_seconds=grace_seconds)
        for name in names:
            self._file(name).unlink(missing_ok=True)

    def signal(self, role: str, number: signal.Signals) -> None:
        """:raises ClusterError: when ``role`` does not run."""
        record = self.running(role)
        if record is None:
            raise ClusterError(f"{role} does not run")
        _send(record.pid, record.start_ticks, number)

    def marked(self) -> list[int]:
        """Every process whose environment carries this cluster's mark: recorded ones, lost ones and shims."""
        wanted = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # ended while we looked, or not ours to read
                if wanted in _environment(int(entry.name)):
                    found.append(int(entry.name))
        return sorted(found)

    def _await_mark(self, pid: int, ticks: int) -> None:
        """Return once the new process shows its environment, or has ended.

        vfork's parent goes on when exec lets go of the shared memory, which is before the kernel publishes the new
        program's environment: for that moment ``/proc/PID/environ`` is empty, and ``marked`` would miss the process.

        :raises ClusterError: when it shows none for a minute (stuck in the kernel).
        """
        deadline = time.monotonic() + 60.0
        while start_ticks(pid) == ticks:
            with contextlib.suppress(OSError):  # it ended meanwhile: the condition above sees that
                if _environment(pid) != [b""]:
                    return
            if time.monotonic() > deadline:
                raise ClusterError(f"process {pid} was started but never became its program: stuck in the kernel")
            time.sleep(0.001)


def _environment(pid: int) -> list[bytes]:
    """The environment ``pid`` was started with, one ``NAME=value`` each; ``[b""]`` while it has none yet.

    :raises OSError: it ended, or is not ours to read.
    """
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def _send(pid: int, ticks: int | None, number: signal.Signals) -> None:
    """Signal ``pid`` if it still is the process that started at ``ticks``; through a pidfd, so without a race."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if ticks is not None and start_ticks(pid) == ticks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def end_processes(pids: Iterable[int], *, grace_seconds: float) -> None:
    """End these processes, now identified by pid and start time, and wait until they are gone.

    :raises ClusterError: when one outlives SIGKILL by a minute (stuck in the kernel); it is named.
    """
    alive = {pid: ticks for pid in pids if (ticks := start_ticks(pid)) is not None}
    if grace_seconds > 0:
        for pid, ticks in alive.items():
            _send(pid, ticks, signal.SIGTERM)
            _send(pid, ticks, signal.SIGCONT)  # a stopped process cannot act on SIGTERM
        alive = _wait_gone(alive, grace_seconds)
    for pid, ticks in alive.items():
        _send(pid, ticks, signal.SIGKILL)
    left = _wait_gone(alive, 60.0)
    if left:
        raise ClusterError(f"processes {sorted(left)} survive SIGKILL; they are stuck in the kernel")


def _wait_gone(alive: dict[int, int], seconds: float) -> dict[int, int]:
    deadline = time.monotonic() + seconds
    while True:
        alive = {pid: ticks for pid, ticks in alive.items() if start_ticks(pid) == ticks}
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)
