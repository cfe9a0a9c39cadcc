"""Adapters from a mounted folder: `file:///<allowed root>/<folder>`.

The folder belongs to somebody else and may change while it is read, so every component below it is opened without
following links, relative to the folder opened before it: no swap of a directory for a link can lead outside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from ..digest import files_below
from ..errors import AdapterError, Reason, refused, retryable
from .source import READ_CHUNK, Listing, Piece, RemoteFile

_NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class FileSource:
    """A folder below one of the allowed roots; symlinks above the folder are followed if they stay below a root."""

    def __init__(self, host: str, path: str, *, roots: Sequence[Path]) -> None:
        if host not in {"", "localhost"}:
            raise refused(Reason.UNSUPPORTED_URI, "a file URI has no host: file:///path")
        if not roots:
            raise refused(Reason.ROOT_NOT_ALLOWED, "this tier allows no file roots (agent.fileRoots)")
        wanted = unquote(path)
        if "\0" in wanted or ".." in wanted.split("/"):
            raise refused(Reason.UNSAFE_PATH, "the path of a file URI must not contain '..'")
        self._folder = _resolved(Path(wanted), roots)

    def listing(self) -> Listing:
        """All files below the folder, weights last so that small mistakes are found first."""
        try:
            files = [_stat(self._folder, name) for name in files_below(self._folder)]
        except OSError as error:
            raise _mapped(error) from None
        return Listing(tuple(sorted(files, key=lambda file: (file.size or 0, file.name))))

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Piece]:
        """See Source.read."""
        descriptor = -1
        try:
            descriptor = _open_beneath(self._folder, file.name)
            if _version(os.fstat(descriptor)) != file.version:
                raise retryable(Reason.SOURCE_CHANGED, f"{file.name} changed while it was fetched")
            os.lseek(descriptor, offset, os.SEEK_SET)
            yield Piece(offset, iter(lambda: os.read(descriptor, READ_CHUNK), b""))
        except OSError as error:
            raise _mapped(error) from None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def close(self) -> None:
        """Nothing is held."""


def _resolved(path: Path, roots: Sequence[Path]) -> Path:
    real = Path(os.path.realpath(path))
    for root in roots:
        if real.is_relative_to(os.path.realpath(root)):
            return real
    raise refused(Reason.ROOT_NOT_ALLOWED, f"{path} is not below an allowed file root of this tier")


def _stat(folder: Path, name: str) -> RemoteFile:
    status = (folder / name).lstat()
    return RemoteFile(name, status.st_size, _version(status))


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _open_beneath(folder: Path, name: str) -> int:
    current = os.open(folder, _NO_FOLLOW | os.O_DIRECTORY)
    try:
        *folders, last = name.split("/")
        for part in folders:
            below = os.open(part, _NO_FOLLOW | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        return os.open(last, _NO_FOLLOW, dir_fd=current)
    finally:
        os.close(current)


def _mapped(error: OSError) -> AdapterError:
    name = error.filename if isinstance(error.filename, str) else "the folder"
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return retryable(Reason.NOT_FOUND, f"{name} does not exist")
        case PermissionError():
            return retryable(Reason.ACCESS_DENIED, f"{name} may not be read by this user")
        case _:
            return retryable(Reason.SOURCE_UNAVAILABLE, f"{name}: {error.strerror}")
