"""The driver ``kind``: for hosts with Docker and without root. It makes, loads and deletes; kind's own means repair."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack.cluster.binaries import KUBERNETES, binary
from hack.cluster.console import run_logged, run_quiet, say, step
from hack.cluster.control_plane import AUDIT_POLICY, CONTEXT
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.image_store import Loadable
from hack.cluster.info import ClusterInfo, PartStatus
from hack.cluster.local import DEFAULT_NODES
from hack.cluster.node import is_ready
from hack.cluster.packages import find_command
from hack.cluster.paths import Layout, cache_dir, repository
from hack.cluster.state import ClusterState, NodeSpec, load, save

_CLUSTER = "npc-fleet-local"


def unusable_because() -> str | None:
    """Why this driver cannot run here, None when it can."""
    if find_command("docker") is None:
        return "there is no docker command"
    try:
        run_quiet(["docker", "info", "--format", "{{.ServerVersion}}"])
    except ClusterError as error:
        return f"Docker does not work: {error}"
    return None


class KindDriver:
    """One kind cluster of a fixed name; its files lie in the user's cache, since there is no root here."""

    name = "kind"

    def __init__(self) -> None:
        self._layout = Layout(cache_dir() / "kind-cluster")

    def _kind(self) -> str:
        command = find_command("kind")
        if command is None:
            raise ClusterError("the driver kind needs the command kind on PATH: https://kind.sigs.k8s.io")
        return command

    def up(self, nodes: Sequence[NodeSpec] | None = None) -> ClusterInfo:
        """See :class:`hack.cluster.info.Driver`."""
        reason = unusable_because()
        if reason is not None:
            raise ClusterError(f"the kind driver cannot be used: {reason}")
        wanted = tuple(DEFAULT_NODES if nodes is None else nodes)
        if _CLUSTER not in run_quiet([self._kind(), "get", "clusters"]).split():
            config = self._write_config(wanted)
            log = cache_dir() / "logs" / "kind.log"
            with step(f"making the kind cluster {_CLUSTER}", usually="60 to 120 s"):
                run_logged(
                    [self._kind(), "create", "cluster", "--name", _CLUSTER, "--config", config, "--wait", "180s",
                     "--image", f"kindest/node:{KUBERNETES}", "--kubeconfig", self._layout.kubeconfig],
                    log=log,
                    what="kind create cluster",
                )  # fmt: skip
        else:
            for container in run_quiet([self._kind(), "get", "nodes", "--name", _CLUSTER]).split():
                run_quiet(["docker", "start", container])
        text = run_quiet([self._kind(), "get", "kubeconfig", "--name", _CLUSTER])
        # Tests refuse every context but the local cluster's, whatever made it.
        write_atomically(self._layout.kubeconfig, text.replace(f"kind-{_CLUSTER}", CONTEXT), mode=0o600)
        state = ClusterState(self.name, str(repository()), wanted, CONTEXT, "")
        save(self._layout, state)
        say(f"the kind cluster {_CLUSTER} runs; kubeconfig: {self._layout.kubeconfig}")
        return self._info(state)

    def _write_config(self, nodes: Sequence[NodeSpec]) -> Path:
        folder = self._layout.audit_log.parent
        folder.mkdir(parents=True, exist_ok=True)
        policy = self._layout.config / "audit-policy.json"
        write_atomically(policy, json.dumps(AUDIT_POLICY))
        audit = {
            "kind": "ClusterConfiguration",
            "apiServer": {
                "extraArgs": {
                    "audit-policy-file": "/etc/npc-fleet/policy.json",
                    "audit-log-path": "/var/log/npc-fleet/audit.log",
                },
                "extraVolumes": [
                    {"name": "policy", "hostPath": "/npc-fleet/policy.json", "mountPath": "/etc/npc-fleet/policy.json",
                     "readOnly": True, "pathType": "File"},
                    {"name": "audit", "hostPath": "/npc-fleet/audit", "mountPath": "/var/log/npc-fleet",
                     "pathType": "DirectoryOrCreate"},
                ],
            },
        }  # fmt: skip
        control_plane = {
            "role": "control-plane",
            "kubeadmConfigPatches": [json.dumps(audit)],
            "extraMounts": [
                {"hostPath": str(policy), "containerPath": "/npc-fleet/policy.json", "readOnly": True},
                {"hostPath": str(folder), "containerPath": "/npc-fleet/audit"},
            ],
        }
        # Volumes over folders of the cache (the demo's S3 server and vLLM) have the same path on host and nodes.
        cache = {"hostPath": str(cache_dir()), "containerPath": str(cache_dir()), "readOnly": True}
        workers = [{"role": "worker", "labels": dict(node.labels), "extraMounts": [cache]} for node in nodes]
        config = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [control_plane, *workers]}
        path = self._layout.config / "kind.json"
        write_atomically(path, json.dumps(config, indent=2))
        return path

    def down(self) -> None:
        """See :class:`hack.cluster.info.Driver`."""
        if find_command("kind"):
            run_quiet([self._kind(), "delete", "cluster", "--name", _CLUSTER])
        if self._layout.root.exists():
            shutil.rmtree(self._layout.root)

    def _info(self, state: ClusterState) -> ClusterInfo:
        names = tuple(node["metadata"]["name"] for node in self._nodes())
        return ClusterInfo(
            self.name, self._layout.kubeconfig, state.context, self._layout.root, names, self._layout.audit_log
        )

    def _nodes(self) -> list[dict[str, Any]]:
        kubectl = [str(binary("kubectl")), f"--kubeconfig={self._layout.kubeconfig}"]
        items: list[dict[str, Any]] = json.loads(run_quiet([*kubectl, "get", "nodes", "-o", "json"]))["items"]
        return items

    def info(self) -> ClusterInfo | None:
        """See :class:`hack.cluster.info.Driver`."""
        state = load(self._layout)
        return None if state is None else self._info(state)

    def status(self) -> list[PartStatus]:
        """See :class:`hack.cluster.info.Driver`."""
        return [
            PartStatus(f"node {node['metadata']['name']}", ready, "Ready" if ready else "NotReady")
            for node in self._nodes()
            for ready in (is_ready(node),)
        ]

    def load_image(self, image: Loadable) -> None:
        """See :class:`hack.cluster.info.Driver`."""
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            with Path(archive.name).open("wb") as output:
                image.send(output, without=())
            run_quiet(
                [self._kind(), "load", "image-archive", archive.name, "--name", _CLUSTER], what=f"loading {image.name}"
            )

    def add_node(self, name: str, labels: dict[str, str], taints: Sequence[str]) -> None:
        """:raises ClusterError: always."""
        raise ClusterError("kind cannot add a node to a running cluster: 'down', then 'up' with the nodes you want")

    def remove_node(self, name: str) -> None:
        """:raises ClusterError: always."""
        raise ClusterError("kind cannot remove a node from a running cluster")

    def logs(self) -> dict[str, Path]:
        """See :class:`hack.cluster.info.Driver`."""
        return {"audit": self._layout.audit_log}
