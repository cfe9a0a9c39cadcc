"""The mounted Secret of the region: the certificate of the admin port and the tokens that may push routes.

Both rotate while the gateway runs. kubelet replaces the files behind one symlink, so the folder is looked at once a
second (it is in memory); a token that is not known is refused only after the folder was read again, so a fresh one
is never too early.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from hmac import compare_digest
from pathlib import Path

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_TOKENS = ("token", "token-previous")


class BadInternalDir(Exception):
    """The folder lacks what the admin port needs."""


class InternalDir:
    """The present content of the folder, and a server-side TLS context that follows it."""

    def __init__(self, folder: Path) -> None:
        """Read the folder for the first time.

        Raises:
            BadInternalDir: a file is missing or is not what its name says.

        """
        self._folder = folder
        self._tokens: tuple[bytes, ...] = ()
        self._seen: tuple[object, ...] = ()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._read()
        except OSError as error:
            raise BadInternalDir(
                f"{folder}: {error.filename or 'tls.crt and tls.key'}: {error.strerror or error}"
            ) from error
        if not self._tokens:
            raise BadInternalDir(f"{folder}/token is empty")

    def allows(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries the current or the previous token; compared in constant time."""
        if authorization is None:
            return False
        scheme, _, presented = authorization.partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            return False
        # Bytes that are no UTF-8 come as surrogates: a wrong token like any other.
        token = presented.strip().encode(errors="surrogateescape")
        if self._matches(token):
            return True
        self.refresh()
        return self._matches(token)

    def ca(self) -> str:
        """The mounted CA bundle (PEM), empty when there is none."""
        try:
            return (self._folder / "ca.crt").read_text()
        except OSError:
            return ""

    def refresh(self) -> None:
        """Read the folder again if it changed. A half-written or broken one is logged, and what was known stays in
        force."""
        try:
            if self._identity() != self._seen:
                self._read()
                log.info("the internal certificate and tokens were read again")
        except OSError as error:
            log.warning("cannot read the internal folder; what was known stays in force", extra={"error": str(error)})

    async def follow(self) -> None:
        """Refresh once a second until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.refresh()

    def _matches(self, presented: bytes) -> bool:
        matched = False
        for token in self._tokens:
            matched |= compare_digest(presented, token)
        return matched

    def _identity(self) -> tuple[object, ...]:
        identity: list[object] = []
        for name in ("tls.crt", "tls.key", *_TOKENS):
            try:
                stat = (self._folder / name).stat()
            except FileNotFoundError:
                identity.append(None)
            else:
                identity.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(identity)

    def _read(self) -> None:
        identity = self._identity()
        tokens = []
        for name in _TOKENS:
            try:
                token = (self._folder / name).read_bytes().strip()
            except FileNotFoundError:
                if name == "token":
                    raise
                continue
            if token:
                tokens.append(token)
        # ssl.SSLError is an OSError: a certificate that does not fit its key is reported like a missing file.
        self.tls.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        if tokens:
            self._tokens = tuple(tokens)
            self._seen = identity
