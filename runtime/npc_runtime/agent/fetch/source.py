"""What a place to fetch from must offer.

Sources are synchronous and run in worker threads: boto3 is, files are, and for https the hashing and writing of each
chunk would otherwise be the event loop's. They hold no state but connections, so a broken transfer is resumed by asking
again from an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

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
