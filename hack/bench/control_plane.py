"""A control plane of a benchmark's own: a real etcd and a real kube-apiserver on loopback, nothing else.

What is measured must not share its API server with anything, and its audit log must hold nothing but the run. There
are no controllers and no nodes, so Deployments make no pods: `hack.bench.pods` plays that part. Up in 4 s, 300 MB.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

from hack.bench.processes import Child, start
from hack.cluster import pki
from hack.cluster.binaries import binary
from hack.cluster.kubeapi import KubeApi, credentials

CONTEXT = "npc-fleet-bench"
START_SECONDS = 120.0
SERVICES = "10.0.0.0/24"


class ControlPlaneFault(Exception):
    """etcd or the API server did not come up; the message ends with its log."""


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ControlPlane:
    """etcd and kube-apiserver below `folder`, with an audit log at Metadata level. Programs come from `hack.cluster`,
    which builds them once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audit_log = folder / "audit.log"
        self.server = ""
        self.etcd: Child | None = None
        self.apiserver: Child | None = None

    async def start(self) -> None:
        """Both processes, ready to answer. Raises ControlPlaneFault."""
        await asyncio.to_thread(self._start)

    def stop(self) -> None:
        """Ends both at once; their data is the folder's owner's."""
        for child in (self.apiserver, self.etcd):
            if child is not None:
                child.kill()

    def tls(self) -> ssl.SSLContext:
        """The administrator's credentials."""
        return self._tls_of(self._client("bench-admin", "system:masters"))

    def kubeconfig(self, user: str, *groups: str) -> Path:
        """A kubeconfig for a user of this name, as the audit log will show it."""
        path = self.folder / f"{user}.kubeconfig"
        pki.write_kubeconfig(path, server=self.server, ca=self._ca, client=self._client(user, *groups), context=CONTEXT)
        return path

    # --- processes ---

    def _start(self) -> None:
        self._ca = pki.authority(self.folder / "pki", "ca")
        client, peer, port = free_port(), free_port(), free_port()
        self.server = f"https://127.0.0.1:{port}"
        self.etcd = start(
            [
                str(binary("etcd")),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
                "--log-level=error",
            ],
            log=self.folder / "etcd.log",
            env={"PATH": os.environ["PATH"]},
        )
        self.apiserver = start(
            [str(binary("kube-apiserver")), *self._apiserver_arguments(port, client)],
            log=self.folder / "kube-apiserver.log",
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        self._wait_ready()

    def _apiserver_arguments(self, port: int, etcd: int) -> list[str]:
        folder = self.folder / "pki"
        serving = pki.issue(
            self._ca,
            folder,
            "apiserver",
            common_name="kube-apiserver",
            sans=("IP:127.0.0.1", "IP:10.0.0.1", "DNS:localhost", "DNS:kubernetes.default.svc"),
        )
        accounts = pki.signing_key(folder, "service-accounts")
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
        )
        return [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--client-ca-file={self._ca.cert}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts.cert}",
            f"--service-account-signing-key-file={accounts.key}",
            "--endpoint-reconciler-type=none",
            # Pods are made by hand here, and nobody makes service accounts, or takes a new node's taint off.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=2000",
        ]

    def _client(self, user: str, *groups: str) -> pki.Pair:
        return pki.issue(self._ca, self.folder / "pki", f"user-{user}", common_name=user, groups=groups)

    def _tls_of(self, client: pki.Pair) -> ssl.SSLContext:
        return credentials(ca=self._ca.cert, cert=client.cert, key=client.key)

    def _wait_ready(self) -> None:
        api = KubeApi(self.server, context=self.tls())
        until = time.monotonic() + START_SECONDS
        assert self.apiserver is not None
        while not api.answers():
            if time.monotonic() > until or self.apiserver.ended():
                self.stop()
                raise ControlPlaneFault(f"the API server did not become ready:\n{self.apiserver.log_tail()}")
            time.sleep(0.1)


def install_crds(plane: ControlPlane, crds: Path) -> None:
    """The kinds of this checkout, in force: their paths answer. Raises ControlPlaneFault."""
    kubectl = [str(binary("kubectl")), f"--kubeconfig={plane.kubeconfig('bench-admin', 'system:masters')}"]
    for arguments in (
        ("apply", "--server-side", "-f", str(crds)),
        ("wait", "--for=condition=Established", "--timeout=60s", "-f", str(crds)),
    ):
        done = subprocess.run([*kubectl, *arguments], capture_output=True, check=False, timeout=90)
        if done.returncode:
            raise ControlPlaneFault(done.stderr.decode())
    api = KubeApi(plane.server, context=plane.tls())
    until = time.monotonic() + 60.0
    # Established is written a moment before the paths answer.
    paths = [
        f"/apis/npcfleet.dev/v1alpha1/{plural}?limit=1" for plural in ("npcregions", "gputiers", "archetypeadapters")
    ]
    while not all(api.answers(path) for path in paths):
        if time.monotonic() > until:
            raise ControlPlaneFault("the API server never served the kinds")
        time.sleep(0.1)
