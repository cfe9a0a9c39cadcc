"""A client's bytes as requests, however the network cuts them: whole heads, then whole bodies.

Holds what has arrived and is not read yet. Knows no time and no socket: how long the rest is waited for is the
connection's to say.
"""

from __future__ import annotations

import re

from npc_runtime.gateway.errors import Refused, head_too_large
from npc_runtime.gateway.http.parser import HEAD_END, ChunkedBody, RequestHead, check_unfinished_head, parse_head

_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")


class RequestReader:
    """The unread bytes of one connection, and the body that is being read. Use `read_head`, then `open_body`
    where there is one, and `read_body`, in turns."""

    __slots__ = ("_chunked", "_missing", "_pieces", "buffer")

    def __init__(self) -> None:
        self.buffer = b""
        """What has arrived and is not read yet."""
        self._chunked: ChunkedBody | None = None
        self._pieces: list[bytes] = []
        self._missing = 0

    def read_head(self, max_bytes: int) -> RequestHead | None:
        """The next head, taken out; None while it is not whole.

        Raises:
            Refused: what is here is no head, or none of at most `max_bytes`.

        """
        buffer = self.buffer
        if buffer.startswith(b"\r\n"):
            # RFC 9112, 2.2: empty lines before a request are tolerated; some clients end a body with one.
            buffer = self.buffer = _EMPTY_LINES.sub(b"", buffer, count=1)
            if not buffer:
                return None
        end = buffer.find(HEAD_END) + 4
        if (end if end >= 4 else len(buffer)) > max_bytes:
            raise Refused(head_too_large(max_bytes))
        if end < 4:
            check_unfinished_head(buffer)
            return None
        head = parse_head(buffer[:end])
        self.buffer = buffer[end:]
        return head

    def skip_body(self, head: RequestHead) -> bool:
        """Drop a body that nobody wants; False, and nothing was dropped, if it is not here as a whole."""
        if head.chunked or len(self.buffer) < head.content_length:
            return False
        self.buffer = self.buffer[head.content_length :]
        return True

    def open_body(self, head: RequestHead, max_bytes: int) -> None:
        """Begin with the body of this head, of at most `max_bytes`."""
        self._chunked = ChunkedBody(max_bytes) if head.chunked else None
        self._missing = head.content_length

    def read_body(self) -> bytes | None:
        """The body, taken out; None while it is not whole. Empty where none was opened.

        Raises:
            Refused: its framing is broken (400), or it is too large (413).

        """
        buffer, chunked = self.buffer, self._chunked
        if chunked is not None:
            self.buffer = chunked.feed(buffer)
            if not chunked.done:
                return None
            self._chunked = None
            return chunked.body()
        missing = self._missing
        if len(buffer) < missing:
            # Kept in pieces: joining all of it anew with each packet would cost the square of its length.
            self._pieces.append(buffer)
            self._missing = missing - len(buffer)
            self.buffer = b""
            return None
        body = buffer[:missing]
        self.buffer = buffer[missing:]
        self._missing = 0
        if self._pieces:
            body = b"".join((*self._pieces, body))
            self._pieces = []
        return body

    @property
    def held(self) -> int:
        """Bytes that are kept, read or not."""
        held = len(self.buffer) + sum(map(len, self._pieces))
        return held if self._chunked is None else held + self._chunked.held

    def clear(self) -> None:
        """Drop everything: nothing more is read."""
        self.buffer = b""
        self._pieces = []
        self._chunked = None
