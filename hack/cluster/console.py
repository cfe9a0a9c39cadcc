"""What the tool says while it works, and how it runs commands that take long.

Everything goes to standard error, so that ``python -m hack.cluster kubeconfig`` can print a path that
scripts may use. A long command writes to a log file of its own; people see one line when it starts (with
the usual duration), one now and then while it runs, and the log's path and last lines when it fails.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hack.cluster.errors import ClusterError

_PROGRESS_SECONDS = 15.0
_TAIL_LINES = 15


def say(message: str) -> None:
    """One line for the person in front of the terminal."""
    print(f"[cluster] {message}", file=sys.stderr, flush=True)


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last ``lines`` lines of a log, indented; empty when there is no such file."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 16_384))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


@contextlib.contextmanager
def step(what: str, *, usually: str = "") -> Iterator[None]:
    """Announce ``what``, report now and then while the body runs, and say how long it took."""
    say(f"{what} ..." + (f" (usually {usually})" if usually else ""))
    began = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            say(f"  still at it: {what}, {time.monotonic() - began:.0f} s so far")

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
    took = time.monotonic() - began
    if took >= 1.0:
        say(f"  done in {took:.1f} s: {what}")


def run_logged(
    argv: Sequence[str | Path],
    *,
    log: Path,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    nice: int = 0,
) -> None:
    """Run ``argv`` with its output in ``log``; the child dies with us when we are interrupted.

    :raises ClusterError: when the command cannot be started or fails; names the log and shows its end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(part) for part in argv]
    if nice:
        command = ["nice", "-n", str(nice), *command]
    with log.open("ab") as output:
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd)
        except OSError as error:
            raise ClusterError(f"{what}: cannot start {command[0]}: {error}") from error
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    if code != 0:
        raise ClusterError(f"{what} failed (exit status {code}); its log is {log}\n{tail(log)}")


def run_quiet(
    argv: Sequence[str | Path], *, what: str = "", input_text: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a short command and return its standard output.

    :raises ClusterError: when it cannot be started or fails, with what it wrote on standard error.
    """
    command = [str(part) for part in argv]
    label = what or " ".join(command[:3])
    try:
        done = subprocess.run(
            command,
            input=input_text,
            capture_output=True,
            text=True,
            check=False,
            env=env,
            stdin=None if input_text else subprocess.DEVNULL,
        )
    except OSError as error:
        raise ClusterError(f"{label}: cannot start {command[0]}: {error}") from error
    if done.returncode != 0:
        raise ClusterError(
            f"{label} failed (exit status {done.returncode}): {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def wait_for(what: str, ready: Callable[[], bool], *, seconds: float, every: float = 0.1) -> None:
    """Ask ``ready`` until it is true.

    :raises ClusterError: after ``seconds``; the message is ``what``, so say there where to look.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"gave up after {seconds:.0f} s waiting for {what}")
        time.sleep(every)
