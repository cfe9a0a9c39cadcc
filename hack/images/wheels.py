"""Wheels for the image: the locked dependencies fetched on the host, the project's own built from the checkout.

The host's Python may be newer than the image's: platform, version and markers are those of the image throughout.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from hack.cluster.binaries import architecture
from hack.cluster.console import run_logged, run_quiet, step
from hack.cluster.files import locked
from hack.cluster.paths import cache_dir
from hack.cluster.tools_venv import tool_venv
from hack.images.content import content_key

PYTHON = "3.11"
_GLIBC_MINORS = range(17, 37)  # Debian 12 has glibc 2.36

SELECT = """
import json, sys
from packaging.requirements import Requirement
environment = json.loads(sys.argv[1])
for entry in sys.stdin.read().replace("\\\\\\n", " ").splitlines():
    requirement, *hashes = entry.split(" --hash=")
    if not requirement.strip() or requirement.lstrip().startswith("#"):
        continue
    parsed = Requirement(requirement)
    if parsed.marker is None or parsed.marker.evaluate(environment):
        parsed.marker = None
        print(" ".join([str(parsed), *(f"--hash={h.strip()}" for h in hashes)]))
"""


def _tools() -> Path:
    return tool_venv("wheels", usually="10 to 20 s")


def _machine() -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}[architecture()]


def marker_environment() -> dict[str, str]:
    """What requirement markers see in the image."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{PYTHON}.0",
        "os_name": "posix",
        "platform_machine": _machine(),
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{PYTHON}.0",
        "python_version": PYTHON,
        "sys_platform": "linux",
    }


def dependencies(lock: Path) -> Path:
    """A folder with ``requirements.txt`` (hashes, without markers) and ``wheels/``, fetched when the cache has it not.

    :raises ClusterError: when a dependency cannot be fetched with the hash of the lock.
    """
    key = content_key([lock], base=lock.parent, extra=[PYTHON, _machine()])
    folder = cache_dir() / "wheels" / key
    if folder.exists():
        return folder
    with locked(cache_dir() / "locks" / "wheels.lock", doing="fetching wheels"):
        if folder.exists():
            return folder
        tools = _tools()
        temporary = folder.with_name(f".{key}.new")
        if temporary.exists():  # what an interrupted run left
            shutil.rmtree(temporary)
        (temporary / "wheels").mkdir(parents=True)
        chosen = temporary / "requirements.txt"
        chosen.write_text(
            run_quiet(
                [tools / "bin" / "python", "-c", SELECT, json.dumps(marker_environment())],
                what="reading the lock file",
                input_text=lock.read_text(),
            )
        )
        platforms = [f"manylinux_2_{minor}_{_machine()}" for minor in _GLIBC_MINORS]
        platforms.append(f"manylinux2014_{_machine()}")
        with step("fetching the wheels of the locked dependencies", usually="10 to 40 s"):
            run_logged(
                [
                    tools / "bin" / "pip", "download", "--require-hashes", "--no-deps", "--only-binary=:all:",
                    "--implementation=cp", f"--python-version={PYTHON}",
                    f"--abi=cp{PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none",
                    *(f"--platform={platform}" for platform in platforms),
                    "--dest", temporary / "wheels", "--requirement", chosen,
                ],
                log=cache_dir() / "logs" / "wheels.log",
                what="fetching wheels",
            )  # fmt: skip
        temporary.rename(folder)
    return folder


def project_wheel(checkout: Path, folder: Path) -> None:
    """Build the project's wheel into ``folder``, with the pinned build tool and nothing from outside.

    :raises ClusterError: when it does not build.
    """
    run_logged(
        [
            _tools() / "bin" / "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--wheel-dir",
            folder,
            checkout,
        ],
        log=cache_dir() / "logs" / "wheels.log",
        what="building the project's wheel",
        # Same sources, same bytes.
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
