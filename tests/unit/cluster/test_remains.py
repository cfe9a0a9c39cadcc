"""What is ours on the host is recognised exactly, down to the name of a socket that containerd chose."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hack.cluster.cgroups import hierarchies
from hack.cluster.errors import ClusterError
from hack.cluster.mounts import below
from hack.cluster.network import check_port, listening_inodes, port_holder
from hack.cluster.remains import parse_shim

SOCKET = "/var/lib/npc-fleet/cluster/nodes/spot-1/containerd/containerd.sock"
POD = "c8441ade56f0134c8fbbf31dea0f70f5467eb56a35b01767a5d4d99ea1c5eaac"


def test_the_socket_of_a_shim_has_the_name_that_containerd_gives_it() -> None:
    line = f"/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0{POD}\0-address\0{SOCKET}\0"
    shim = parse_shim(7, line.encode())
    assert shim is not None
    # Seen on a host running containerd 1.6.20.
    assert shim.socket == Path("/run/containerd/s/4079389c20be1765304d96ed703a826ecc57a135dc7d9f7c3be6e1be6e10a2a8")


@pytest.mark.parametrize(
    "line",
    [b"", b"\0", b"containerd\0--config\0/x\0", b"/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0"],
)
def test_other_processes_are_no_shims(line: bytes) -> None:
    assert parse_shim(7, line) is None


def test_mounts_below_a_folder_come_last_mounted_first() -> None:
    table = "\n".join(
        f"{number} 1 0:1 / {point} rw - tmpfs tmpfs rw"
        for number, point in enumerate(["/", "/state", "/state/a", "/state/a/b\\040c", "/stateful", "/other"], start=20)
    )
    assert below(Path("/state"), table) == [Path("/state/a/b c"), Path("/state/a"), Path("/state")]


def test_control_group_hierarchies_are_found_with_their_version() -> None:
    table = (
        "30 20 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
        "31 20 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
        "32 20 0:28 / /tmp rw - tmpfs cgroup rw\n"
    )
    assert hierarchies(table) == [
        (Path("/sys/fs/cgroup/cpu"), "cgroup"),
        (Path("/sys/fs/cgroup/unified"), "cgroup2"),
    ]


def test_only_listening_sockets_of_the_port_are_found() -> None:
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rows = (
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n"
        "   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n"
        "   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n"
    )
    assert listening_inodes(header + rows, 8080, listen_only=True) == {"111"}
    assert listening_inodes(header + rows, 8080, listen_only=False) == {"111", "222"}


def test_a_port_in_use_is_refused_naming_the_port_and_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"pid {os.getpid()}" in str(port_holder(port, "tcp"))
        with pytest.raises(ClusterError, match=rf"port {port} .*etcd needs.*\(pid {os.getpid()}\)"):
            check_port("127.0.0.1", port, purpose="etcd")
    check_port("127.0.0.1", port, purpose="etcd")
