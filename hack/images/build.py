"""The images by name: what goes into each, what it is called, and where its archive lies."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from hack.cluster.console import say, step
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked
from hack.cluster.image_store import ArchiveImage, ImageStore, Loadable, StoredImage
from hack.cluster.packages import IMAGES, ensure, find_command
from hack.cluster.paths import cache_dir, repository
from hack.images import wheels
from hack.images.builder import Builder, builder
from hack.images.content import content_key, tree_files
from hack.images.rootfs import base_image

_HERE = Path(__file__).parent
FLEET = "localhost/npc-fleet/npc-fleet"
ENGINE_BASE = "localhost/npc-fleet/engine-base"
# The registry is named, because each tool adds another one where it is not: a first part with a dot or a port.
_TARGET = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+|[\w.-]+:\d+)(/[a-z0-9][a-z0-9._-]*)+:\w[\w.-]{0,127}", re.ASCII)


def fleet(*, in_tool: bool = False) -> StoredImage:
    """The image of operator, agent and gateway, built unless this checkout's content was built before.

    ``in_tool`` asks that the build tool holds it as well, which may have been tidied since.

    :raises ClusterError: when it cannot be built; names the log.
    """
    root = repository()
    lock = root / "requirements" / "operator.txt"
    sources = [root / "operator" / "npc_operator", root / "runtime" / "npc_runtime"]
    described = [root / "pyproject.toml", root / "README.md", root / "LICENSE", _HERE / "Containerfile", lock]

    def prepare(context: Path) -> dict[str, str]:
        dependencies = wheels.dependencies(lock)
        shutil.copytree(dependencies, context / "deps")
        (context / "dist").mkdir()
        wheels.project_wheel(root, context / "dist")
        return {"DEPS": dependencies.name}

    key = content_key(tree_files(*sources, *described), base=root, extra=[wheels.PYTHON])
    return _built(FLEET, key, _HERE / "Containerfile", prepare, in_tool=in_tool)


def engine_base(*, in_tool: bool = False) -> StoredImage:
    """The base of the demo's CPU engines, built unless it is there; ``in_tool`` as for :func:`fleet`.

    :raises ClusterError: when it cannot be built; names the log.
    """
    file = _HERE / "Containerfile.engine-base"
    return _built(ENGINE_BASE, content_key([file], base=_HERE), file, lambda _context: {}, in_tool=in_tool)


_BY_SHORT_NAME: dict[str, Callable[..., StoredImage]] = {"fleet": fleet, "engine-base": engine_base}


def by_short_name(name: str, *, in_tool: bool = False) -> StoredImage:
    """``fleet`` or ``engine-base``, built if need be; ``in_tool`` as for :func:`fleet`.

    :raises ClusterError: for another name, or when it cannot be built.
    """
    if name not in _BY_SHORT_NAME:
        raise ClusterError(f"unknown image {name!r}; known: {', '.join(_BY_SHORT_NAME)}")
    return _BY_SHORT_NAME[name](in_tool=in_tool)


def push(short_name: str, target: str) -> str:
    """Send an image, built if need be, to a registry as ``target``; ``REGISTRY/NAME@sha256:...`` is what it is there.

    The build tool logs in by its own files, those of ``docker login`` or ``buildah login``.

    :raises ClusterError: when ``target`` is no REGISTRY/NAME:TAG (before anything is built), or the registry refuses.
    """
    if not _TARGET.fullmatch(target):
        raise ClusterError(f"{target!r} is no REGISTRY/NAME:TAG, such as registry.example.com/npc-fleet:0.1.0")
    image = by_short_name(short_name, in_tool=True)
    with step(f"pushing {image.name} to {target}", usually="seconds, a minute for the first time"):
        digest = builder().push(image.name, target)
    return f"{target.rpartition(':')[0]}@{digest}"


def resolve(image: str, name: str = "") -> Loadable:
    """The image for a short name, a name of ours that was built before, or an archive that holds ``name``.

    :raises ClusterError: when there is no such image, or a name is given for one that has its own.
    """
    if name and not Path(image).is_file():
        raise ClusterError(f"a name goes with an archive, and {image!r} is no file")
    if image in _BY_SHORT_NAME:
        return by_short_name(image)
    if (stored := ImageStore().get(image)) is not None:
        return stored
    path = Path(image)
    if not path.is_file():
        known = ", ".join(_BY_SHORT_NAME)
        raise ClusterError(f"{image!r} is neither one of our images ({known}), nor built here before, nor an archive")
    if not name:
        raise ClusterError(f"say which image {image} holds: --name REPOSITORY:TAG")
    return ArchiveImage(name, path.absolute())


def _built(
    repository_name: str,
    key: str,
    containerfile: Path,
    prepare: Callable[[Path], dict[str, str]],
    *,
    in_tool: bool,
) -> StoredImage:
    if find_command("docker") is None:
        ensure(IMAGES, purpose="building images")
    with locked(cache_dir() / "locks" / "images.lock", doing="building the image"):
        tool = builder()
        base = base_image(tool)
        # The base is part of the content: another base is another image.
        name = f"{repository_name}:{content_key([], base=Path(), extra=[key, base])}"
        store = ImageStore()
        if (stored := store.get(name)) is not None and (not in_tool or tool.has(name)):
            return stored
        with (
            step(f"building {name} with {tool.name}", usually="5 to 10 s, 60 s with new dependencies"),
            tempfile.TemporaryDirectory(prefix="npc-fleet-image-") as folder,
        ):
            context = Path(folder)
            arguments = prepare(context)
            tool.build(name, context, containerfile, {"BASE": base, **arguments})
            image = _export(tool, name, store)
        say(f"built {name}")
    return image


def _export(tool: Builder, name: str, store: ImageStore) -> StoredImage:
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen([str(word) for word in tool.export(name)], stdout=subprocess.PIPE, stderr=errors)
        try:
            assert child.stdout is not None
            with child.stdout as archive:
                image = store.add_docker_archive(name, archive)
        except tarfile.TarError as error:
            child.kill()
            child.wait()
            errors.seek(0)
            message = errors.read().decode("utf-8", "replace").strip()
            raise ClusterError(f"{tool.name} cannot export {name}: {message or error}") from error
        except BaseException:
            child.kill()
            child.wait()
            raise
        child.wait()
    return image
