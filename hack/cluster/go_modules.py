"""Files of a Go module's source: schemas and settings that a program's authors publish beside its code.

They are taken from the very version the program is built from, so the two cannot disagree. Go checks a module against
its checksum database when it downloads it; a copy of what is needed is kept in the cache, for a machine without Go.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from hack.cluster.console import run_quiet, step
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked
from hack.cluster.golang import go_command, go_environment
from hack.cluster.paths import cache_dir


def module_files(module: str, version: str, wanted: Sequence[str]) -> list[Path]:
    """Copies of these files and folders (paths inside the module), in the order asked for.

    :raises ClusterError: when the module cannot be had, or has no such file.
    """
    folder = cache_dir() / "modules" / f"{module.replace('/', '-')}-{version}"
    copies = [folder / name for name in wanted]
    if all(copy.exists() for copy in copies):
        return copies
    with locked(cache_dir() / "locks" / f"{folder.name}.lock", doing=f"getting files of {module}"):
        missing = [name for name in wanted if not (folder / name).exists()]
        if missing:
            source = _source(module, version)
            for name in missing:
                _copy(source / name, folder / name)
    return copies


def _source(module: str, version: str) -> Path:
    with step(f"getting the source of {module} {version}", usually="1 to 10 s once"):
        answer = run_quiet(
            [go_command(), "mod", "download", "-json", f"{module}@{version}"],
            what=f"go mod download {module}@{version}",
            env=go_environment(),
        )
    return Path(json.loads(answer)["Dir"])


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all, and writable: Go keeps its own files read-only, which nobody could delete later."""
    if not source.exists():
        raise ClusterError(f"there is no {source}; the module is not the version this was written for")
    temporary = target.with_name(f".{target.name}.new")
    if temporary.is_dir():  # what an interrupted copy left
        shutil.rmtree(temporary)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, temporary, copy_function=shutil.copyfile)
        for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
    else:
        shutil.copyfile(source, temporary)
    temporary.rename(target)
