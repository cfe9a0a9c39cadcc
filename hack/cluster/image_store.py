"""Built images in the cache, layer by layer, so that nodes are sent only the layers they have not.

A build tool can only export a whole image, half a gigabyte of it unchanged; a node needs the last two megabytes.
Layers are kept uncompressed under their digest: compressing costs more than it saves on one host.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.paths import cache_dir

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_KEPT = 3  # images of each repository; nodes have imported theirs, and an older one can be built again


class Loadable(Protocol):
    """An image that can be sent to a node."""

    @property
    def name(self) -> str:
        """Repository and tag."""

    def send(self, output: IO[bytes], *, without: Collection[str]) -> None:
        """Write an archive that containerd can import; blobs whose digest is in ``without`` may be left out."""


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """An image in an OCI or Docker archive from elsewhere."""

    name: str
    path: Path

    def send(self, output: IO[bytes], *, without: Collection[str]) -> None:
        """See :class:`Loadable`."""
        with self.path.open("rb") as archive:
            shutil.copyfileobj(archive, output, 1 << 20)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store. ``blobs`` are the digests of manifest, configuration and layers, the manifest first."""

    name: str
    blobs: tuple[str, ...]
    folder: Path

    def send(self, output: IO[bytes], *, without: Collection[str]) -> None:
        """See :class:`Loadable`."""
        manifest = self.blobs[0]
        entry = {
            "mediaType": _MANIFEST,
            "digest": manifest,
            "size": _blob(self.folder, manifest).stat().st_size,
            "annotations": {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name},
        }
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
        with tarfile.open(fileobj=output, mode="w|") as tar:
            for file, data in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
                body = encode(data)
                tar.addfile(tar_entry(file, size=len(body)), io.BytesIO(body))
            for digest in self.blobs:
                # The manifest goes always: importing it is what gives the image its name.
                if digest in without and digest != manifest:
                    continue
                path = _blob(self.folder, digest)
                with path.open("rb") as blob:
                    tar.addfile(tar_entry(f"blobs/sha256/{path.name}", size=path.stat().st_size), blob)


def encode(value: Any) -> bytes:
    """JSON whose bytes depend on the value alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def tar_entry(
    name: str, *, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tarfile.TarInfo:
    """An archive entry without owner and time, so that the same content gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = size, mode, kind, link
    return info


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.removeprefix("sha256:")


class ImageStore:
    """The images in one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_dir() / "images"

    def _ref(self, name: str) -> Path:
        return self._folder / "refs" / f"{name.replace('/', '@')}.json"

    def get(self, name: str) -> StoredImage | None:
        """The image of that name, None when it is not there whole."""
        try:
            blobs = tuple(json.loads(self._ref(name).read_text())["blobs"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
        image = StoredImage(name, blobs, self._folder)
        return image if all(_blob(self._folder, digest).exists() for digest in blobs) else None

    def add(self, name: str, config: dict[str, Any], layers: list[str]) -> StoredImage:
        """Name an image of these layers, which the store must hold, and forget the repository's oldest images."""
        config_digest = self.put(encode(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._descriptor(_CONFIG, config_digest),
            "layers": [self._descriptor(_LAYER, digest) for digest in layers],
        }
        blobs = (self.put(encode(manifest)), config_digest, *layers)
        write_atomically(self._ref(name), json.dumps({"name": name, "blobs": blobs}))
        self._forget_old(name)
        return StoredImage(name, blobs, self._folder)

    def put(self, body: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        path = _blob(self._folder, digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.new")
            temporary.write_bytes(body)
            temporary.rename(path)
        return digest

    def add_docker_archive(self, name: str, archive: IO[bytes]) -> StoredImage:
        """Take an image from what ``docker save`` or buildah's ``docker-archive`` writes, read as a stream.

        :raises ClusterError: when a layer has not the digest of the image's configuration, or something is missing.
        """
        small: dict[str, bytes] = {}
        spooled: dict[str, str] = {}  # member -> digest
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                source = tar.extractfile(member)
                if source is None:
                    continue
                if member.name.endswith(".json") or member.size < 4096:
                    small[member.name] = source.read()
                if member.name.endswith((".tar", "/layer")) or member.name.startswith("blobs/"):
                    body = io.BytesIO(small[member.name]) if member.name in small else source
                    spooled[member.name] = self._spool(body, member.name)
        try:
            manifest = json.loads(small["manifest.json"])[0]
            config = json.loads(small[manifest["Config"]])
            layers = [spooled[layer] for layer in manifest["Layers"]]
            wanted = config["rootfs"]["diff_ids"]
        except (KeyError, ValueError, IndexError) as error:
            raise ClusterError(f"the archive of {name} is not what docker save writes: {error!r}") from error
        if layers != wanted:
            raise ClusterError(f"the layers of {name} are not those of its configuration; build it again")
        return self.add(name, config, layers)

    def _spool(self, source: IO[bytes], member: str) -> str:
        """Keep a layer, or only count past one that is there: buildah names a layer's member by its digest."""
        known = member.rsplit("/", 1)[-1].removesuffix(".tar")
        if len(known) == 64 and _blob(self._folder, known).exists():
            return f"sha256:{known}"
        folder = self._folder / "blobs"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".layer.new"
        digest = hashlib.sha256()
        with temporary.open("wb") as output:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                output.write(chunk)
        temporary.rename(folder / digest.hexdigest())
        return f"sha256:{digest.hexdigest()}"

    def _descriptor(self, media_type: str, digest: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest, "size": _blob(self._folder, digest).stat().st_size}

    def _forget_old(self, newest: str) -> None:
        repository = newest.rpartition(":")[0].replace("/", "@")
        refs = sorted(self._ref(newest).parent.glob(f"{repository}:*.json"), key=lambda path: path.stat().st_mtime)
        for old in refs[:-_KEPT]:
            old.unlink()
        used = {digest for ref in self._ref(newest).parent.glob("*.json") for digest in _blobs_of(ref)}
        for blob in (self._folder / "blobs").iterdir():
            if not blob.name.startswith(".") and f"sha256:{blob.name}" not in used:
                blob.unlink(missing_ok=True)


def _blobs_of(ref: Path) -> list[str]:
    blobs: list[str] = json.loads(ref.read_text())["blobs"]
    return blobs
