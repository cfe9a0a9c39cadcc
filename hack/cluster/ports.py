"""A port for a program that binds it only later: a database, an API server, an engine that loads for half a minute.

Binding port 0 gives one from the range that the kernel also gives to outgoing connections, so by the time the program
is there somebody else may have it. These come from below that range, and nobody gets one twice.
"""

from __future__ import annotations

import secrets
import socket

from hack.cluster.errors import ClusterError

_PORTS = range(20_000, 32_000)
# On a machine with half of the range taken, all of these fail once in 10^60 times.
_TRIES = 200
_given: set[int] = set()


def pick_port(address: str = "127.0.0.1") -> int:
    """A free port of ``address`` that no connection will take and that this process was not given before.

    :raises ClusterError: when none of many could be bound, as where ``address`` is not one of this machine's.
    """
    refused: OSError | None = None
    for _ in range(_TRIES):
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        if port in _given:
            continue
        try:
            with socket.socket() as probe:
                probe.bind((address, port))
        except OSError as error:
            refused = error
        else:
            _given.add(port)
            return port
    why = refused or f"all that were tried had been given away ({len(_given)} were)"
    raise ClusterError(f"no free port of {address} below {_PORTS.stop} after {_TRIES} tries: {why}")
