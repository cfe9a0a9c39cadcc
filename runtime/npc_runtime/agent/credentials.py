"""The agent's own certificate and the tokens it accepts, from a mounted Secret that may change at any time.

Kubelet replaces the whole folder behind a link, so a look at each file's inode and time once a second is enough; a
token that is not known makes it look at once, so a rotation is seen as soon as the files have it. Nothing is restarted:
the same TLS context serves the new certificate to the next connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import ssl
from pathlib import Path

LOOK_SECONDS = 1.0
_TOKENS = ("token", "token-previous")
_FILES = ("tls.crt", "tls.key", *_TOKENS)

log = logging.getLogger(__name__)


class Credentials:
    """The content of one internal folder. Raises OSError, ssl.SSLError or ValueError at construction if it cannot be
    used at all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._stamps()
        self._tokens: tuple[bytes, ...] = ()
        self._read()

    def accepts(self, authorization: str) -> bool:
        """Whether the header carries the current or the previous token; compared in constant time."""
        scheme, _, token = authorization.partition(" ")
        presented = hashlib.sha256(token.strip().encode()).digest()
        if self._known(presented):
            return scheme.lower() == "bearer"
        return self._look() and self._known(presented) and scheme.lower() == "bearer"

    async def watch(self) -> None:
        """Looks for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _known(self, presented: bytes) -> bool:
        matches = [hmac.compare_digest(presented, token) for token in self._tokens]
        return any(matches)

    def _look(self) -> bool:
        """Reads the files again if they changed; keeps the old content while the new cannot be used."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        try:
            self._read()
        except (OSError, ssl.SSLError, ValueError) as error:
            log.error(
                "internal credentials changed and cannot be used; the old ones stay",
                extra={"detail": type(error).__name__},
            )
            return False
        log.info("internal credentials were read again")
        return True

    def _read(self) -> None:
        tokens = [self._token(name) for name in _TOKENS]
        if not tokens[0]:
            raise ValueError(f"{self._folder / _TOKENS[0]} is missing or empty")
        # Key and certificate are checked in a context of their own: a mismatched pair must not break the one that
        # serves.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        self.context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        self._tokens = tuple(hashlib.sha256(token.encode()).digest() for token in tokens if token)

    def _token(self, name: str) -> str:
        try:
            return (self._folder / name).read_text().strip()
        except FileNotFoundError:
            return ""

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(self._folder / name) for name in _FILES)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
