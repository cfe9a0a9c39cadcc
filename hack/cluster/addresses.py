"""Which addresses the cluster uses: one private /15, pods in its lower half and services in its upper.

Each node has a /24 of the pod half, whose first address is its bridge's and its own. The last /24 belongs to the
control plane: its addresses lie on the loopback device, so nothing of it listens on the host's real addresses and no
port of the host is taken.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from hack.cluster.errors import ClusterError

DEFAULT_NETWORK = "10.216.0.0/15"
API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
PROXY_HEALTH_PORT = 10256
KUBELET_PORT = 10250
DNS_HEALTH_PORT = 8080


@dataclass(frozen=True, slots=True)
class Network:
    """The cluster's address plan, from the text of its /15."""

    base: str

    def _half(self, which: int) -> ipaddress.IPv4Network:
        return list(ipaddress.IPv4Network(self.base).subnets(new_prefix=16))[which]

    @property
    def pods(self) -> str:
        return str(self._half(0))

    @property
    def services(self) -> str:
        return str(self._half(1))

    def _pod_address(self, third: int, fourth: int) -> str:
        return str(self._half(0).network_address + third * 256 + fourth)

    @property
    def control(self) -> str:
        """Where the API server, etcd, the controller manager and the scheduler listen."""
        return self._pod_address(255, 1)

    @property
    def dns(self) -> str:
        """Where CoreDNS listens; pods ask it directly."""
        return self._pod_address(255, 53)

    @property
    def api_service(self) -> str:
        """The cluster address of the service ``kubernetes``: always the first of the range."""
        return str(self._half(1).network_address + 1)

    @property
    def server(self) -> str:
        return f"https://{self.control}:{API_PORT}"

    def node(self, index: int) -> str:
        """The address of the node with this index, which is its bridge's."""
        return self._pod_address(index, 1)

    def node_pods(self, index: int) -> str:
        return f"{self._pod_address(index, 0)}/24"


def parse_network(text: str) -> Network:
    """:raises ClusterError: when the text is no private IPv4 /15."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ClusterError(f"NPC_FLEET_NETWORK={text} is not a network: {error}") from error
    if network.prefixlen != 15 or not network.is_private:
        raise ClusterError(f"NPC_FLEET_NETWORK={text} must be a private /15, such as {DEFAULT_NETWORK}")
    return Network(str(network))


def chosen_network() -> Network:
    """The address plan for a new cluster: ``NPC_FLEET_NETWORK`` or the default."""
    return parse_network(os.environ.get("NPC_FLEET_NETWORK") or DEFAULT_NETWORK)


def bridge_name(index: int) -> str:
    """The name of a node's bridge on the host."""
    return f"npcf{index}"
