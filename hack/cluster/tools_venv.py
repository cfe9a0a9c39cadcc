"""Python virtual environments of the tool's own, in the cache: for the Go tool chain and for fetching wheels."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hack.cluster.console import run_logged, step
from hack.cluster.files import locked
from hack.cluster.packages import PYTHON_VENV, ensure_packages
from hack.cluster.paths import cache_dir, repository


def tool_venv(name: str, *, usually: str) -> Path:
    """The root of a virtual environment that holds what ``requirements/<name>.txt`` locks, made when it is not there.

    :raises ClusterError: when it cannot be made; names the log.
    """
    lock = repository() / "requirements" / f"{name}.txt"
    key = hashlib.sha256("\n".join([sys.version, sys.base_prefix, lock.read_text()]).encode()).hexdigest()[:12]
    venv = cache_dir() / "venvs" / f"{name}-{key}"
    ready = venv / ".complete"
    if ready.exists():
        return venv
    log = cache_dir() / "logs" / f"venv-{name}.log"
    with locked(cache_dir() / "locks" / f"venv-{name}.lock", doing=f"making the {name} environment"):
        if ready.exists():
            return venv
        if venv.exists():  # what an interrupted run left
            shutil.rmtree(venv)
        if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True, check=False).returncode:
            ensure_packages([PYTHON_VENV], purpose=f"the {name} environment")
        with step(f"installing requirements/{lock.name} into {venv}", usually=usually):
            run_logged([sys.executable, "-m", "venv", venv], log=log, what=f"making {venv}")
            # --isolated would also drop the user's index settings, which must hold.
            env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
            run_logged(
                [venv / "bin" / "pip", "install", "--require-hashes", "--requirement", lock],
                log=log,
                what=f"installing requirements/{lock.name}",
                env=env,
            )
        ready.touch()
    return venv
