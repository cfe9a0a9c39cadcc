"""What a place to fetch from must offer, and which place a URI means.

Sources are synchronous and run in worker threads: boto3 is, files are, and for https the hashing and writing of each
chunk would otherwise be the event loop's. They hold no state but connections, so a broken transfer is resumed by asking
again from an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ..errors import Reason, refused

READ_CHUNK = 1 << 20
"""Bytes per read: few enough for progress and stopping, many enough that Python's part does not count."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a folder. `size` is None where only a transfer can tell; `version` changes with its bytes (ETag,
    mtime), empty if unknown.
    """

    name: str
    size: int | None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder, in the order they should be fetched; `hashes` where the source publishes them (sha256 hex
    by name).
    """

    files: tuple[RemoteFile, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """An open transfer: `offset` is where it really begins, which is 0 when the source cannot resume."""

    offset: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """A folder somewhere. All methods raise AdapterError, and only that, for whatever goes wrong there."""

    def listing(self) -> Listing:
        """What is in the folder now."""
        ...

    def read(self, file: RemoteFile, offset: int) -> AbstractContextManager[Piece]:
        """The bytes of one file from `offset`, of the listed version: raises SourceChanged when that is gone."""
        ...

    def close(self) -> None:
        """Gives connections back; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What is wanted from a source, for those that can check early."""

    digest: str = ""


def open_source(
    uri: str, *, credentials: Mapping[str, str], file_roots: Sequence[Path], expected: Expected | None = None
) -> Source:
    """The source a URI means; raises AdapterError(UnsupportedUri | RootNotAllowed). Never quotes a URI that holds a
    password.
    """
    try:
        parts = urlsplit(uri)
        netloc_has_user = "@" in parts.netloc
    except ValueError:
        raise refused(Reason.UNSUPPORTED_URI, "the URI cannot be parsed") from None
    if netloc_has_user:
        raise refused(Reason.UNSUPPORTED_URI, "a URI must not hold a user or password: use secretRef")
    if parts.query or parts.fragment:
        raise refused(Reason.UNSUPPORTED_URI, "a URI must not have a query or fragment")
    match parts.scheme:  # imported where used: boto3 takes half a second that an agent without s3 need not spend
        case "s3":
            from .s3 import S3Source

            return S3Source(bucket=parts.netloc, prefix=parts.path, credentials=credentials)
        case "https":
            from .https import HttpsSource

            return HttpsSource(uri, credentials=credentials, digest=(expected or Expected()).digest)
        case "file":
            from .file import FileSource

            return FileSource(parts.netloc, parts.path, roots=file_roots)
        case scheme:
            raise refused(
                Reason.UNSUPPORTED_URI, f"cannot fetch from {scheme or 'a URI without scheme'}: only s3, https and file"
            )
