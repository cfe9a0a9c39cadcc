"""Requests from the network, read so that there is exactly one way to understand them.

llhttp (through httptools) checks the grammar of the head; the framing of the body is ours and happens nowhere else,
so no two parsers can disagree about where a request ends. What is ambiguous (both lengths, repeated singletons, bare
line feeds, odd codings) is refused, never guessed.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from npc_runtime.gateway.errors import (
    Refused,
    body_too_large,
    expectation_failed,
    malformed,
    target_too_long,
    unsupported_coding,
    unsupported_version,
)
from npc_runtime.gateway.http.limits import MAX_TARGET_BYTES

HEAD_END: Final = b"\r\n\r\n"

# Headers whose repetition would let two readers disagree about framing, identity or routing.
_SINGLETONS: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"authorization",
        b"expect",
        b"x-npc-id",
        b"x-npc-tier",
        b"x-player-id",
        b"x-request-id",
        b"traceparent",
    )
)
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
# An open quote could hide the line's end from a reader that honours quotes: only closed ones are read over.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;(?:[\t !#-~]|\"[\t !#-~]*\")*)?")
_MAX_CHUNK_LINE = 256
# As Go's net/http counts it: 16 bytes of framing a chunk and two for each byte of data are free, what is above adds up.
_FREE_FRAMING_BYTES = 16
_MAX_EXCESS_BYTES = 16 << 10


class _Collector:
    """Receives llhttp's callbacks for one head.

    A dictionary takes the headers itself, without a call into Python for each; that one came twice is then seen from
    their number, and `_Repeats` looks at them one by one.
    """

    __slots__ = ("named", "on_header", "target")

    def __init__(self) -> None:
        self.named: dict[bytes, bytes] = {}
        """As they are spelt."""
        self.on_header = self.named.__setitem__
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url


class _Repeats:
    """Receives the headers of a head in which one occurs twice."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.repeated: bytes | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        before = self.headers.get(name)
        if before is not None:
            if name in _SINGLETONS:
                self.repeated = name
            # One list of values, as RFC 9110 reads it: of two Connection headers neither may hide the other.
            value = before + b", " + value
        self.headers[name] = value


class RequestHead:
    """One request's line and headers, already checked: names are lower case, singletons occur once, the framing is
    unambiguous."""

    __slots__ = ("chunked", "content_length", "expects_continue", "headers", "keep_alive", "method", "path")

    def __init__(self, method: bytes, path: bytes, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.content_length = 0
        self.chunked = False
        self.expects_continue = False

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.chunked or self.content_length > 0


def parse_head(head: bytes) -> RequestHead:
    """Parse one whole head, its final empty line included.

    Raises:
        Refused: the head is not one strict HTTP/1.1 request head.

    """
    collector = _Collector()
    parser = _parse(head, collector)
    headers = {name.lower(): value for name, value in collector.named.items()}
    if len(headers) != head.count(b"\r\n") - 2:
        repeats = _Repeats()
        _parse(head, repeats)
        headers = repeats.headers
        if repeats.repeated is not None:
            raise Refused(malformed(f"The header '{repeats.repeated.decode()}' is repeated."))
    if parser.get_http_version() != "1.1":
        raise Refused(unsupported_version())
    host = headers.get(b"host")
    if host is None or _HOST.fullmatch(host) is None:
        raise Refused(malformed("Exactly one valid Host header is required."))
    target = collector.target
    method = parser.get_method()
    if not head.startswith(b"%b %b HTTP/1.1\r\n" % (method, target)):
        # llhttp tolerates more than one space here.
        raise Refused(malformed("The request line must be a method, a path and HTTP/1.1, one space between."))
    if len(target) > MAX_TARGET_BYTES:
        raise Refused(target_too_long(MAX_TARGET_BYTES))
    if method == b"CONNECT":
        # Whoever stands between would take what follows for a tunnel.
        raise Refused(malformed("There are no tunnels here."))
    if not target.startswith(b"/") and target != b"*":
        raise Refused(malformed("The request target must be a path."))
    request = RequestHead(
        method,
        target.partition(b"?")[0],
        headers,
        keep_alive=b"close" not in headers.get(b"connection", b"").lower(),
    )
    _set_framing(request)
    return request


def _parse(head: bytes, collector: object) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        # An Upgrade that is not taken is no fault (RFC 9110, 7.8): the request is answered in HTTP/1.1. CONNECT ends
        # up here too.
        pass
    except httptools.HttpParserError as error:
        raise Refused(malformed(f"Not a valid HTTP/1.1 request: {error}.")) from error
    return parser


def _set_framing(request: RequestHead) -> None:
    headers = request.headers
    length = headers.get(b"content-length")
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise Refused(malformed("Content-Length and Transfer-Encoding exclude each other."))
        if coding.lower() != b"chunked":
            raise Refused(unsupported_coding())
        request.chunked = True
    elif length is not None:
        if _DIGITS.fullmatch(length) is None:
            raise Refused(malformed("Content-Length is not a number."))
        request.content_length = int(length)
    expect = headers.get(b"expect")
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise Refused(expectation_failed())
        request.expects_continue = True


def check_unfinished_head(data: bytes) -> None:
    """Refuse at once what can never become a head, instead of waiting for the rest of it.

    Raises:
        Refused: a bare line feed, or a first byte that starts no method.

    """
    if data.count(b"\n") != data.count(b"\r\n"):
        raise Refused(malformed("Lines must end with CR LF."))
    if not (b"A" <= data[:1] <= b"Z") and data[:1] != b"\r":
        raise Refused(malformed("Not an HTTP/1.1 request."))


class ChunkedBody:
    """Decodes one chunked request body, fed piece by piece; bounded in size, without trailers."""

    __slots__ = ("_buffer", "_data", "_excess", "_last", "_limit", "_remaining", "_size", "done")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = b""
        # One buffer and no list of pieces: those of a body in tiny chunks would hold twenty times its bytes.
        self._data = bytearray()
        self._size = 0
        self._excess = 0
        self._last = False
        self._remaining = -1  # data bytes left in the open chunk, its CR LF not counted; -1 between chunks
        self.done = False

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return len(self._buffer) + len(self._data)

    def body(self) -> bytes:
        """The decoded body; whole only once `done`."""
        return bytes(self._data)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived and return what follows the end of the body (empty while it is not done).

        Raises:
            Refused: the framing is broken (400) or the body exceeds the limit (413).

        """
        data = self._buffer + data
        position = 0
        while True:
            if self._remaining < 0:
                end = data.find(b"\r\n", position)
                if end < 0 or end - position > _MAX_CHUNK_LINE:
                    if len(data) - position > _MAX_CHUNK_LINE or b"\n" in data[position:]:
                        raise Refused(malformed("A chunk header is too long or malformed."))
                    break
                match = _CHUNK_LINE.fullmatch(data, position, end)
                if match is None:
                    raise Refused(malformed("A chunk header is malformed."))
                self._remaining = int(match.group(1), 16)
                self._last = self._remaining == 0
                self._size += self._remaining
                if self._size > self._limit:
                    raise Refused(body_too_large(self._limit))
                # Extensions mean nothing here: a body may not be made of them, whatever its own size.
                self._excess = max(0, self._excess + end - position - _FREE_FRAMING_BYTES - 2 * self._remaining)
                if self._excess > _MAX_EXCESS_BYTES:
                    raise Refused(malformed("The body is mostly framing."))
                position = end + 2
                continue
            if self._remaining == 0:
                # The open chunk's data is complete (or this is the last chunk): CR LF must follow.
                if len(data) - position < 2:
                    if data[position:] not in (b"", b"\r"):
                        raise Refused(malformed("A chunk does not end where it said."))
                    break
                if data[position : position + 2] != b"\r\n":
                    raise Refused(malformed("A chunk does not end where it said, or trailers follow the body."))
                position += 2
                if self._last:
                    self.done = True
                    self._buffer = b""
                    return data[position:]
                self._remaining = -1
                continue
            taken = data[position : position + self._remaining]
            if not taken:
                break
            self._data += taken
            self._remaining -= len(taken)
            position += len(taken)
        self._buffer = data[position:]
        return b""
