"""Drives a source into a staging folder: names and sizes first, then bytes, hashed as they pass, resumed where they
broke off.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..digest import CHUNK, digest_of_listing
from ..errors import AdapterError, Reason, refused, retryable
from ..inspect.files import check_names, check_size
from .source import Listing, RemoteFile, Source

_VERSIONS = "versions.json"
_FILES = "files"


class StoppedError(Exception):
    """The agent ends, or nobody wants these bytes any more."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete folder with the expected digest; `received` counts bytes that really travelled."""

    folder: Path
    size: int
    received: int


Progress = Callable[[int, int], None]
"""Called with (bytes here, bytes in all; 0 = unknown) about once per chunk, from a worker thread."""


def download_adapter(
    source: Source,
    staging: Path,
    *,
    digest: str,
    size_limit: int,
    reserve: Callable[[int], None],
    progress: Progress,
    stopped: Callable[[], bool],
) -> Downloaded:
    """Brings the folder with that digest below `staging`.

    A mismatch after a resumed transfer may be the old bytes' fault: it is tried once more from nothing before it is
    called the source's. Raises AdapterError, and StoppedError when `stopped` says so (what has arrived stays for the
    next time).
    """
    for fresh in (False, True):
        had_bytes = (staging / _FILES).is_dir()
        if fresh:
            shutil.rmtree(staging, ignore_errors=True)
        try:
            listing = source.listing()
            check_listing(listing, digest=digest, size_limit=size_limit)
            reserve(sum(file.size or 0 for file in listing.files))
            return _download(
                source, listing, staging, digest=digest, size_limit=size_limit, progress=progress, stopped=stopped
            )
        except AdapterError as error:
            if error.reason is not Reason.DIGEST_MISMATCH:
                raise
            shutil.rmtree(staging, ignore_errors=True)
            if fresh or not had_bytes:
                raise
        except OSError as error:
            raise mapped_disk_error(error) from None
    raise AssertionError("unreachable")


def _download(
    source: Source,
    listing: Listing,
    staging: Path,
    *,
    digest: str,
    size_limit: int,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Downloaded:
    folder = staging / _FILES
    folder.mkdir(parents=True, exist_ok=True)
    _forget_other_versions(staging, listing)
    total = sum(file.size or 0 for file in listing.files) if all(file.size is not None for file in listing.files) else 0
    hashes: dict[str, str] = {}
    done = received = 0
    for file in listing.files:
        transfer = Transfer(source, file, folder / file.name, stopped=stopped)
        before = done
        transfer.run(limit=size_limit - before, progress=partial(_report, progress, before, total))
        done += transfer.size
        received += transfer.received
        check_size(file.name, transfer.size)
        hashes[file.name] = transfer.sha256
        published = listing.hashes.get(file.name)
        if published and published != transfer.sha256:
            raise refused(
                Reason.DIGEST_MISMATCH,
                f"{file.name} has sha256 {transfer.sha256}, the folder's listing says {published}",
            )
    _remove_others(folder, hashes)
    actual = digest_of_listing(hashes)
    if actual != digest:
        raise refused(Reason.DIGEST_MISMATCH, f"the source has {actual}, wanted is {digest}")
    return Downloaded(folder, done, received)


def _report(progress: Progress, before: int, total: int, here: int) -> None:
    progress(before + here, total)


def check_listing(listing: Listing, *, digest: str, size_limit: int) -> None:
    """Raises AdapterError for names and sizes no adapter has, and for a published listing of another digest, before any
    byte is fetched.
    """
    check_names([file.name for file in listing.files])
    for file in listing.files:
        check_size(file.name, file.size or 0)
    size = sum(file.size or 0 for file in listing.files)
    if size > size_limit:
        raise refused(Reason.TOO_LARGE, f"{size} bytes, an adapter of this tier may have {size_limit}")
    if listing.hashes and digest_of_listing(listing.hashes) != digest:
        raise refused(Reason.DIGEST_MISMATCH, "the folder's published listing is that of another adapter")


class Transfer:
    """One file on its way to `target`; afterwards `size`, `sha256` and `received` tell what came."""

    def __init__(self, source: Source, file: RemoteFile, target: Path, *, stopped: Callable[[], bool]) -> None:
        self._source = source
        self._file = file
        self._target = target
        self._stopped = stopped
        self._hash = hashlib.sha256()
        self.size = 0
        self.received = 0

    @property
    def sha256(self) -> str:
        """Hex sha256 of all bytes of the file."""
        return self._hash.hexdigest()

    def run(self, *, limit: int, progress: Callable[[int], None]) -> None:
        """Fetches what is missing; raises AdapterError(TooLarge) at the first byte beyond `limit` or the listed size;
        SourceUnavailable when it ends early.
        """
        self._target.parent.mkdir(parents=True, exist_ok=True)
        if self._file.size is not None:
            limit = min(limit, self._file.size)
        with self._target.open("r+b" if self._target.exists() else "w+b", buffering=0) as out:
            self._hash_present(out.readinto, progress)
            if self._file.size is None or self.size < self._file.size or self.size > limit:
                self._receive(out.fileno(), limit, progress)
        if self._file.size is not None and self.size != self._file.size:
            raise retryable(
                Reason.SOURCE_UNAVAILABLE, f"{self._file.name} ended at byte {self.size} of {self._file.size}"
            )
        self._target.chmod(0o644)  # the engine may run as another user of the pod's group

    def _hash_present(self, readinto: Callable[[memoryview], int | None], progress: Callable[[int], None]) -> None:
        buffer = memoryview(bytearray(CHUNK))
        while count := readinto(buffer):
            self._check_stopped()
            self._hash.update(buffer[:count])
            self.size += count
            progress(self.size)

    def _receive(self, descriptor: int, limit: int, progress: Callable[[int], None]) -> None:
        with self._source.read(self._file, self.size) as piece:
            if piece.offset != self.size:
                self._hash, self.size = hashlib.sha256(), 0
            os.ftruncate(descriptor, self.size)
            os.lseek(descriptor, self.size, os.SEEK_SET)
            for chunk in piece.chunks:
                self._check_stopped()
                if self.size + len(chunk) > limit:
                    raise refused(
                        Reason.TOO_LARGE, f"{self._file.name} is larger than announced or allowed ({limit} bytes)"
                    )
                _write_all(descriptor, chunk)
                self._hash.update(chunk)
                self.size += len(chunk)
                self.received += len(chunk)
                progress(self.size)

    def _check_stopped(self) -> None:
        if self._stopped():
            raise StoppedError


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:  # told apart from errors of a source that is itself a file system
        raise mapped_disk_error(error) from None


def _forget_other_versions(staging: Path, listing: Listing) -> None:
    """Drops partial files of another version of the source: bytes of two versions must never be joined."""
    versions = {file.name: f"{file.size}:{file.version}" for file in listing.files}
    path = staging / _VERSIONS
    try:
        known: Mapping[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    for name, version in versions.items():
        # A source without versions (no strong ETag) cannot promise that the rest belongs to the beginning.
        if known.get(name) != version or version.endswith(":"):
            (staging / _FILES / name).unlink(missing_ok=True)
    path.write_text(json.dumps(versions))


def _remove_others(folder: Path, wanted: Mapping[str, str]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def mapped_disk_error(error: OSError) -> AdapterError:
    """Faults of our own disk: they pass when room is made, so they are retried."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return retryable(Reason.DISK_FULL, "no space left for the adapter")
    return retryable(Reason.DISK_ERROR, f"{error.strerror}")
