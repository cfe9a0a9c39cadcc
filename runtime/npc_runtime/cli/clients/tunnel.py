"""A connection to a pod's port through the API server's port-forward: one websocket, two threads, an ordinary socket.

The library's own forwarder leaves its websocket open, and its thread busy, when the pod hangs up first; here both ends
go away together, whoever began.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from websocket import WebSocketException

DATA, ERROR = 0, 1
"""Channels of the protocol v4.channel.k8s.io; each begins with a frame that repeats the port."""
CHUNK = 1 << 16
END_SECONDS = 5.0
"""How long the threads get to end once both sockets are shut: they wait for nothing else."""


@dataclass(slots=True)
class Told:
    """What the API server said went wrong with the pod's port."""

    words: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(self.words).strip()


@contextlib.contextmanager
def tunnel(websocket: Any) -> Iterator[tuple[socket.socket, Told]]:
    """A socket that is the pod's port, and what the API server says of it. `websocket` is open and belongs to this."""
    near, far = socket.socketpair()
    told = Told()
    threads = (
        threading.Thread(target=_carry_there, args=(far, websocket), daemon=True),
        threading.Thread(target=_carry_back, args=(websocket, far, told), daemon=True),
    )
    for thread in threads:
        thread.start()
    try:
        yield near, told
    finally:
        near.close()
        for end in (far, websocket.sock):
            if end is not None:
                # Wakes whoever waits in it; it may be shut already.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(END_SECONDS)
        far.close()
        websocket.shutdown()


def _carry_there(far: socket.socket, websocket: Any) -> None:
    with contextlib.suppress(OSError, WebSocketException):
        while data := far.recv(CHUNK):
            websocket.send_binary(bytes([DATA]) + data)


def _carry_back(websocket: Any, far: socket.socket, told: Told) -> None:
    begun: set[int] = set()
    try:
        while frame := websocket.recv():
            raw = frame if isinstance(frame, bytes) else str(frame).encode()
            channel, body = raw[0], raw[1:]
            if channel not in begun:
                begun.add(channel)
            elif channel == ERROR:
                told.words.append(body.decode(errors="replace"))
                break
            elif channel == DATA:
                far.sendall(body)
    except (OSError, WebSocketException):
        # The other side is gone, which the reader sees as the end of the connection.
        pass
    finally:
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
