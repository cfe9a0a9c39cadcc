"""A port that is picked is still free when a slow program comes to bind it."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from hack.cluster import ports
from hack.cluster.errors import ClusterError


def test_no_port_is_picked_that_the_kernel_gives_to_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(ports.pick_port() < first for _ in range(50))


def test_no_port_is_picked_twice_or_while_somebody_listens_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, given, free = (ports.pick_port() for _ in range(3))
    drawn = iter([taken, given, free])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(drawn) - ports._PORTS.start)
    monkeypatch.setattr(ports, "_given", {given})
    with socket.create_server(("127.0.0.1", taken)):
        assert ports.pick_port() == free


def test_an_address_that_is_not_of_this_machine_is_named_instead_of_tried_for_ever() -> None:
    # 192.0.2.0/24 is for documentation: no machine has an address of it.
    with pytest.raises(ClusterError, match=r"no free port of 192\.0\.2\.1 .*200 tries: .*assign"):
        ports.pick_port("192.0.2.1")


def test_a_range_that_was_given_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", set(ports._PORTS))
    with pytest.raises(ClusterError, match="given away"):
        ports.pick_port()
