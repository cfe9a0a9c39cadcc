"""What the cluster is, on disk: read by every command and by every checkout on the host.

There is one cluster per host, because there is one set of addresses, bridges and cgroups. Two locks and one small
file keep that true: the state folder's lock makes commands take turns, and ``/run/npc-fleet/owner.json`` says which
folder owns the host's cluster, so that a second checkout (or another NPC_FLEET_STATE) finds it instead of breaking it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.paths import Layout, repository

OWNER_FILE = Path("/run/npc-fleet/owner.json")
HOST_LOCK = OWNER_FILE.parent / "lock"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One wanted node. ``index`` (1..200) gives it its pod network."""

    name: str
    index: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The wanted cluster: what ``up`` makes true again whenever it is called."""

    driver: str
    checkout: str
    nodes: tuple[NodeSpec, ...]
    context: str
    network: str

    def node(self, name: str) -> NodeSpec:
        """:raises ClusterError: when there is no node of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"there is no node {name!r}; nodes: {', '.join(n.name for n in self.nodes) or 'none'}")

    def with_node(self, node: NodeSpec) -> ClusterState:
        return replace(self, nodes=(*(n for n in self.nodes if n.name != node.name), node))

    def without_node(self, name: str) -> ClusterState:
        return replace(self, nodes=tuple(n for n in self.nodes if n.name != name))

    def free_index(self) -> int:
        """The lowest index no node uses."""
        used = {node.index for node in self.nodes}
        return next(i for i in range(1, 201) if i not in used)


def encode(state: ClusterState) -> str:
    return json.dumps({"format": _FORMAT, **asdict(state)}, indent=2, sort_keys=True) + "\n"


def decode(text: str, source: Path) -> ClusterState:
    """:raises ClusterError: when the text is not ours, or of another version of this tool."""
    try:
        raw: dict[str, Any] = json.loads(text)
        version = raw.pop("format")
        if version == _FORMAT:
            nodes = tuple(NodeSpec(**{**node, "taints": tuple(node["taints"])}) for node in raw.pop("nodes"))
            return ClusterState(nodes=nodes, **raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(f"{source} cannot be read ({error}); 'python -m hack.cluster down' removes it") from error
    raise ClusterError(
        f"{source} has format {version}, this checkout knows {_FORMAT}; 'python -m hack.cluster down' removes it"
    )


def load(layout: Layout) -> ClusterState | None:
    """The state on disk, None when there is no cluster there."""
    try:
        text = layout.state_file.read_text()
    except FileNotFoundError:
        return None
    return decode(text, layout.state_file)


def save(layout: Layout, state: ClusterState) -> None:
    """Write the state so that a reader sees the old or the new one, never half of it."""
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o711)
    write_atomically(layout.state_file, encode(state))


def host_owner() -> Path | None:
    """The state folder of the cluster that this host runs, None when none claims it."""
    try:
        raw = json.loads(OWNER_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return None
    folder = Path(raw["state_dir"])
    return folder if (folder / "cluster.json").exists() else None


def check_owner(layout: Layout) -> None:
    """:raises ClusterError: when another state folder's cluster runs on this host."""
    owner = host_owner()
    if owner is not None and owner != layout.root:
        raise ClusterError(
            f"this host already runs a cluster, in {owner}; use it (NPC_FLEET_STATE={owner}) "
            f"or end it first: NPC_FLEET_STATE={owner} python3 -m hack.cluster down"
        )


def claim_host(layout: Layout) -> None:
    """Make this state folder the host's cluster.

    :raises ClusterError: when another folder's cluster is there.
    """
    check_owner(layout)
    write_atomically(OWNER_FILE, json.dumps({"state_dir": str(layout.root), "checkout": str(repository())}) + "\n")


def release_host(layout: Layout) -> None:
    """Give the host free again, if this state folder owns it; called with the host's lock held."""
    if host_owner() in (layout.root, None):
        OWNER_FILE.unlink(missing_ok=True)
        HOST_LOCK.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a waiting command has made its lock file already
            OWNER_FILE.parent.rmdir()
