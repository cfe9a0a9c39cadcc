"""The data port's certificate: a mounted Secret of type kubernetes.io/tls, followed while the gateway runs.

A new pair is read into a context of its own, and only a whole one takes over: OpenSSL replaces the certificate of a
context before it finds that the key does not fit. Connections that are open keep what they began with.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_FILES = ("tls.crt", "tls.key")


class BadCertificate(Exception):
    """There is no usable certificate to start with."""


class ServerTls:
    """A server-side context whose new connections get the newest usable certificate of a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the folder for the first time.

        Raises:
            BadCertificate: a file is missing, is not what its name says, or the two do not fit each other.

        """
        self._folder = folder
        self._seen = self._identity()
        self._refused: tuple[object, ...] = ()
        try:
            self._current = self._read()
        except OSError as error:
            raise BadCertificate(f"{folder}: {describe(error)}") from error
        self.context = self._current
        """For the listener. It hands each handshake over to the newest certificate."""
        self.context.sni_callback = self._hand_over

    def refresh(self) -> None:
        """Read the folder again if it changed. A broken or half-written pair is said once, and the last good one stays
        in use."""
        identity = self._identity()
        if identity in (self._seen, self._refused):
            return
        try:
            self._current = self._read()
        except OSError as error:
            self._refused = identity
            log.error(
                "the new certificate of the data port cannot be used; the last one stays in use",
                extra={"folder": str(self._folder), "error": describe(error)},
            )
            return
        self._seen, self._refused = identity, ()
        log.info("the certificate of the data port was read again")

    async def follow(self) -> None:
        """Refresh once a second until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.refresh()

    def _hand_over(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, with or without a server name."""
        if connection.context is not self._current:
            connection.context = self._current

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Only HTTP/1.1 is spoken; a client that offers more must not believe otherwise.
        context.set_alpn_protocols(["http/1.1"])
        # An empty password, given by hand: an encrypted key must fail and never ask on a terminal.
        context.load_cert_chain(self._folder / _FILES[0], self._folder / _FILES[1], password=lambda: b"")
        return context

    def _identity(self) -> tuple[object, ...]:
        identity: list[object] = []
        for name in _FILES:
            try:
                stat = (self._folder / name).stat()
            except OSError:
                identity.append(None)
            else:
                identity.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(identity)


def describe(error: OSError) -> str:
    """What is wrong with a certificate; never any of its content."""
    if isinstance(error, ssl.SSLError):
        return f"tls.crt and tls.key are no certificate with its key ({error.reason or 'unreadable'})"
    return f"{error.filename or 'tls.crt or tls.key'}: {error.strerror or type(error).__name__}"
