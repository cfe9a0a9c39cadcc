"""Reading an engine's answer: its head, and where its body ends, without touching the bytes of a stream in between.

A stream is passed on chunk by chunk, never a part of one: so whatever happens to the engine, the client's stream
stands at a chunk boundary, where an error event can still be put.
"""

from __future__ import annotations

import re
from functools import lru_cache

import httptools

from npc_runtime.gateway.http.limits import MAX_ENGINE_CHUNK_BYTES

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_MAX_CHUNK_LINE = 256
_TAIL_BYTES = 64
# Sizes as engines write them for one token's event: a look-up instead of a pattern, once for each token of each line.
_PLAIN_SIZES = {b"%x" % size: size for size in range(1, 2048)}
WHOLE_CHUNKS = {written: len(written) + size + 4 for written, size in _PLAIN_SIZES.items() if size >= _TAIL_BYTES}
"""How long a chunk is in all, by its size as it is written: for chunks that fill the tail that is kept."""
# With the end of the chunk around it: a character may say "data: [DONE]", but its JSON cannot end a chunk like this.
_DONE_ENDS = (b"data: [DONE]\n\n\r\n", b"data: [DONE]\r\n\r\n\r\n")


class BrokenAnswer(Exception):
    """The engine's bytes are not an answer that can be passed on."""


class EngineHead:
    """Status line and headers of an engine's answer, as far as the gateway cares. Nobody changes it once it is parsed:
    answers with the same head share it."""

    __slots__ = (
        "chunked",
        "content_encoding",
        "content_length",
        "content_type",
        "is_stream",
        "keep_alive",
        "retry_after",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.content_type = b"application/octet-stream"
        self.content_encoding = b""
        self.content_length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.retry_after = b""
        self.is_stream = False
        """Whether the body is server-sent events of unknown length."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Callback of the parser; everything not named here is dropped, hop-by-hop headers with it."""
        match name.lower():
            case b"content-type":
                self.content_type = value
            case b"content-length":
                self.content_length = int(value) if value.isdigit() else -1
            case b"transfer-encoding":
                self.chunked = value.lower() == b"chunked"
            case b"content-encoding":
                self.content_encoding = value
            case b"connection":
                self.keep_alive = b"close" not in value.lower()
            case b"retry-after":
                self.retry_after = value if value.isdigit() else b""
            case _:
                pass


@lru_cache(maxsize=64)
def parse_engine_head(data: bytes) -> EngineHead:
    """Parse one whole head, its final empty line included.

    Remembered, because but for the second in its Date the head of one streamed answer is that of all others.

    Raises:
        BrokenAnswer: not HTTP/1.1, or its body has no declared end.

    """
    head = EngineHead()
    parser = httptools.HttpResponseParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as error:
        raise BrokenAnswer("the engine wants to change the protocol") from error
    except httptools.HttpParserError as error:
        raise BrokenAnswer(f"not an HTTP answer: {error}") from error
    head.status = parser.get_status_code()
    if parser.get_http_version() != "1.1":
        head.keep_alive = False
    if head.status in (204, 304):
        head.content_length = 0
        head.chunked = False
    if head.status >= 200 and not head.chunked and (head.content_length is None or head.content_length < 0):
        raise BrokenAnswer("the answer has neither a length nor chunks, so its end could not be told from a failure")
    head.is_stream = head.chunked and head.status == 200 and head.content_type[:17].lower() == b"text/event-stream"
    return head


class ChunkedAnswer:
    """Finds chunk boundaries in a stream and holds back the bytes after the last one."""

    __slots__ = ("done", "held", "passed_last")

    def __init__(self) -> None:
        self.held = b""
        """Bytes after the last whole chunk."""
        self.passed_last = b""
        """What was passed on last, with enough before it to hold a whole [DONE] event: another object each time."""
        self.done = False

    @property
    def said_done(self) -> bool:
        """Whether the events so far ended with OpenAI's `data: [DONE]`."""
        return self.passed_last.endswith(_DONE_ENDS)

    @property
    def between_events(self) -> bool:
        """Whether what was passed on ends with a whole event, so another event may follow."""
        return not self.passed_last or self.passed_last.endswith((b"\n\n\r\n", b"\r\n\r\n\r\n"))

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body and return those up to the last chunk boundary, the terminal chunk left out.

        Raises:
            BrokenAnswer: the framing is broken, or something follows the terminal chunk.

        """
        held = self.held
        if held:
            data = held + data
        position = 0
        size = len(data)
        while position < size:
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                if size - position > _MAX_CHUNK_LINE:
                    raise BrokenAnswer("a chunk header is too long")
                break
            length = _PLAIN_SIZES.get(data[position:line_end])
            if length is None:
                length = _read_size(data, position, line_end)
                if length == 0:
                    # Trailers are not used by any engine; only the empty line that ends the body is expected.
                    if size < line_end + 4:
                        break
                    if data[line_end + 2 : line_end + 4] != b"\r\n" or size > line_end + 4:
                        raise BrokenAnswer("something follows the end of the answer")
                    self.done = True
                    self.held = b""
                    return self._passed(data[:position])
            end = line_end + 2 + length
            if size < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise BrokenAnswer("a chunk does not end where it said")
            position = end + 2
        if position < size:
            self.held = data[position:]
            return self._passed(data[:position])
        if held:
            self.held = b""
        if size >= _TAIL_BYTES:
            self.passed_last = data
            return data
        return self._passed(data)

    def _passed(self, data: bytes) -> bytes:
        if len(data) >= _TAIL_BYTES:
            self.passed_last = data
        elif data:
            self.passed_last = self.passed_last[-_TAIL_BYTES:] + data
        return data


def _read_size(data: bytes, position: int, line_end: int) -> int:
    """The size in a chunk's header, extensions read over.

    Raises:
        BrokenAnswer: there is none, or it is larger than what is held.

    """
    match = _CHUNK_LINE.fullmatch(data, position, line_end)
    if match is None:
        raise BrokenAnswer("a chunk header is malformed")
    length = int(match.group(1), 16)
    if length > MAX_ENGINE_CHUNK_BYTES:
        raise BrokenAnswer("a chunk is too large")
    return length


def dechunk(data: bytes) -> bytes:
    """The payload of whole chunks as `ChunkedAnswer.feed` returned them (already checked)."""
    parts: list[bytes] = []
    position = 0
    while position < len(data):
        line_end = data.index(b"\r\n", position)
        length = int(data[position:line_end].partition(b";")[0], 16)
        parts.append(data[line_end + 2 : line_end + 2 + length])
        position = line_end + 4 + length
    return b"".join(parts)
