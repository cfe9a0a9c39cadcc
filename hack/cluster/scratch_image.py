"""A tiny image without a build tool: one layer of files, made by the standard library.

The cluster itself needs one image only, for the pause container; Debian's static busybox is all it takes, and the same
image is a shell with ``httpd``, ``nc`` and ``nslookup`` for tests.
"""

from __future__ import annotations

import functools
import hashlib
import io
import tarfile
from pathlib import Path

from hack.cluster.binaries import architecture
from hack.cluster.console import run_quiet
from hack.cluster.image_store import ImageStore, StoredImage, tar_entry

BUSYBOX = Path("/bin/busybox")
_REPOSITORY = "localhost/npc-fleet/busybox"


@functools.cache
def busybox_image() -> StoredImage:
    """The pause and test image, made when the cache has it not."""
    program = BUSYBOX.read_bytes()
    name = f"{_REPOSITORY}:{hashlib.sha256(program).hexdigest()[:16]}"
    store = ImageStore()
    found = store.get(name)
    if found is not None:
        return found
    layer = store.put(busybox_layer(program, run_quiet([BUSYBOX, "--list"]).split()))
    config = {
        "architecture": architecture(),
        "os": "linux",
        # The pause container is process 1 of a sandbox: it has to wait, and nothing else.
        "config": {"Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "infinity"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }
    return store.add(name, config, [layer])


def busybox_layer(program: bytes, applets: list[str]) -> bytes:
    """A root file system of busybox and a link for each of its applets. The same input gives the same bytes."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            tar.addfile(tar_entry(folder, mode=mode, kind=tarfile.DIRTYPE))
        tar.addfile(tar_entry("bin/busybox", mode=0o755, size=len(program)), io.BytesIO(program))
        for applet in sorted(set(applets) - {"busybox"}):
            tar.addfile(tar_entry(f"bin/{applet}", mode=0o777, kind=tarfile.SYMTYPE, link="busybox"))
    return output.getvalue()
