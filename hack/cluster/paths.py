"""Where things lie: one folder for what can be made again, one for the running cluster.

The only module of the tool that reads the environment for folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

DEFAULT_STATE = "/var/lib/npc-fleet/cluster"
# A Unix socket's path holds 108 bytes; the longest one below the state folder is containerd's ttrpc socket.
_LONGEST_SUFFIX = len("/nodes/") + 32 + len("/containerd/containerd.sock.ttrpc")
_SOCKET_PATH_LIMIT = 107


def repository() -> Path:
    """The root of the checkout this tool runs from."""
    return Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Built binaries, downloads and images: safe to delete, costly to make."""
    if chosen := os.environ.get("NPC_FLEET_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "npc-fleet"


def state_dir() -> Path:
    """Everything the running cluster owns.

    :raises ClusterError: when the folder's name is too long for the Unix sockets below it.
    """
    chosen = Path(os.environ.get("NPC_FLEET_STATE") or DEFAULT_STATE).expanduser().absolute()
    if len(str(chosen)) + _LONGEST_SUFFIX > _SOCKET_PATH_LIMIT:
        raise ClusterError(
            f"NPC_FLEET_STATE={chosen} is too long for Unix sockets: "
            f"use at most {_SOCKET_PATH_LIMIT - _LONGEST_SUFFIX} characters"
        )
    return chosen


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The files of one node."""

    root: Path

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd" / "containerd.sock"

    @property
    def containerd_root(self) -> Path:
        return self.root / "containerd" / "root"

    @property
    def containerd_state(self) -> Path:
        return self.root / "containerd" / "state"

    @property
    def runc_root(self) -> Path:
        return self.root / "containerd" / "runc"

    @property
    def containerd_config(self) -> Path:
        return self.root / "containerd" / "config.toml"

    @property
    def cni(self) -> Path:
        return self.root / "cni"

    @property
    def kubelet_root(self) -> Path:
        return self.root / "kubelet"

    @property
    def kubelet_config(self) -> Path:
        return self.root / "kubelet.yaml"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubelet.kubeconfig"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pod-logs"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster, below its state folder."""

    root: Path

    @property
    def state_file(self) -> Path:
        return self.root / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit" / "audit.log"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    def node(self, name: str) -> NodeLayout:
        return NodeLayout(self.root / "nodes" / name)

    def log(self, process: str) -> Path:
        return self.logs / f"{process.replace('/', '-')}.log"
