"""One node: a containerd and a kubelet of its own, sharing the host's kernel and network with the others.

Sharing one containerd does not work: each kubelet removes pods that it does not know. Everything a node writes lies
below its folder, so removing a node is: end its processes, unmount, delete.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hack.cluster import addresses, cgroups, mounts, node_config, pki, remains
from hack.cluster import network as host_network
from hack.cluster.addresses import Network, bridge_name
from hack.cluster.console import run_quiet, tail, wait_for
from hack.cluster.control_plane import CONTEXT
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.image_store import Loadable
from hack.cluster.kubeapi import ApiError, KubeApi
from hack.cluster.network import check_port
from hack.cluster.packages import find_command
from hack.cluster.paths import Layout, NodeLayout
from hack.cluster.processes import ProcessTable, boot_id, end_processes, started_at
from hack.cluster.state import NodeSpec

_ENVIRONMENT = {"GOMAXPROCS": "4"}


def containerd_role(node: str) -> str:
    return f"{node}/containerd"


def kubelet_role(node: str) -> str:
    return f"{node}/kubelet"


@dataclass(frozen=True, slots=True)
class Node:
    """One node of one cluster."""

    spec: NodeSpec
    layout: Layout
    network: Network
    kubelet: Path
    pause_image: str
    processes: ProcessTable

    @property
    def files(self) -> NodeLayout:
        return self.layout.node(self.spec.name)

    @property
    def address(self) -> str:
        return self.network.node(self.spec.index)

    # -- containerd ----------------------------------------------------------------------------------------------

    def start_containerd(self) -> None:
        """Start the container runtime unless it runs, until it answers.

        :raises ClusterError: when it ends or does not answer within two minutes.
        """
        role, log = containerd_role(self.spec.name), self.layout.log(containerd_role(self.spec.name))
        if self.processes.running(role) is None:
            self._forget_before_boot()
        host_network.set_up_node(self.network, self.spec.index)
        cgroups.create(self.spec.name)
        config = self._write_containerd_config()
        self._write_cni_config()
        command = find_command("containerd")
        if command is None:
            raise ClusterError("containerd is not on PATH")
        self.processes.start(role, [command, "--config", str(config)], log=log, env=_ENVIRONMENT, depends_on=[config])

        def answers() -> bool:
            self.processes.check(role, log=log)
            try:
                self.ctr("version")
            except ClusterError:
                return False
            return True

        wait_for(f"containerd of {self.spec.name}; its log is {log}", answers, seconds=120)

    def ctr(self, *arguments: str | Path) -> str:
        """Run containerd's own client against this node, in the namespace of Kubernetes.

        :raises ClusterError: when it fails.
        """
        return run_quiet(
            ["ctr", "--address", self.files.containerd_socket, "--namespace", "k8s.io", *arguments],
            what=f"ctr {arguments[0]} on {self.spec.name}",
        )

    def images(self) -> set[str]:
        """The names of the images the node has."""
        return set(self.ctr("images", "list", "--quiet").split())

    def import_image(self, image: Loadable) -> bool:
        """Load an image; False when the node has the name already (names carry their content's hash).

        :raises ClusterError: when the runtime refuses it, or it turns out to have another name.
        """
        if image.name in self.images():
            return False
        known = set(self.ctr("content", "list", "--quiet").split())
        command = [
            "ctr",
            "--address",
            str(self.files.containerd_socket),
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "-",
        ]
        log = self.layout.log(f"{self.spec.name}/import")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
            try:
                with contextlib.suppress(BrokenPipeError), child.stdin as pipe:  # type: ignore[union-attr]
                    image.send(pipe, without=known)
            except BaseException:
                child.kill()
                child.wait()
                raise
            code = child.wait()
        if code != 0 or image.name not in self.images():
            raise ClusterError(f"{self.spec.name} cannot import {image.name}; its log is {log}\n{tail(log)}")
        return True

    def _forget_before_boot(self) -> None:
        """After a reboot the runtime's volatile state describes processes and mounts that are no more."""
        marker = self.files.root / "boot-id"
        if marker.exists() and marker.read_text() != boot_id():
            for folder in (self.files.containerd_state, self.files.runc_root):
                mounts.unmount_below(folder)
                shutil.rmtree(folder, ignore_errors=True)
        write_atomically(marker, boot_id())

    def _write_containerd_config(self) -> Path:
        files = self.files
        for folder in (files.containerd_root, files.containerd_state):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        text = node_config.containerd(files, pause_image=self.pause_image, snapshotter=_snapshotter(files.root))
        write_atomically(files.containerd_config, text)
        return files.containerd_config

    def _write_cni_config(self) -> None:
        config = node_config.cni(
            f"npc-fleet-{self.spec.name}",
            bridge=bridge_name(self.spec.index),
            subnet=self.network.node_pods(self.spec.index),
            gateway=self.address,
            leases=self.files.cni / "leases",
        )
        write_atomically(self.files.cni / "conf" / "10-npc-fleet.conflist", json.dumps(config, indent=2))

    # -- kubelet -------------------------------------------------------------------------------------------------

    def start_kubelet(self) -> None:
        """Start the kubelet unless it runs.

        :raises ClusterError: when it cannot be started or its port is taken.
        """
        role = kubelet_role(self.spec.name)
        if self.processes.running(role) is None:
            check_port(self.address, addresses.KUBELET_PORT, purpose=f"the kubelet of {self.spec.name}")
        config = self._write_kubelet_config()
        labels = ",".join(f"{key}={value}" for key, value in sorted(self.spec.labels.items()))
        self.processes.start(
            role,
            [
                str(self.kubelet),
                f"--config={config}",
                f"--kubeconfig={self._write_kubeconfig()}",
                f"--hostname-override={self.spec.name}",
                f"--node-ip={self.address}",
                f"--node-labels={labels}",
                f"--root-dir={self.files.kubelet_root}",
                f"--cert-dir={self.files.kubelet_root / 'pki'}",
                "--housekeeping-interval=30s",
                "--v=1",
            ],
            log=self.layout.log(role),
            env=_ENVIRONMENT,
            depends_on=[config],
        )

    def wait_ready(self, api: KubeApi, *, seconds: float = 240.0) -> None:
        """Until the kubelet answers and has said itself that its node is Ready.

        The node alone may still say so of a kubelet long dead, and one that has just begun says at first that it is
        not.

        :raises ClusterError: when the kubelet ends, or the node is not Ready in time; with the end of its log.
        """
        role = kubelet_role(self.spec.name)
        log = self.layout.log(role)
        kubelet = api.at(f"https://{self.address}:{addresses.KUBELET_PORT}")
        record = self.processes.running(role)
        began = started_at(record) if record else 0.0

        def ready() -> bool:
            self.processes.check(role, log=log)
            if not kubelet.answers("/healthz"):
                return False
            try:
                node = api.get(f"/api/v1/nodes/{self.spec.name}")
            except ApiError as error:
                # 429 and 5xx: a server that has only just begun, or has too much to do.
                if error.status in (0, 404, 429) or error.status >= 500:
                    return False
                raise
            return is_ready(node) and heard_at(node) >= int(began)

        try:
            wait_for(f"node {self.spec.name} to be Ready", ready, seconds=seconds)
        except ClusterError as error:
            raise ClusterError(f"{error}; its log is {log}\n{tail(log)}") from error

    def _serving(self) -> pki.Pair:
        """The node's certificate: client to the API server and server to it."""
        name = self.spec.name
        ca = pki.authority(self.layout.pki, "ca")
        return pki.issue(
            ca,
            self.files.root / "pki",
            "kubelet",
            common_name=f"system:node:{name}",
            groups=("system:nodes",),
            sans=(f"IP:{self.address}", f"DNS:{name}"),
        )

    def _write_kubeconfig(self) -> Path:
        ca = pki.authority(self.layout.pki, "ca")
        pki.write_kubeconfig(
            self.files.kubeconfig, server=self.network.server, ca=ca, client=self._serving(), context=CONTEXT
        )
        return self.files.kubeconfig

    def _write_kubelet_config(self) -> Path:
        config = node_config.kubelet(
            self.spec,
            self.files,
            address=self.address,
            dns=self.network.dns,
            client_ca=pki.authority(self.layout.pki, "ca").cert,
            serving=self._serving(),
        )
        write_atomically(self.files.kubelet_config, json.dumps(config, indent=2))
        return self.files.kubelet_config

    # -- the end -------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """What a vanished machine looks like: kubelet, runtime and every container end at once, nothing is told."""
        self.processes.stop([kubelet_role(self.spec.name), containerd_role(self.spec.name)], grace_seconds=0)
        shims = remains.shims(self.processes.marked(), self.files.containerd_socket)
        end_processes([*(shim.pid for shim in shims), *cgroups.processes(self.spec.name)], grace_seconds=0)
        remains.remove_shim_sockets(shims)

    def remove(self) -> None:
        """End the node and delete what it left on the host."""
        name = self.spec.name
        self.processes.stop([kubelet_role(name)], grace_seconds=3)
        self.kill()
        remains.remove_node_files(self.files)
        cgroups.remove(name)
        host_network.remove_node(self.spec.index)


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a Node object says it is Ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def heard_at(node: Mapping[str, Any]) -> float:
    """When (Unix seconds, whole ones) a kubelet last said whether its node is Ready; 0 when none has."""
    conditions = node.get("status", {}).get("conditions", [])
    beats = [str(c.get("lastHeartbeatTime") or "") for c in conditions if c["type"] == "Ready"]
    return max((datetime.fromisoformat(beat).timestamp() for beat in beats if beat), default=0.0)


def _snapshotter(folder: Path) -> str:
    """overlayfs, or native copies where the disk cannot carry overlays (an overlay itself, some network disks)."""
    kind = run_quiet(["stat", "--file-system", "--format=%T", folder]).strip()
    return "native" if kind in ("overlayfs", "nfs", "fuseblk") else "overlayfs"
