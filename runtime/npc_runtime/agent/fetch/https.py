"""Adapters from a web server: `https://host/folder`, a folder URI without query.

HTTP has no listing, so the folder may publish one: `SHA256SUMS` beside the adapter's files, which is the very listing
the digest is made of (`find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- > ../SHA256SUMS`; it
is not part of the adapter). Its own sha256 must equal the digest, so a wrong folder is told before a weight is fetched.
Without it the adapter is exactly adapter_config.json and adapter_model.safetensors.

The Secret may hold `token` (bearer), or `username` and `password` (basic), and `ca.crt` (PEM, for a private authority).
Certificates are always verified. Redirects are followed only to https on the same host and port: credentials must not
travel, and a public name must not lead to an inner one.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from ..errors import AdapterError, Reason, refused, retryable
from ..inspect.config import CONFIG_NAME
from ..inspect.files import WEIGHTS_NAME, check_names
from .source import READ_CHUNK, Listing, Piece, RemoteFile

INDEX_NAME = "SHA256SUMS"
_INDEX_LIMIT = 64 << 10
_REDIRECTS = 3
_TIMEOUT = urllib3.Timeout(connect=5, read=30)
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\n]+)\n")


class HttpsSource:
    """One folder on a web server."""

    def __init__(self, uri: str, *, credentials: Mapping[str, str], digest: str) -> None:
        self._base = uri.rstrip("/") + "/"
        if not urlsplit(uri).hostname:
            raise refused(Reason.UNSUPPORTED_URI, "an https URI is https://host/folder")
        self._digest = digest
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "npc-agent", **_authorization(credentials)}
        context = ssl.create_default_context()
        if credentials.get("ca.crt"):
            try:
                context.load_verify_locations(cadata=credentials["ca.crt"])
            except ssl.SSLError:
                raise refused(Reason.CREDENTIALS_MISSING, "the Secret's ca.crt is not a PEM certificate") from None
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=_TIMEOUT, retries=False, maxsize=2)

    def listing(self) -> Listing:
        """The published listing, or the two files every adapter has."""
        hashes = self._index()
        names = sorted(hashes or (CONFIG_NAME, WEIGHTS_NAME), key=lambda name: (name == WEIGHTS_NAME, name))
        return Listing(tuple(self._head(name) for name in names), hashes)

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Piece]:
        """See Source.read."""
        headers = {"Range": f"bytes={offset}-", "If-Range": file.version} if offset and file.version else {}
        with _mapped_errors(file.name):
            answer = self._request("GET", file.name, headers)
            try:
                resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
                    f"bytes {offset}-"
                )
                if answer.status != 200 and not resumed:
                    raise _mapped(answer.status, file.name)
                if file.version and _version(answer) not in {"", file.version}:
                    raise retryable(Reason.SOURCE_CHANGED, f"{file.name} changed while it was fetched")
                yield Piece(offset if resumed else 0, answer.stream(READ_CHUNK, decode_content=False))
            finally:
                answer.close()

    def close(self) -> None:
        """See Source.close."""
        self._pool.clear()

    def _index(self) -> Mapping[str, str]:
        with _mapped_errors(INDEX_NAME):
            answer = self._request("GET", INDEX_NAME, {})
            try:
                if answer.status in {403, 404, 410}:  # stores that may not be listed say 403 for what is not there
                    return {}
                if answer.status != 200:
                    raise _mapped(answer.status, INDEX_NAME)
                raw = answer.read(_INDEX_LIMIT + 1, decode_content=False)
            finally:
                answer.close()
        if len(raw) > _INDEX_LIMIT:
            raise refused(Reason.TOO_LARGE, f"{INDEX_NAME} is larger than {_INDEX_LIMIT} bytes")
        if self._digest and f"sha256:{hashlib.sha256(raw).hexdigest()}" != self._digest:
            raise refused(Reason.DIGEST_MISMATCH, f"{INDEX_NAME} is the listing of another adapter")
        text = raw.decode("ascii", errors="replace")
        if "".join(match.group(0) for match in _LINE.finditer(text)) != text:
            raise refused(Reason.BAD_HEADER, f"{INDEX_NAME} is not what sha256sum prints")
        hashes = {match.group(2): match.group(1) for match in _LINE.finditer(text)}
        # Before any of them becomes part of a URL: a name like //host/x would carry the credentials to that host.
        check_names(hashes.keys())
        return hashes

    def _head(self, name: str) -> RemoteFile:
        with _mapped_errors(name):
            answer = self._request("HEAD", name, {})
            answer.close()
        if answer.status in {405, 501}:  # a server without HEAD: the transfer itself will tell
            return RemoteFile(name, None)
        if answer.status != 200:
            raise _mapped(answer.status, name)
        length = answer.headers.get("Content-Length", "")
        return RemoteFile(name, int(length) if length.isdecimal() else None, _version(answer))

    def _request(self, method: str, name: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        url = f"{self._base}{quote(name)}"
        for _ in range(_REDIRECTS + 1):
            answer = self._pool.request(
                method, url, headers={**self._headers, **headers}, preload_content=False, redirect=False
            )
            if answer.status not in {301, 302, 303, 307, 308}:
                return answer
            target = urljoin(url, answer.headers.get("Location", ""))
            answer.close()
            if _origin(target) != _origin(self._base):
                raise refused(Reason.REDIRECT_REFUSED, f"{name} redirects to another host or away from https")
            url = target
        raise refused(Reason.REDIRECT_REFUSED, f"{name} redirects more than {_REDIRECTS} times")


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port or 443)


def _version(answer: urllib3.BaseHTTPResponse) -> str:
    etag = answer.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag  # a weak tag promises nothing about bytes


def _authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    if credentials.get("token"):
        return {"Authorization": f"Bearer {credentials['token'].strip()}"}
    if credentials.get("username"):
        pair = f"{credentials['username']}:{credentials.get('password', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


@contextmanager
def _mapped_errors(name: str) -> Iterator[None]:
    try:
        yield
    except SSLError:
        raise retryable(Reason.SOURCE_UNAVAILABLE, f"{name}: the server's certificate cannot be verified") from None
    except (HTTPError, OSError) as error:
        raise retryable(Reason.SOURCE_UNAVAILABLE, f"{name}: {type(error).__name__}") from None


def _mapped(status: int, name: str) -> AdapterError:
    if status in {404, 410}:
        return retryable(Reason.NOT_FOUND, f"{name}: HTTP {status}")
    if status in {401, 403, 407}:
        return retryable(Reason.ACCESS_DENIED, f"{name}: HTTP {status}")
    if status in {412, 416}:
        return retryable(Reason.SOURCE_CHANGED, f"{name} changed while it was fetched")
    return retryable(Reason.SOURCE_UNAVAILABLE, f"{name}: HTTP {status}")
