"""The base image without a registry: a small Debian made by mmdebstrap from Debian's own packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hack.cluster.console import run_logged, step
from hack.cluster.files import locked
from hack.cluster.paths import cache_dir
from hack.images.builder import PUBLIC_BASE, Builder

_SUITE = "bookworm"
_PACKAGES = ("python3", "python3-venv", "ca-certificates", "libgomp1", "libnuma1")


def base_image(tool: Builder) -> str:
    """The image to build on: ``NPC_FLEET_BASE_IMAGE``, with Docker the public one, else a Debian of our own.

    :raises ClusterError: when it cannot be made; names the log.
    """
    if chosen := os.environ.get("NPC_FLEET_BASE_IMAGE"):
        return chosen
    if tool.name == "docker":
        return PUBLIC_BASE
    recipe = hashlib.sha256(" ".join((_SUITE, *_PACKAGES)).encode()).hexdigest()[:12]
    name = f"localhost/npc-fleet/base:{recipe}"
    with locked(cache_dir() / "locks" / "base-image.lock", doing="making the base image"):
        if not tool.has(name):
            _make(tool, name, recipe)
    return name


def _make(tool: Builder, name: str, recipe: str) -> None:
    archive = cache_dir() / "images" / f"rootfs-{recipe}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        temporary = archive.with_suffix(".new.tar")  # mmdebstrap goes by the suffix
        temporary.unlink(missing_ok=True)
        with step(f"making a Debian {_SUITE} root file system with mmdebstrap", usually="40 to 60 s, once"):
            run_logged(
                ["mmdebstrap", "--variant=apt", f"--include={','.join(_PACKAGES)}", _SUITE, temporary],
                log=cache_dir() / "logs" / "mmdebstrap.log",
                what="mmdebstrap",
                nice=5,
            )
        temporary.rename(archive)
    with tempfile.TemporaryDirectory(dir=archive.parent) as context, step("making the base image", usually="10 s"):
        folder = Path(context)
        shutil.copyfile(archive, folder / "rootfs.tar")
        containerfile = folder / "Containerfile"
        containerfile.write_text("FROM scratch\nADD rootfs.tar /\n")
        tool.build(name, folder, containerfile, {})
