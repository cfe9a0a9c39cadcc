"""Sockets of connections that are silent for long although somebody waits at them."""

from __future__ import annotations

import socket


def keepalive_socket(address: tuple[object, ...]) -> socket.socket:
    """A long poll or a watch is silent for a minute and more: have the kernel notice within 20 s that the other side's
    host is gone. A notice of a machine's end may be as short as 25 s."""
    family, kind, protocol = address[0], address[1], address[2]
    made = socket.socket(family, kind, protocol)  # type: ignore[arg-type]
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
