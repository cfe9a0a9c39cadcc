"""A tiny image without a build tool: one layer of files, written as an OCI archive by the standard library.

The cluster itself needs one image only, for the pause container; Debian's static busybox is all it takes, and the same
image is a shell with ``wget`` and ``nslookup`` for tests.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from hack.cluster.binaries import architecture
from hack.cluster.console import run_quiet
from hack.cluster.paths import cache_dir

BUSYBOX = Path("/bin/busybox")
_REPOSITORY = "localhost/npc-fleet/busybox"


def busybox_image() -> tuple[str, Path]:
    """(name, OCI archive) of the pause and test image, written when the cache has it not."""
    digest = hashlib.sha256(BUSYBOX.read_bytes()).hexdigest()[:12]
    name = f"{_REPOSITORY}:{digest}"
    archive = cache_dir() / "images" / f"busybox-{digest}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        temporary = archive.with_suffix(".new")
        applets = run_quiet([BUSYBOX, "--list"]).split()
        write_archive(temporary, name, _layer(BUSYBOX.read_bytes(), applets))
        temporary.rename(archive)
    return name, archive


def _entry(name: str, *, mode: int, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.size = mode, kind, link, size
    return info


def _layer(program: bytes, applets: list[str]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            tar.addfile(_entry(folder, mode=mode, kind=tarfile.DIRTYPE))
        tar.addfile(_entry("bin/busybox", mode=0o755, size=len(program)), io.BytesIO(program))
        for applet in sorted(set(applets) - {"busybox"}):
            tar.addfile(_entry(f"bin/{applet}", mode=0o777, kind=tarfile.SYMTYPE, link="busybox"))
    return output.getvalue()


def write_archive(path: Path, name: str, layer: bytes) -> None:
    """An OCI archive of one image with this single, uncompressed layer. The same input gives the same bytes."""
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            # The pause container is process 1 of a sandbox: it has to wait, and nothing else.
            "config": {"Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "infinity"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = _json({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]})
    with tarfile.open(path, "w") as tar:
        for file, data in (
            ("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
            ("index.json", index),
            *((f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob) for blob in (layer, config, manifest)),
        ):
            tar.addfile(_entry(file, mode=0o644, size=len(data)), io.BytesIO(data))


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
