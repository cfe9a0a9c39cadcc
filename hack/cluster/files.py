"""Files that are whole or absent, and locks that end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hack.cluster.console import say


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace ``path`` in one step; the mode holds from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=mode, exist_ok=False)
    temporary.write_text(text)
    temporary.rename(path)


@contextlib.contextmanager
def locked(lock_file: Path, *, doing: str) -> Iterator[None]:
    """Hold an exclusive lock while the body runs; waits for its turn and says so. The body may delete the file."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock_file.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another command holds {lock_file}; waiting for it before {doing}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_still(lock_file, handle):
                lock_file.parent.mkdir(parents=True, exist_ok=True)
                continue  # its former holder deleted it: what we hold guards nothing
            yield
            return


def _is_still(path: Path, handle: IO[str]) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle.fileno()).st_ino
    except FileNotFoundError:
        return False
