"""The two tools that build images, behind one small face: Docker where its daemon answers, else buildah as root.

buildah gets a storage of its own in the cache (a user's other images are none of our business) and ``chroot``
isolation, which works in virtual machines and containers where a nested runtime does not.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hack.cluster.console import run_logged, run_quiet
from hack.cluster.errors import ClusterError
from hack.cluster.packages import find_command
from hack.cluster.paths import cache_dir

PUBLIC_BASE = "docker.io/library/python:3.11-slim-bookworm"


class Builder(Protocol):
    """What is needed of a build tool. Every method may raise ClusterError."""

    name: str

    def has(self, image: str) -> bool:
        """Whether the tool's storage has an image of this name."""

    def build(self, image: str, context: Path, containerfile: Path, arguments: Mapping[str, str]) -> None:
        """Build ``image``; unchanged layers are taken from the storage."""

    def export(self, image: str) -> list[str | Path]:
        """The command that writes the image to its standard output, as ``docker save`` does."""

    def push(self, image: str, target: str) -> str:
        """Send the image to a registry as ``target`` (REGISTRY/NAME:TAG), with the tool's own login; its digest there,
        ``sha256:...``.
        """


def _build_log() -> Path:
    return cache_dir() / "logs" / "images.log"


class Docker:
    """Docker's own storage and build cache."""

    name = "docker"

    def has(self, image: str) -> bool:
        """See :class:`Builder`."""
        return bool(run_quiet(["docker", "images", "--quiet", image]).strip())

    def build(self, image: str, context: Path, containerfile: Path, arguments: Mapping[str, str]) -> None:
        """See :class:`Builder`."""
        flags = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        run_logged(
            ["docker", "build", *flags, "--file", containerfile, "--tag", image, context],
            log=_build_log(),
            what=f"building {image}",
        )

    def export(self, image: str) -> list[str | Path]:
        """See :class:`Builder`."""
        return ["docker", "save", image]

    def push(self, image: str, target: str) -> str:
        """See :class:`Builder`."""
        run_quiet(["docker", "tag", image, target])
        printed = run_quiet(["docker", "push", target], what=f"pushing to {target} (see docker login)")
        return _digest(printed, target)


class Buildah:
    """buildah with a storage of its own."""

    name = "buildah"

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        storage = cache_dir() / "buildah"
        return [
            "buildah",
            "--root",
            storage / "root",
            "--runroot",
            storage / "run",
            "--storage-driver",
            _storage_driver(storage),
            *arguments,
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "BUILDAH_ISOLATION": "chroot", "BUILDAH_LAYERS": "true"}

    def has(self, image: str) -> bool:
        """See :class:`Builder`."""
        names = run_quiet(self._command("images", "--format", "{{.Name}}:{{.Tag}}"), env=self._environment())
        return image in names.split()

    def build(self, image: str, context: Path, containerfile: Path, arguments: Mapping[str, str]) -> None:
        """See :class:`Builder`."""
        flags = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        run_logged(
            self._command(
                "build", "--layers", "--format", "oci", *flags, "--file", containerfile, "--tag", image, context
            ),
            log=_build_log(),
            what=f"building {image}",
            env=self._environment(),
        )

    def export(self, image: str) -> list[str | Path]:
        """See :class:`Builder`."""
        # Docker's format, because buildah compresses every layer anew for the other one.
        return self._command("push", "--quiet", image, f"docker-archive:/dev/stdout:{image}")

    def push(self, image: str, target: str) -> str:
        """See :class:`Builder`."""
        with tempfile.NamedTemporaryFile("r", prefix="npc-fleet-digest-") as file:
            run_quiet(
                self._command("push", "--quiet", "--digestfile", file.name, image, f"docker://{target}"),
                what=f"pushing to {target} (see buildah login)",
                env=self._environment(),
            )
            return _digest(Path(file.name).read_text(), target)


def _digest(text: str, target: str) -> str:
    found = re.search(r"sha256:[0-9a-f]{64}", text)
    if found is None:
        raise ClusterError(f"{target} was pushed, and the tool did not say under which digest")
    return found.group()


@functools.cache
def _storage_driver(storage: Path) -> str:
    """overlay where the disk carries it; plain copies elsewhere (an overlay cannot lie on an overlay)."""
    storage.mkdir(parents=True, exist_ok=True)
    kind = run_quiet(["stat", "--file-system", "--format=%T", storage]).strip()
    return "vfs" if kind in ("overlayfs", "nfs", "fuseblk") else "overlay"


@functools.cache
def builder() -> Builder:
    """The build tool to use: Docker with a working daemon, else buildah.

    :raises ClusterError: when neither can be used.
    """
    if find_command("docker"):
        try:
            run_quiet(["docker", "info", "--format", "{{.ServerVersion}}"])
        except ClusterError:
            pass  # a command without its daemon
        else:
            return Docker()
    if find_command("buildah") and os.geteuid() == 0:
        return Buildah()
    raise ClusterError("building images needs Docker, or root and buildah (apt-get install buildah mmdebstrap)")
