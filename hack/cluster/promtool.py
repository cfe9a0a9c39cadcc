"""promtool where there is no download: the part of it that checks and tests rules, built in about a minute.

All of promtool brings the service discovery of every cloud along: twice as many packages, and three times the time to
build. What tests rules is one file of it, and that file is all we take, from the very version that ``go.sum`` names.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from hack.cluster.console import run_logged
from hack.cluster.errors import ClusterError
from hack.cluster.golang import go_command, go_environment
from hack.cluster.paths import cache_dir

PROMETHEUS = "v3.5.0"
PACKAGE = "github.com/prometheus/prometheus"
PACKAGE_VERSION = "v0.305.0"
"""PROMETHEUS in the words of Go modules, which know no version 3 of it."""

_MODULE = Path(__file__).parent / "promtool"
_OURS = ("go.mod", "go.sum", "main.go")
_TAKEN = "cmd/promtool/unittest.go"


def key() -> str:
    """Changes with anything that goes into the program but the tool chain."""
    digest = hashlib.sha256()
    for file in _OURS:
        digest.update((_MODULE / file).read_bytes())
    return digest.hexdigest()[:12]


def build(target: Path) -> None:
    """Build the program.

    :raises ClusterError: when Go, or the module, cannot be had.
    """
    go, log = go_command(), cache_dir() / "logs" / "build-promtool.log"
    work = target.with_name(".source")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        for file in _OURS:
            shutil.copyfile(_MODULE / file, work / file)
        environment = go_environment()
        run_logged([go, "mod", "download", PACKAGE], log=log, what=f"fetching {PACKAGE}", env=environment, cwd=work)
        shutil.copyfile(_source(go, work, environment) / _TAKEN, work / Path(_TAKEN).name)
        run_logged(
            [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", target, "."],
            log=log,
            what=f"building promtool {PROMETHEUS}",
            env=environment,
            cwd=work,
            nice=5,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _source(go: Path, work: Path, environment: dict[str, str]) -> Path:
    asked = subprocess.run(
        [str(go), "list", "-m", "-f", "{{.Version}} {{.Dir}}", PACKAGE],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    version, _, folder = asked.stdout.strip().partition(" ")
    if asked.returncode or version != PACKAGE_VERSION:
        raise ClusterError(f"{_MODULE}/go.mod gives {PACKAGE} {version or 'not at all'}: {asked.stderr.strip()}")
    return Path(folder)
