"""What a caller gets to know about a running cluster, and what a driver has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hack.cluster.image_store import Loadable
from hack.cluster.state import NodeSpec


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A cluster to talk to.

    ``audit_log`` is the API server's audit log at Metadata level (None where the driver has no way to it);
    ``nodes`` are the names of its nodes; ``state_dir`` is where the driver keeps what it knows.
    """

    driver: str
    kubeconfig: Path
    context: str
    state_dir: Path
    nodes: tuple[str, ...]
    audit_log: Path | None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of ``status``: a process or node, whether it works, and what else there is to say."""

    name: str
    ok: bool
    detail: str


class Driver(Protocol):
    """One way to have a cluster. Every method may raise ClusterError."""

    name: str

    def up(self, nodes: Sequence[NodeSpec] | None) -> ClusterInfo:
        """Make the cluster run: create, repair, or find that nothing is to be done. None: keep or default nodes."""

    def down(self) -> None:
        """Remove everything this driver made; does nothing where there is nothing."""

    def status(self) -> list[PartStatus]:
        """The parts of the cluster."""

    def info(self) -> ClusterInfo | None:
        """How to reach the cluster; None when there is none."""

    def load_image(self, image: Loadable) -> None:
        """Make the image available to every node; a node that has it is left alone."""

    def add_node(self, name: str, labels: dict[str, str], taints: Sequence[str]) -> None:
        """Add one node and wait until it is Ready."""

    def remove_node(self, name: str) -> None:
        """Drain, delete and dismantle one node."""

    def logs(self) -> dict[str, Path]:
        """Log files by process."""
