"""What the cluster changes in the host's network, and how it takes it back.

One bridge per node, two addresses on the loopback device, one nftables table of ours (and kube-proxy's own), accept
rules where the host's firewall drops forwarded packets, and a few kernel settings whose former values are written
down first.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
from pathlib import Path

from hack.cluster.addresses import Network, bridge_name
from hack.cluster.console import run_quiet
from hack.cluster.errors import ClusterError
from hack.cluster.files import write_atomically
from hack.cluster.packages import find_command

_TABLE = "npc-fleet"
_FORWARD_COMMENT = "npc-fleet local cluster"
_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    # Without it a pod's packets to a service whose backend is on the same bridge come back untranslated.
    "net/bridge/bridge-nf-call-iptables": "1",
}
# The kubelet sets these by itself; they are only remembered, to be put back.
_KUBELET_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def _ip(*arguments: str) -> str:
    return run_quiet(["ip", *arguments], what=f"ip {' '.join(arguments)}")


def _links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def check_routes(network: Network) -> None:
    """:raises ClusterError: when a route of the host lies inside the addresses that we are going to use."""
    ours = ipaddress.IPv4Network(network.base)
    for route in json.loads(_ip("-j", "-4", "route", "show")):
        target = route["dst"]
        if target == "default" or re.fullmatch(r"npcf\d+", route.get("dev", "")):
            continue
        # A wider route (a VPN's 10.0.0.0/8) is no conflict: ours are more specific and win.
        if ipaddress.IPv4Network(target, strict=False).subnet_of(ours):
            raise ClusterError(
                f"the host routes {target} to {route.get('dev')}, inside {network.base}, which the cluster uses; "
                "choose another private /15 with NPC_FLEET_NETWORK"
            )


def check_foreign_kubernetes() -> None:
    """:raises ClusterError: when another Kubernetes already runs its kube-proxy on this host."""
    tables = run_quiet(["nft", "list", "tables"])
    if re.search(r"\bip6? kube-proxy$", tables, re.MULTILINE):
        raise ClusterError(
            "this host already has kube-proxy's nftables tables: it is a node of another Kubernetes. "
            "Use --driver context. "
            "If that one is gone, remove them: nft delete table ip kube-proxy; nft delete table ip6 kube-proxy"
        )


def set_up_host(network: Network, saved: Path) -> None:
    """Addresses, forwarding and masquerading; does nothing where it is done already."""
    _remember_settings(saved)
    for name, value in _SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists() and setting.read_text().strip() != value:
            setting.write_text(value)
    present = _ip("-j", "-4", "address", "show", "dev", "lo")
    for address in (network.control, network.dns):
        if f'"{address}"' not in present:
            _ip("address", "add", f"{address}/32", "dev", "lo")
    rules = f"""
add table ip {_TABLE}
flush table ip {_TABLE}
table ip {_TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip saddr {network.pods} ip daddr != {network.pods} masquerade
    }}
}}
"""
    run_quiet(["nft", "-f", "-"], what="nft", input_text=rules)
    _accept_forwarding()


def _remember_settings(saved: Path) -> None:
    """Write the present values down, once: a later call would only see our own."""
    if saved.exists():
        return
    values = {}
    for name in (*_SETTINGS, *_KUBELET_SETTINGS):
        with contextlib.suppress(OSError):
            values[name] = (Path("/proc/sys") / name).read_text().strip()
    write_atomically(saved, json.dumps(values, indent=2) + "\n")


def _forward_rules() -> list[list[str]]:
    return [
        ["FORWARD", direction, "npcf+", "-m", "comment", "--comment", _FORWARD_COMMENT, "-j", "ACCEPT"]
        for direction in ("-i", "-o")
    ]


def _accept_forwarding() -> None:
    """Docker and some firewalls drop what they do not know; an accept elsewhere cannot overrule their drop."""
    if find_command("iptables") is None:
        return
    present = run_quiet(["iptables", "-w", "-S", "FORWARD"])
    if "-P FORWARD DROP" not in present:
        return
    for rule in _forward_rules():
        if f"{rule[1]} npcf+" not in present:
            run_quiet(["iptables", "-w", "-I", *rule])


def set_up_node(network: Network, index: int) -> None:
    """The node's bridge with its address."""
    name = bridge_name(index)
    if name not in _links():
        _ip("link", "add", name, "type", "bridge")
    address = network.node(index)
    if f'"{address}"' not in _ip("-j", "-4", "address", "show", "dev", name):
        _ip("address", "add", f"{address}/24", "dev", name)
    _ip("link", "set", name, "up")


def remove_node(index: int) -> None:
    """Delete the node's bridge and the ends of pod links that still hang on it."""
    name = bridge_name(index)
    ports = Path("/sys/class/net") / name / "brif"
    if ports.is_dir():
        for port in sorted(path.name for path in ports.iterdir()):
            # The link goes with its pod's namespace, which may be going at this very moment.
            with contextlib.suppress(ClusterError):
                _ip("link", "delete", port)
    if name in _links():
        _ip("link", "delete", name)


def remove_host(network: Network, saved: Path) -> None:
    """Undo :func:`set_up_host`, kube-proxy's tables and every bridge of ours."""
    for link in sorted(_links()):
        if found := re.fullmatch(r"npcf(\d+)", link):
            remove_node(int(found[1]))
    present = _ip("-j", "-4", "address", "show", "dev", "lo")
    for address in (network.control, network.dns):
        if f'"{address}"' in present:
            _ip("address", "delete", f"{address}/32", "dev", "lo")
    if find_command("nft"):
        tables = run_quiet(["nft", "list", "tables"])
        for table in (f"ip {_TABLE}", "ip kube-proxy", "ip6 kube-proxy"):
            if re.search(rf"^table {table}$", tables, re.MULTILINE):
                run_quiet(["nft", "delete", "table", *table.split()])
    if find_command("iptables"):
        rules = run_quiet(["iptables", "-w", "-S", "FORWARD"])
        for rule in _forward_rules():
            for _ in range(rules.count(f"{rule[1]} npcf+")):
                run_quiet(["iptables", "-w", "-D", *rule])
    _restore_settings(saved)


def _restore_settings(saved: Path) -> None:
    try:
        values = json.loads(saved.read_text())
    except (FileNotFoundError, ValueError):
        return
    for name, value in values.items():
        setting = Path("/proc/sys") / name
        with contextlib.suppress(OSError):  # a setting that went with its module
            if setting.read_text().strip() != value:
                setting.write_text(value)
    saved.unlink()


def check_port(address: str, port: int, *, purpose: str, datagram: bool = False) -> None:
    """:raises ClusterError: when the port is taken; names it and the process that has it."""
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if not datagram:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            holder = port_holder(port, "udp" if datagram else "tcp") or "another process"
            raise ClusterError(
                f"port {port} at {address}, which {purpose} needs, is used by {holder}; end it or move it"
            ) from error


def port_holder(port: int, protocol: str) -> str | None:
    """``name (pid N)`` of a process that listens on ``port``, None when it cannot be seen."""
    inodes = set()
    for table in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        with contextlib.suppress(FileNotFoundError):
            inodes |= listening_inodes(Path(table).read_text(), port, listen_only=protocol == "tcp")
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                if str(handle.readlink()) in wanted:
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def listening_inodes(table: str, port: int, *, listen_only: bool) -> set[str]:
    """The socket inodes that listen on ``port`` in the text of ``/proc/net/tcp`` (state 0A) or ``udp``."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rsplit(":", 1)[1], 16) == port and (not listen_only or fields[3] == "0A"):
            found.add(fields[9])
    return found
