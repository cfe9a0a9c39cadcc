"""A node whose packets are lost: one nftables table of ours per silent node.

The nodes share the host's network, and what is a node's own is its bridge: all packets of its pods pass it, and its
address is the bridge's. Both directions are dropped without an answer, before connection tracking sees them, so open
connections hang as they do when a machine loses power or its cable. Its pods go on living meanwhile, as they would.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hack.cluster.addresses import bridge_name
from hack.cluster.console import run_quiet
from hack.cluster.packages import find_command

_PREFIX = "npc-fleet-silent-"


def rules(index: int, address: str) -> str:
    """The table that silences the node of this index and address, in nft's words; loading it again changes nothing.

    Incoming packets are dropped first of all, outgoing ones last of all: on their way out a Service's address has
    become a pod's. ARP still answers, so nobody is told that the host is unreachable.
    """
    table, bridge = f"{_PREFIX}{index}", bridge_name(index)
    return f"""
add table inet {table}
flush table inet {table}
table inet {table} {{
    chain incoming {{
        type filter hook prerouting priority raw
        iifname "{bridge}" drop
        ip daddr {address} drop
    }}
    chain outgoing {{
        type filter hook postrouting priority 300
        oifname "{bridge}" drop
        ip saddr {address} drop
    }}
}}
"""


def apply(index: int, address: str) -> None:
    """Silence the node.

    :raises ClusterError: when nftables refuses.
    """
    run_quiet(["nft", "-f", "-"], what="nft", input_text=rules(index, address))


def silent() -> list[int]:
    """The indices of the nodes that are silent now.

    :raises ClusterError: when nftables cannot be asked.
    """
    if find_command("nft") is None:  # so nobody can have silenced one
        return []
    tables = run_quiet(["nft", "list", "tables"])
    return sorted(int(found) for found in re.findall(rf"^table inet {_PREFIX}(\d+)$", tables, re.MULTILINE))


def lift(indices: Iterable[int] | None = None) -> list[int]:
    """Let packets pass again: of these nodes, or of all; returns whose were dropped.

    :raises ClusterError: when nftables refuses.
    """
    present = silent()
    lifted = present if indices is None else sorted(set(indices).intersection(present))
    for index in lifted:
        run_quiet(["nft", "delete", "table", "inet", f"{_PREFIX}{index}"])
    return lifted
