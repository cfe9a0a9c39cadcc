"""Where a program that runs beside a control plane finds it, and where it keeps its own files.

The local cluster has one of these, and so has a test's own API server: what is proven on the one holds on the other.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.binaries import binary
from hack.cluster.console import run_quiet
from hack.cluster.kubeapi import KubeApi
from hack.cluster.processes import ProcessTable


@dataclass(frozen=True, slots=True)
class Beside:
    """A control plane as its administrator sees it.

    ``folder`` is for configuration, ``logs`` for one log per role; ``processes`` records what is started.
    """

    kubeconfig: Path
    api: KubeApi
    folder: Path
    logs: Path
    processes: ProcessTable

    @classmethod
    def at(cls, folder: Path, *, server: str, tls: ssl.SSLContext, kubeconfig: Path) -> Beside:
        """One for a control plane that is not the local cluster's, with everything of its own below ``folder``."""
        return cls(
            kubeconfig=kubeconfig,
            api=KubeApi(server, context=tls),
            folder=folder,
            logs=folder / "logs",
            processes=ProcessTable(folder / "pids", str(folder)),
        )

    def log(self, role: str) -> Path:
        return self.logs / f"{role}.log"

    def kubectl(self, *arguments: str | Path) -> str:
        """kubectl as administrator: for what is YAML, which Python alone cannot read. Its output.

        :raises ClusterError: when it fails.
        """
        command: list[str | Path] = [
            binary("kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.folder / 'kubectl'}",
        ]
        return run_quiet([*command, *arguments], what=f"kubectl {arguments[0]}")
