"""Messages between the main process and its workers: JSON behind a length, over a socket pair that only they hold.

Requests carry a number and get one answer; there is no other state. The peer's death closes the socket, which is how
either learns of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import orjson

_LENGTH = struct.Struct("!I")
Message = dict[str, Any]


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Take over one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Send one message; messages are rare and small against the socket's buffers, so nobody waits."""
        data = orjson.dumps(message)
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def receive(self) -> Message | None:
        """The next message, or None when the peer is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message: Message = orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return message

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
