"""A control plane of one's own for a test session: a real etcd and a real kube-apiserver on loopback, nothing else.

Contract tests and benchmarks need the real API server, not nodes; and tests that freeze it or kill it must not share
it. Programs come from `hack.cluster` (built or downloaded once), certificates from its openssl helpers. Starts in
about 4 seconds, about 300 MB.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from hack.cluster import pki
from hack.cluster.binaries import binary
from hack.cluster.ports import pick_port
from npc_operator.api.names import PLURALS

CONTEXT = "npc-fleet-test"
START_SECONDS = 180.0


class KubeEnv:
    """One control plane in `folder`; `kubeconfig` is the administrator's. Ends only the processes it started, by
    pid."""

    def __init__(self, folder: Path, *, audit: bool = False) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.log" if audit else None
        self._etcd: subprocess.Popen[bytes] | None = None
        self._apiserver: subprocess.Popen[bytes] | None = None
        self._etcd_port = pick_port()
        self._etcd_peer_port = pick_port()
        self.port = pick_port()

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Both processes, ready to answer."""
        self._ca = pki.authority(self.folder / "pki", "ca")
        self._serving = pki.issue(
            self._ca,
            self.folder / "pki",
            "apiserver",
            common_name="kube-apiserver",
            sans=("IP:127.0.0.1", "IP:10.0.0.1", "DNS:localhost", "DNS:kubernetes.default.svc"),
        )
        self._admin = self.client_certificate("admin", groups=("system:masters",))
        self._accounts = pki.signing_key(self.folder / "pki", "service-accounts")
        pki.write_kubeconfig(self.kubeconfig, server=self.server, ca=self._ca, client=self._admin, context=CONTEXT)
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{self._etcd_peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self._etcd_peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{self._etcd_peer_port}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        self.start_apiserver()

    def start_apiserver(self) -> None:
        """Start (again) only the API server and wait until it is ready."""
        arguments = [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--client-ca-file={self._ca.cert}",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._accounts.cert}",
            f"--service-account-signing-key-file={self._accounts.key}",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
        ]
        if self.audit_log is not None:
            policy = self.folder / "audit-policy.yaml"
            policy.write_text(
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
            )
            arguments += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
        self._apiserver = self._spawn("kube-apiserver", *arguments)
        self._wait_ready()

    def client_certificate(self, user: str, *, groups: tuple[str, ...] = ()) -> pki.Pair:
        return pki.issue(self._ca, self.folder / "pki", f"user-{user}", common_name=user, groups=groups)

    def kubeconfig_for(self, user: str, *, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig for somebody without rights of their own: RBAC decides."""
        path = self.folder / f"{user}.kubeconfig"
        client = self.client_certificate(user, groups=groups)
        pki.write_kubeconfig(path, server=self.server, ca=self._ca, client=client, context=CONTEXT)
        return path

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl as administrator; its output."""
        done = subprocess.run(
            # kubectl remembers discovery by host and port, and ports come again.
            [
                str(binary("kubectl")),
                f"--kubeconfig={self.kubeconfig}",
                f"--cache-dir={self.folder / 'kubectl'}",
                *arguments,
            ],
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=180,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def install_crds(self) -> None:
        """The CRDs of this checkout, in force."""
        crds = str(Path(__file__).resolve().parents[2] / "crds")
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", crds)
        self.await_crds()

    def await_crds(self) -> None:
        """The kinds are served and discovered: Established is written a moment before the paths answer, lists answer
        before the storage is there, and what kubectl remembers of discovery may be from before, which it does not ask
        for anew where a category (`kubectl get npc`) is missing.
        """
        kinds = [f"crd/{plural}.npcfleet.dev" for plural in PLURALS.values()]
        self.kubectl("wait", "--for=condition=Established", "--timeout=120s", *kinds)
        until = time.monotonic() + 120.0
        while not self._crds_answer():
            assert time.monotonic() < until, "the API server never served the kinds"
            time.sleep(0.1)
        # Never from memory, and remembered from then on.
        while not self._kinds_discovered():
            assert time.monotonic() < until, "the API server never named the kinds"
            time.sleep(0.1)

    def _kinds_discovered(self) -> bool:
        named = self.kubectl("api-resources", "--categories=npc", "-o", "name").split()
        return set(named) >= {f"{plural}.npcfleet.dev" for plural in PLURALS.values()}

    def _crds_answer(self) -> bool:
        paths = [f"/apis/npcfleet.dev/v1alpha1/{plural}?limit=1" for plural in PLURALS.values()]
        return all('"items"' in self.kubectl("get", "--raw", path, check=False) for path in paths)

    def kill_apiserver(self) -> None:
        """Take the API server away at once, as a crash would."""
        if self._apiserver is not None:
            self._apiserver.kill()
            self._apiserver.wait()
            self._apiserver = None

    def apiserver_runs(self) -> bool:
        return self._apiserver is not None and self._apiserver.poll() is None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The API server accepts connections and answers nothing: the worst kind of absence."""
        assert self._apiserver is not None
        self._apiserver.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._apiserver.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill_apiserver()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
            self._etcd = None

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        environment: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        with log:
            return subprocess.Popen(
                [str(binary(name)), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )

    def _wait_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self._ca.cert))
        context.load_cert_chain(self._admin.cert, self._admin.key)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._apiserver is not None
            if self._apiserver.poll() is not None:
                break
            with (
                contextlib.suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=10),
            ):
                return
            time.sleep(0.1)
        tail = (self.folder / "kube-apiserver.log").read_text()[-3000:]
        self.stop()
        raise AssertionError(f"the test API server did not become ready; its log ends with:\n{tail}")
