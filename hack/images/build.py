"""The images by name: what goes into each, what it is called, and where its archive lies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.console import say, step
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked
from hack.cluster.packages import IMAGES, ensure, find_command
from hack.cluster.paths import cache_dir, repository
from hack.images import wheels
from hack.images.builder import builder
from hack.images.content import content_key, tree_files
from hack.images.rootfs import base_image

_HERE = Path(__file__).parent
FLEET = "localhost/npc-fleet/npc-fleet"
ENGINE_BASE = "localhost/npc-fleet/engine-base"
_KEPT_ARCHIVES = 3  # of each image, so that a rebuild a minute does not fill the disk


@dataclass(frozen=True, slots=True)
class Image:
    """A built image and the archive that nodes load it from."""

    name: str
    archive: Path


def fleet() -> Image:
    """The image of operator, agent and gateway, built unless this checkout's content was built before.

    :raises ClusterError: when it cannot be built; names the log.
    """
    root = repository()
    lock = root / "requirements" / "operator.txt"
    sources = [root / "operator" / "npc_operator", root / "runtime" / "npc_runtime"]
    described = [root / "pyproject.toml", root / "README.md", root / "LICENSE", _HERE / "Containerfile", lock]

    def prepare(context: Path) -> None:
        shutil.copytree(wheels.dependencies(lock), context / "deps")
        (context / "dist").mkdir()
        wheels.project_wheel(root, context / "dist")

    key = content_key(tree_files(*sources, *described), base=root, extra=[wheels.PYTHON])
    return _built(FLEET, key, _HERE / "Containerfile", prepare)


def engine_base() -> Image:
    """The base of the demo's CPU engines, built unless it is there.

    :raises ClusterError: when it cannot be built; names the log.
    """
    file = _HERE / "Containerfile.engine-base"
    return _built(ENGINE_BASE, content_key([file], base=_HERE), file, lambda _context: None)


_BY_SHORT_NAME: dict[str, Callable[[], Image]] = {"fleet": fleet, "engine-base": engine_base}


def by_short_name(name: str) -> Image:
    """``fleet`` or ``engine-base``, built if need be.

    :raises ClusterError: for another name, or when it cannot be built.
    """
    if name not in _BY_SHORT_NAME:
        raise ClusterError(f"unknown image {name!r}; known: {', '.join(_BY_SHORT_NAME)}")
    return _BY_SHORT_NAME[name]()


def resolve(image: str, name: str = "") -> tuple[Path, str]:
    """(archive, image name) for a short name, a name of ours that was built before, or an archive that holds ``name``.

    :raises ClusterError: when there is no such image.
    """
    if image in _BY_SHORT_NAME:
        built = by_short_name(image)
        return built.archive, built.name
    if (archive := _archive(image)).exists():
        return archive, image
    path = Path(image)
    if not path.is_file():
        known = ", ".join(_BY_SHORT_NAME)
        raise ClusterError(f"{image!r} is neither one of our images ({known}), nor built here before, nor an archive")
    if not name:
        raise ClusterError(f"say which image {image} holds: --name REPOSITORY:TAG")
    return path.absolute(), name


def _archive(image: str) -> Path:
    return cache_dir() / "images" / f"{image.rsplit('/', 1)[-1].replace(':', '-')}.tar"


def _built(repository_name: str, key: str, containerfile: Path, prepare: Callable[[Path], None]) -> Image:
    if find_command("docker") is None:
        ensure(IMAGES, purpose="building images")
    with locked(cache_dir() / "locks" / f"image-{repository_name.rsplit('/', 1)[-1]}.lock", doing="building the image"):
        tool = builder()
        base = base_image(tool)
        # The base is part of the content: another base is another image.
        name = f"{repository_name}:{content_key([], base=Path(), extra=[key, base])}"
        archive = _archive(name)
        if archive.exists():
            return Image(name, archive)
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            step(f"building {name} with {tool.name}", usually="3 to 6 s, 40 s with new dependencies"),
            tempfile.TemporaryDirectory(dir=archive.parent) as folder,
        ):
            context = Path(folder)
            prepare(context)
            tool.build(name, context, containerfile, {"BASE": base})
            temporary = archive.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            tool.save(name, temporary)
            temporary.rename(archive)
        _forget_old(archive)
        say(f"built {name}")
    return Image(name, archive)


def _forget_old(newest: Path) -> None:
    """Keep the newest few archives of an image. Nodes have imported theirs; an older one can be built again."""
    stem = newest.name.rsplit("-", 1)[0]
    same = sorted(newest.parent.glob(f"{stem}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in same[_KEPT_ARCHIVES:]:
        old.unlink()
