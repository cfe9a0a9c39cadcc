"""etcd, the API server, the controllers, the scheduler, kube-proxy and CoreDNS as processes of the host.

Each is described by its arguments alone, so a repaired or upgraded cluster restarts exactly what changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import addresses, pki
from hack.cluster.addresses import Network
from hack.cluster.console import tail, wait_for
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.kubeapi import KubeApi, credentials
from hack.cluster.network import check_port
from hack.cluster.paths import Layout
from hack.cluster.processes import ProcessTable

CONTEXT = "npc-fleet-local"
ROLES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "kube-proxy")
WATCHERS = ("kube-controller-manager", "kube-scheduler", "kube-proxy")
"""What must begin anew with an API server that was away: see ControlPlane.end_watchers."""
# Each component alone would start as many threads as the host has cores; none of them has that much to do here.
_ENVIRONMENT = {"GOMAXPROCS": "4"}

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, written when it has been answered.
    "omitStages": ["RequestReceived"],
    "rules": [
        # What was asked of a Deployment, too: how many replicas it was ever told to have.
        {
            "level": "Request",
            "users": ["system:serviceaccount:npc-system:npc-operator"],
            "verbs": ["create", "update", "patch"],
            "resources": [{"group": "apps", "resources": ["deployments"]}],
        },
        {"level": "Metadata"},
    ],
}

_DNS_RBAC = (
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    },
)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The control plane of one cluster: its files, its addresses and the programs to run."""

    layout: Layout
    network: Network
    programs: Mapping[str, Path]
    processes: ProcessTable

    # -- credentials ---------------------------------------------------------------------------------------------

    @property
    def ca(self) -> pki.Pair:
        return pki.authority(self.layout.pki, "ca")

    def _client(self, name: str, common_name: str, groups: tuple[str, ...] = ()) -> Path:
        """The kubeconfig of one component."""
        pair = pki.issue(self.ca, self.layout.pki, name, common_name=common_name, groups=groups)
        path = self.layout.config / f"{name}.kubeconfig"
        pki.write_kubeconfig(path, server=self.network.server, ca=self.ca, client=pair, context=CONTEXT)
        return path

    def _admin(self) -> pki.Pair:
        return pki.issue(
            self.ca, self.layout.pki, "admin", common_name="npc-fleet-local-admin", groups=("system:masters",)
        )

    def write_admin_kubeconfig(self) -> Path:
        """The kubeconfig for people and tests, mode 0600."""
        path = self.layout.kubeconfig
        pki.write_kubeconfig(path, server=self.network.server, ca=self.ca, client=self._admin(), context=CONTEXT)
        return path

    def api(self, *, timeout: float = 30.0) -> KubeApi:
        """A client with the administrator's rights."""
        admin = self._admin()
        context = credentials(ca=self.ca.cert, cert=admin.cert, key=admin.key)
        return KubeApi(self.network.server, context=context, timeout=timeout)

    # -- processes -----------------------------------------------------------------------------------------------

    def check_ports(self) -> None:
        """:raises ClusterError: when something else has a port that a component that is down needs."""
        control = self.network.control
        needs = {
            "etcd": [(control, addresses.ETCD_PORT), (control, addresses.ETCD_PEER_PORT)],
            "kube-apiserver": [(control, addresses.API_PORT)],
            "kube-controller-manager": [(control, addresses.CONTROLLER_MANAGER_PORT)],
            "kube-scheduler": [(control, addresses.SCHEDULER_PORT)],
            "kube-proxy": [(control, addresses.PROXY_HEALTH_PORT)],
            "coredns": [(self.network.dns, 53), (self.network.dns, addresses.DNS_HEALTH_PORT)],
        }
        for role, ports in needs.items():
            if self.processes.running(role) is None:
                for address, port in ports:
                    check_port(address, port, purpose=role)
        if self.processes.running("coredns") is None:
            check_port(self.network.dns, 53, purpose="coredns", datagram=True)

    def start_api(self) -> None:
        """etcd and the API server, until the latter says it is ready.

        What watches a server that is gone is ended, and begins anew with :meth:`start_rest`: see :meth:`end_watchers`.

        :raises ClusterError: when one of them ends or is not ready within four minutes; with the end of its log.
        """
        if self.processes.running("kube-apiserver") is None:
            self.end_watchers()
        self._start("etcd", self._etcd_arguments())
        self._start("kube-apiserver", self._apiserver_arguments(), depends_on=[self._audit_policy()])
        api = self.api()

        def ready() -> bool:
            for role in ("etcd", "kube-apiserver"):
                self.processes.check(role, log=self.layout.log(role))
            return api.answers()

        log = self.layout.log("kube-apiserver")
        try:
            wait_for("the API server to be ready", ready, seconds=240)
        except ClusterError as error:
            raise ClusterError(f"{error}; its log is {log}\n{tail(log)}") from error

    def end_watchers(self) -> None:
        """Controllers, scheduler and service proxy end at once; :meth:`start_rest` starts them. For an API server that
        was away.

        Left alone, the controllers would judge the nodes by Leases that nobody could renew, the moment the server is
        back; and a kubelet that has not read its node since then reports only what it believes has changed, so such a
        node stays Unknown, and what runs on it without traffic, for a minute or two. Scheduler and proxy would look
        again only after a pause that has grown to a minute: until then new pods wait for a node and new Services lead
        nowhere.
        """
        self.processes.stop(WATCHERS, grace_seconds=0)

    def start_rest(self, first_node: str) -> None:
        """Controllers, scheduler, DNS and the service proxy. ``first_node`` is whose eyes kube-proxy sees with.

        :raises ClusterError: when one ends at once.
        """
        api = self.api()
        for manifest in _DNS_RBAC:
            plural = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}[str(manifest["kind"])]
            api.apply(f"/apis/rbac.authorization.k8s.io/v1/{plural}/system:coredns", dict(manifest))
        self._start("kube-controller-manager", self._controller_manager_arguments())
        self._start("kube-scheduler", self._scheduler_arguments())
        corefile = self._corefile()
        self._start("coredns", ["-conf", str(corefile)], depends_on=[corefile])
        self._start("kube-proxy", self._proxy_arguments(first_node))

    def _start(self, role: str, arguments: list[str], *, depends_on: list[Path] | None = None) -> bool:
        return self.processes.start(
            role,
            [str(self.programs[role]), *arguments],
            log=self.layout.log(role),
            env=_ENVIRONMENT,
            depends_on=depends_on or [],
        )

    def _audit_policy(self) -> Path:
        path = self.layout.config / "audit-policy.json"
        write_atomically(path, json.dumps(AUDIT_POLICY, indent=2))
        return path

    def _etcd_arguments(self) -> list[str]:
        ca = pki.authority(self.layout.pki, "etcd-ca")
        control = self.network.control
        server = pki.issue(ca, self.layout.pki, "etcd", common_name="etcd", sans=(f"IP:{control}", "DNS:localhost"))
        client_url = f"https://{control}:{addresses.ETCD_PORT}"
        peer_url = f"https://{control}:{addresses.ETCD_PEER_PORT}"
        self.layout.etcd.mkdir(parents=True, exist_ok=True, mode=0o700)
        return [
            "--name=local",
            f"--data-dir={self.layout.etcd}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=local={peer_url}",
            f"--cert-file={server.cert}",
            f"--key-file={server.key}",
            "--client-cert-auth",
            f"--trusted-ca-file={ca.cert}",
            f"--peer-cert-file={server.cert}",
            f"--peer-key-file={server.key}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={ca.cert}",
            # A power cut may cost this cluster; nobody waits for a disk in the meantime.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_arguments(self) -> list[str]:
        folder, control = self.layout.pki, self.network.control
        etcd_ca = pki.authority(folder, "etcd-ca")
        etcd_client = pki.issue(etcd_ca, folder, "apiserver-etcd-client", common_name="kube-apiserver")
        front_ca = pki.authority(folder, "front-proxy-ca")
        front = pki.issue(front_ca, folder, "front-proxy-client", common_name="front-proxy-client")
        kubelet_client = pki.issue(
            self.ca, folder, "apiserver-kubelet-client", common_name="kube-apiserver", groups=("system:masters",)
        )
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        serving = pki.issue(
            self.ca,
            folder,
            "apiserver",
            common_name="kube-apiserver",
            sans=(f"IP:{control}", f"IP:{self.network.api_service}", *(f"DNS:{name}" for name in names)),
        )
        accounts = pki.signing_key(folder, "service-accounts")
        self.layout.audit_log.parent.mkdir(parents=True, exist_ok=True)
        return [
            f"--bind-address={control}",
            f"--advertise-address={control}",
            f"--secure-port={addresses.API_PORT}",
            f"--etcd-servers=https://{control}:{addresses.ETCD_PORT}",
            f"--etcd-cafile={etcd_ca.cert}",
            f"--etcd-certfile={etcd_client.cert}",
            f"--etcd-keyfile={etcd_client.key}",
            f"--client-ca-file={self.ca.cert}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            f"--kubelet-certificate-authority={self.ca.cert}",
            f"--kubelet-client-certificate={kubelet_client.cert}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            "--anonymous-auth=false",
            "--profiling=false",
            f"--service-cluster-ip-range={self.network.services}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={accounts.cert}",
            f"--service-account-signing-key-file={accounts.key}",
            f"--requestheader-client-ca-file={front_ca.cert}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={front.cert}",
            f"--proxy-client-key-file={front.key}",
            "--enable-aggregator-routing",
            f"--audit-policy-file={self._audit_policy()}",
            f"--audit-log-path={self.layout.audit_log}",
            # Readers follow the file: it is turned over only when it would fill the disk.
            "--audit-log-maxsize=2000",
            "--audit-log-maxbackup=1",
        ]

    def _controller_manager_arguments(self) -> list[str]:
        kubeconfig = self._client("controller-manager", "system:kube-controller-manager")
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={self.network.control}",
            f"--secure-port={addresses.CONTROLLER_MANAGER_PORT}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--root-ca-file={self.ca.cert}",
            f"--service-account-private-key-file={pki.signing_key(self.layout.pki, 'service-accounts').key}",
            f"--cluster-signing-cert-file={self.ca.cert}",
            f"--cluster-signing-key-file={self.ca.key}",
            f"--flex-volume-plugin-dir={self.layout.config / 'flex-volumes'}",
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
            "--profiling=false",
        ]

    def _scheduler_arguments(self) -> list[str]:
        kubeconfig = self._client("scheduler", "system:kube-scheduler")
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={self.network.control}",
            f"--secure-port={addresses.SCHEDULER_PORT}",
            "--leader-elect=false",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
            "--profiling=false",
        ]

    def _proxy_arguments(self, first_node: str) -> list[str]:
        """One service proxy for the host: all nodes share its network, so its rules serve them all."""
        return [
            f"--kubeconfig={self._client('proxy', 'system:kube-proxy')}",
            f"--hostname-override={first_node}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={self.network.pods}",
            f"--healthz-bind-address={self.network.control}:{addresses.PROXY_HEALTH_PORT}",
            "--metrics-bind-address=",
            # 0 leaves the host's connection tracking as it is.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]

    def _corefile(self) -> Path:
        kubeconfig = self._client("coredns", "system:coredns")
        path = self.layout.config / "Corefile"
        write_atomically(
            path,
            f""".:53 {{
    bind {self.network.dns}
    errors
    health {self.network.dns}:{addresses.DNS_HEALTH_PORT}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} {CONTEXT}
        fallthrough in-addr.arpa ip6.arpa
        ttl 1
    }}
    forward . /etc/resolv.conf
    cache {{
        success 1000 2
        denial 1000 1
    }}
}}
""",
        )
        return path
