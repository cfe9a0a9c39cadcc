"""A port for a program that binds it only later: a database, an API server, an engine that loads for half a minute.

Binding port 0 gives one from the range that the kernel also gives to outgoing connections, so by the time the program
is there somebody else may have it. These come from below that range, and nobody gets one twice.
"""

from __future__ import annotations

import contextlib
import secrets
import socket

_PORTS = range(20_000, 32_000)
_given: set[int] = set()


def pick_port(address: str = "127.0.0.1") -> int:
    """A free port of ``address`` that no connection will take and that this process was not given before."""
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, port))
            _given.add(port)
            return port
