"""The packages of a real vLLM for the CPU, in a folder named by its content.

A folder of packages for PYTHONPATH, not a virtual environment: it holds no path and no interpreter, so the same folder
serves the host and, mounted read-only at any path, a pod whose image has Python 3.11 (Debian 12's /usr/bin/python3).
Its byte code is compiled when it is made, because a pod with a read-only mount would compile 60,000 files anew at every
start.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "vllm.txt"
PYTHON_VERSION = "3.11"
"""Of the packages: compiled parts fit this version only."""

_COMPLETE = "complete"
_GIGABYTE = 10**9
_NEEDED_BYTES = 15 * _GIGABYTE
"""6 GB of packages beside their download cache, and some air."""


class EngineEnvironmentError(RuntimeError):
    """The packages cannot be made or used on this machine; the message says what to do."""


def cache_root() -> Path:
    """Where this project keeps what it downloads: NPC_FLEET_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("NPC_FLEET_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "npc-fleet"


def packages_folder() -> Path:
    """The folder of the locked packages, made or not: PYTHONPATH for a Python 3.11."""
    content = f"{PYTHON_VERSION} {platform.machine()}\n".encode() + LOCK.read_bytes()
    return cache_root() / "vllm" / hashlib.sha256(content).hexdigest()[:16] / "packages"


def is_complete(packages: Path) -> bool:
    """Whether the folder was made to its end."""
    return (packages.parent / _COMPLETE).exists()


def engine_python() -> Path:
    """A Python 3.11 of this machine for the packages; raises EngineEnvironmentError if there is none."""
    for candidate in ("/usr/bin/python3", "python3.11", sys.executable):
        path = shutil.which(candidate)
        if path and _version_of(path) == PYTHON_VERSION:
            return Path(path)
    raise EngineEnvironmentError(
        f"a real vLLM needs a Python {PYTHON_VERSION} on this machine, no other: on Debian 12 that is the package "
        f"python3; on another release install Python {PYTHON_VERSION} so that python{PYTHON_VERSION} is on PATH, "
        "and try again"
    )


def ensure_packages() -> Path:
    """The folder of packages, made first if need be (about a minute and a half); safe to call from several processes at
    once.
    """
    packages = packages_folder()
    if is_complete(packages):
        return packages
    packages.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(packages.parent / "lock"):
        if not is_complete(packages):
            _make(packages)
    return packages


def lock_packages() -> None:
    """Resolve requirements/vllm.txt anew from vllm.in; neither index addresses nor paths get into it."""
    subprocess.run(
        [
            *(_uv(), "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", PYTHON_VERSION),
            *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
            "--upgrade",
            *("--override", "requirements/vllm.overrides", "-o", "requirements/vllm.txt", "requirements/vllm.in"),
        ],
        cwd=ROOT,
        env=_uv_environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _make(packages: Path) -> None:
    free = shutil.disk_usage(packages.parent).free
    if free < _NEEDED_BYTES:
        raise EngineEnvironmentError(
            f"{packages.parent} has {free / _GIGABYTE:.0f} GB free; vLLM and its download need "
            f"{_NEEDED_BYTES // _GIGABYTE} GB (NPC_FLEET_CACHE names another folder)"
        )
    started = time.monotonic()
    partial = packages.with_name(f"partial-{os.getpid()}")
    for leftover in packages.parent.glob("partial-*"):
        shutil.rmtree(leftover)
    _say("installing vLLM for the CPU (3 GB to download, 6 GB on disk, about a minute)")
    subprocess.run(
        [
            *(_uv(), "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:"),
            *("--python-version", PYTHON_VERSION, "--target", str(partial), "--requirement", str(LOCK)),
        ],
        env=_uv_environment(),
        # Pods read the folder as another user.
        umask=0o022,
        check=True,
    )
    _compile(partial)
    if packages.exists():
        shutil.rmtree(packages)
    partial.rename(packages)
    (packages.parent / _COMPLETE).touch()
    _say(f"vLLM is in {packages} after {time.monotonic() - started:.0f} s")


def _compile(packages: Path) -> None:
    try:
        python = engine_python()
    except EngineEnvironmentError as error:
        _say(f"byte code is not compiled, engines start slower: {error}")
        return
    _say("compiling its byte code (half a minute)")
    # Some packages carry templates and tests that are no valid Python; compileall reports them and goes on, and so do
    # we.
    command = [str(python), "-m", "compileall", "-qq", "-j", str(os.cpu_count() or 1), str(packages)]
    subprocess.run(command, env={"PATH": os.environ["PATH"]}, umask=0o022, check=False)


def _version_of(python: str) -> str:
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _uv() -> str:
    found = subprocess.run([str(ROOT / "hack" / "bootstrap.sh"), "uv"], stdout=subprocess.PIPE, text=True, check=True)
    return found.stdout.strip()


def _uv_environment() -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    }
    return {
        "UV_CACHE_DIR": str(cache_root() / "uv-cache"),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    } | environment


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)
