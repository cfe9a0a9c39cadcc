"""Mounts below a folder, and their removal: pods leave volumes, overlays and namespaces behind when killed."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from hack.cluster.console import run_quiet
from hack.cluster.errors import ClusterError


def below(folder: Path, mountinfo: str) -> list[Path]:
    """Mount points at or below ``folder`` in the text of ``/proc/self/mountinfo``, the last mounted first."""
    points = [_unescape(line.split()[4]) for line in mountinfo.splitlines() if line]
    return [point for point in map(Path, reversed(points)) if point == folder or folder in point.parents]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def unmount_below(folder: Path) -> None:
    """Unmount everything below ``folder``, lazily where something still holds it.

    :raises ClusterError: when a mount stays for a minute; it is named.
    """
    deadline = time.monotonic() + 60.0
    lazy: list[str] = []
    while points := below(folder, Path("/proc/self/mountinfo").read_text()):
        for point in points:
            with contextlib.suppress(ClusterError):  # looked at again below
                run_quiet(["umount", *lazy, str(point)])
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot unmount {points[0]}; see what holds it: fuser -vm {points[0]}")
        if lazy:
            time.sleep(0.1)
        lazy = ["--lazy"]
