"""What containers and kubelets leave on the host outside their node's folder, and its removal.

containerd, its CNI library and the kubelet have a few paths fixed in their code. Only what is certainly ours is
deleted there; folders go when they are empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import mounts
from hack.cluster.paths import NodeLayout

_SHIM_SOCKETS = Path("/run/containerd/s")
_CNI_RESULTS = Path("/var/lib/cni/results")
_POD_LOG_LINKS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_NAMESPACE = "k8s.io"


@dataclass(frozen=True, slots=True)
class Shim:
    """The process that containerd leaves beside each pod: it holds the containers and outlives containerd."""

    pid: int
    pod: str
    containerd_socket: str

    @property
    def socket(self) -> Path:
        """Where it listens: the name is a hash that containerd makes of three words."""
        words = f"{self.containerd_socket}/{_NAMESPACE}/{self.pod}"
        return _SHIM_SOCKETS / hashlib.sha256(words.encode()).hexdigest()


def parse_shim(pid: int, command_line: bytes) -> Shim | None:
    """A shim from its ``/proc/PID/cmdline``; None for any other process."""
    words = [word.decode("utf-8", "replace") for word in command_line.split(b"\0")]
    if not words[0].rsplit("/", 1)[-1].startswith("containerd-shim"):
        return None
    flags = dict(itertools.pairwise(words))
    if "-id" not in flags or "-address" not in flags:
        return None
    return Shim(pid, flags["-id"], flags["-address"])


def shims(pids: Iterable[int], containerd_socket: Path | None = None) -> list[Shim]:
    """The shims among these processes, of one containerd or of any."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # ended meanwhile
            shim = parse_shim(pid, Path(f"/proc/{pid}/cmdline").read_bytes())
            if shim is not None and containerd_socket in (None, Path(shim.containerd_socket)):
                found.append(shim)
    return found


def remove_shim_sockets(ended: Iterable[Shim]) -> None:
    """Delete the sockets of shims that have been killed."""
    for shim in ended:
        shim.socket.unlink(missing_ok=True)


def remove_node_files(files: NodeLayout) -> None:
    """Delete the node's folder, what is mounted in it, and what it left elsewhere; its processes must have ended."""
    for address in files.containerd_state.glob("io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(address.read_text().strip().removeprefix("unix://"))
        if _SHIM_SOCKETS in socket.parents:
            socket.unlink(missing_ok=True)
    _remove_network_results(files.root.name)
    if _POD_LOG_LINKS.is_dir():
        for link in _POD_LOG_LINKS.iterdir():
            if link.is_symlink() and files.root in link.readlink().parents:
                link.unlink(missing_ok=True)
    mounts.unmount_below(files.root)
    if files.root.exists():
        shutil.rmtree(files.root)


def _remove_network_results(node: str) -> None:
    """One result of our network per pod, and one of the loopback network that does not say whose pod it is."""
    if not _CNI_RESULTS.is_dir():
        return
    prefix, suffix = f"npc-fleet-{node}-", "-eth0"
    for result in _CNI_RESULTS.glob(f"{prefix}*{suffix}"):
        pod = result.name.removeprefix(prefix).removesuffix(suffix)
        (_CNI_RESULTS / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)


def remove_empty_folders() -> None:
    """Delete the fixed folders that hold nothing any more, once no node of ours runs."""
    if _DEVICE_PLUGINS.is_dir():
        listening = Path("/proc/net/unix").read_text()
        socket = _DEVICE_PLUGINS / "kubelet.sock"
        if socket.exists() and str(socket) not in listening:
            socket.unlink()
    for folder in (_SHIM_SOCKETS, _CNI_RESULTS, _POD_LOG_LINKS, _DEVICE_PLUGINS):
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
    for parent in (_SHIM_SOCKETS.parent, _CNI_RESULTS.parent, _DEVICE_PLUGINS.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()
