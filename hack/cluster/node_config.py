"""The configuration of a node's programs, as functions of the node alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.cluster import addresses, cgroups, pki
from hack.cluster.errors import ClusterError
from hack.cluster.paths import NodeLayout
from hack.cluster.state import NodeSpec


def containerd(files: NodeLayout, *, pause_image: str, snapshotter: str) -> str:
    """containerd's configuration, in the version that 1.6 to 2.x understand."""
    quoted = json.dumps  # TOML's basic strings are JSON's
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = {quoted(str(files.containerd_root))}
state = {quoted(str(files.containerd_state))}
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {quoted(str(files.containerd_socket))}

[{cri}]
  sandbox_image = {quoted(pause_image)}
  # Without CAP_SYS_RESOURCE runc could not lower the score and would die.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [{cri}.containerd]
    snapshotter = {quoted(snapshotter)}
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        Root = {quoted(str(files.runc_root))}
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {quoted(str(files.cni / "conf"))}
"""


def cni(name: str, *, bridge: str, subnet: str, gateway: str, leases: Path) -> dict[str, Any]:
    """The pod network of one node: a bridge, and addresses from its /24."""
    return {
        "cniVersion": "1.0.0",
        "name": name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "ipMasq": False,  # done once for all nodes, by a table of ours
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(leases),
                    "ranges": [[{"subnet": subnet, "gateway": gateway}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def kubelet(
    spec: NodeSpec, files: NodeLayout, *, address: str, dns: str, client_ca: Path, serving: pki.Pair
) -> dict[str, Any]:
    """The KubeletConfiguration of one node.

    :raises ClusterError: when one of the node's taints is none.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": addresses.KUBELET_PORT,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(client_ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "rotateCertificates": False,
        "containerRuntimeEndpoint": f"unix://{files.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.ROOT}/{spec.name}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [dns],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(files.pod_logs),
        "volumePluginDir": str(files.kubelet_root / "volume-plugins"),
        "maxPods": 110,
        "makeIPTablesUtilChains": False,
        # A changed node tells it at once; an unchanged one only renews its lease.
        "nodeStatusUpdateFrequency": "5s",
        "nodeStatusReportFrequency": "1m0s",
        "nodeLeaseDurationSeconds": 40,
        # The nodes share one disk with everything else on the host: its fill level is no pod's fault, and images
        # cannot be pulled again from anywhere.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "registerWithTaints": [parse_taint(taint) for taint in spec.taints],
    }


def parse_taint(text: str) -> dict[str, str]:
    """``key=value:Effect`` or ``key:Effect`` as the API has it.

    :raises ClusterError: for anything else.
    """
    key_value, _, effect = text.rpartition(":")
    key, _, value = key_value.partition("=")
    if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ClusterError(f"taint {text!r} is not key[=value]:NoSchedule|PreferNoSchedule|NoExecute")
    return {"key": key, "value": value, "effect": effect}
