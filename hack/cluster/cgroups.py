"""The control groups of the nodes: ``npc-fleet/<node>`` in every hierarchy, version 1 or 2.

The kubelet wants its root to exist, and version 1's cpuset must be filled before a process can enter it. They also
say for certain which processes are containers of ours.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from hack.cluster.errors import ClusterError

ROOT = "npc-fleet"
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def hierarchies(mountinfo: str) -> list[tuple[Path, str]]:
    """(mount point, ``cgroup`` or ``cgroup2``) of every hierarchy in the text of ``/proc/self/mountinfo``."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0] if after else ""
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(before.split()[4]), kind))
    return found


def _mounted() -> list[tuple[Path, str]]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def create(node: str) -> None:
    """Make the node's group in every hierarchy.

    :raises ClusterError: when no hierarchy can be written.
    """
    mounted = _mounted()
    if not mounted:
        raise ClusterError("no cgroup hierarchy is mounted; the kubelet needs one below /sys/fs/cgroup")
    only_v2 = all(kind == "cgroup2" for _, kind in mounted)
    for mount, kind in mounted:
        if kind == "cgroup2" and not only_v2:
            continue  # a hybrid host: the kubelet uses version 1 alone
        path = mount
        for part in (ROOT, node):
            if kind == "cgroup2":
                _delegate(path)
            path = path / part
            path.mkdir(exist_ok=True)
            if kind == "cgroup":
                _inherit_cpuset(path)
        if kind == "cgroup2":
            _delegate(path)


def _delegate(path: Path) -> None:
    available = (path / "cgroup.controllers").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in available:
            with contextlib.suppress(OSError):  # a controller may be held back by the parent
                (path / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(path: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = path / name
        if file.exists() and not file.read_text().strip():
            file.write_text((path.parent / name).read_text())


def _trees(node: str | None) -> list[Path]:
    return [root for mount, _ in _mounted() if (root := mount / ROOT / (node or "")).is_dir()]


def processes(node: str | None = None) -> list[int]:
    """Every process in the groups of one node, or of all."""
    found: set[int] = set()
    for tree in _trees(node):
        for procs in tree.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group went while we looked
                found.update(int(line) for line in procs.read_text().split())
    return sorted(found)


def remove(node: str | None = None) -> None:
    """Remove the groups of one node, or all of ours; their processes must have ended.

    :raises ClusterError: when a group cannot be removed within a minute; it is named.
    """
    deadline = time.monotonic() + 60.0
    while True:
        left = [tree for tree in _trees(node) if not _remove_tree(tree)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot remove the control group {left[0]}: it still holds processes")
        time.sleep(0.1)


def _remove_tree(tree: Path) -> bool:
    folders = [path for path in tree.rglob("*") if path.is_dir()]
    for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), tree]:
        with contextlib.suppress(FileNotFoundError):
            try:
                folder.rmdir()
            except OSError:
                return False
    return True
