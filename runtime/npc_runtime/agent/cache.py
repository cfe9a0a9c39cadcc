"""The content-addressed folders of adapters on this pod's disk.

    <root>/sha256-<hex>/         an inspected adapter, complete, never changed: what engines are told to load
    <root>/.staging/<hex>/       one on its way here
    <root>/.meta/<hex>.json      what was found out about it when it was inspected

A folder appears by an atomic rename, so it is either whole or absent. What was verified is remembered with each file's
size, inode and times: after a restart of the agent an untouched folder is taken as it is, any other is hashed again.
All functions here block and belong in a worker thread, except the pure ones.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path

from .digest import digest_of_folder, files_below
from .errors import AdapterError

_PREFIX = "sha256-"
_META_VERSION = 1
_SIZE = attrgetter("size")


@dataclass(frozen=True, slots=True)
class Folder:
    """One verified adapter on disk. `context` is what it was inspected against; another one means: inspect again."""

    digest: str
    archetype: str
    size: int
    max_rank: int
    context: str
    last_used: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Eviction:
    """What must go to make room, and whether that is enough."""

    digests: tuple[str, ...]
    enough: bool


class Bytes(StrEnum):
    """What lies in the folder of a digest now."""

    AS_WANTED = "AsWanted"
    GONE = "Gone"  # the folder or some of its files, as a cleaner of disks leaves it
    OTHERS = "Others"


def choose_evictions(
    folders: Collection[Folder], *, needed: int, limit: int, pinned: Collection[str], previous: Collection[str]
) -> Eviction:
    """The least recently used folders whose removal leaves `needed` bytes below `limit`.

    `pinned` (desired, or listed in the engine: it may read them again at any time) are never chosen; `previous` (the
    last stable of each archetype: the way back) only when nothing else is left.
    """
    free = limit - sum(folder.size for folder in folders)
    chosen: list[str] = []
    candidates = [folder for folder in folders if folder.digest not in pinned]
    for folder in sorted(candidates, key=lambda folder: (folder.digest in previous, folder.last_used)):
        if free >= needed:
            break
        chosen.append(folder.digest)
        free += folder.size
    return Eviction(tuple(chosen), enough=free >= needed)


def previous_of(folders: Iterable[Folder], *, pinned: Collection[str]) -> frozenset[str]:
    """For each archetype the most recently used folder that is not pinned: what it would go back to."""
    latest: dict[str, Folder] = {}
    for folder in folders:
        if folder.digest in pinned:
            continue
        known = latest.get(folder.archetype)
        if known is None or folder.last_used > known.last_used:
            latest[folder.archetype] = folder
    return frozenset(folder.digest for folder in latest.values())


class Cache:
    """The folders below one root. Not thread-safe by itself: the keeper runs one act per digest at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.owned = f"{self.root}/{_PREFIX}"
        """Beginning of every path an engine is given."""
        self._meta = self.root / ".meta"
        self._staging = self.root / ".staging"

    def prepare(self) -> None:
        """Makes the root's own folders; raises OSError when the volume cannot be written."""
        for folder in (self.root, self._meta, self._staging):
            folder.mkdir(parents=True, exist_ok=True)
        for trash in self.root.glob(".trash-*"):
            shutil.rmtree(trash, ignore_errors=True)

    def path(self, digest: str) -> Path:
        """The absolute path an engine is given for this digest."""
        return self.root / f"{_PREFIX}{_hex(digest)}"

    def location(self, digest: str) -> str:
        """The same as text; asked for every adapter at every decision, so no Path is built for it."""
        return f"{self.owned}{_hex(digest)}"

    def staging(self, digest: str) -> Path:
        """Where this digest is put together."""
        return self._staging / _hex(digest)

    def commit(self, staged: Path, folder: Folder) -> None:
        """Makes a staged, inspected folder the digest's own, in one rename."""
        target = self.path(folder.digest)
        _make_readable(staged)
        if target.exists():  # a broken one, found at start
            self._trash(target)
        staged.rename(target)
        shutil.rmtree(self.staging(folder.digest), ignore_errors=True)
        self.remember(folder)

    def remember(self, folder: Folder) -> None:
        """Writes down what is known of a folder as it lies there now."""
        record = {"version": _META_VERSION, "folder": asdict(folder), "files": _stamps(self.path(folder.digest))}
        path = self._meta / f"{_hex(folder.digest)}.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(record))
        temporary.replace(path)

    def remove(self, digest: str) -> None:
        """Forgets a digest: its folder, its staging and its record."""
        (self._meta / f"{_hex(digest)}.json").unlink(missing_ok=True)
        self._trash(self.path(digest))
        shutil.rmtree(self.staging(digest), ignore_errors=True)

    def remove_staging(self, *, keep: Collection[str]) -> None:
        """Drops half-fetched digests nobody wants any more."""
        wanted = {_hex(digest) for digest in keep}
        for folder in self._staging.iterdir():
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> tuple[Folder, ...]:
        """All folders that are what their name says: by their record if untouched since, else by hashing them again;
        others are removed.
        """
        found: list[Folder] = []
        for path in sorted(self.root.glob(f"{_PREFIX}*")):
            digest = f"sha256:{path.name.removeprefix(_PREFIX)}"
            folder = self._verified(digest)
            if folder is None:
                self.remove(digest)
            else:
                found.append(folder)
        return tuple(found)

    def bytes_of(self, digest: str) -> Bytes:
        """Reads every byte of a digest's folder; raises OSError when the disk fails."""
        folder = self.path(digest)
        try:
            recorded = set(json.loads((self._meta / f"{_hex(digest)}.json").read_text())["files"])
        except (OSError, ValueError, KeyError, TypeError):
            recorded = set()
        try:
            present = set(files_below(folder))
            if present < recorded:
                return Bytes.GONE
            return Bytes.AS_WANTED if digest_of_folder(folder) == digest else Bytes.OTHERS
        except FileNotFoundError:
            return Bytes.GONE
        except AdapterError:  # a link, or a name that no adapter has
            return Bytes.OTHERS

    def _verified(self, digest: str) -> Folder | None:
        try:
            record = json.loads((self._meta / f"{_hex(digest)}.json").read_text())
            folder = Folder(**record["folder"])
            if record["version"] != _META_VERSION or folder.digest != digest:
                return None
            if record["files"] == _stamps(self.path(digest)):
                return folder
            if digest_of_folder(self.path(digest)) != digest:
                return None
        except (OSError, ValueError, KeyError, TypeError, AdapterError):
            return None  # no usable record: its bytes were never inspected here, or are not what they were
        self.remember(folder)
        return folder

    def _trash(self, path: Path) -> None:
        if not path.exists():
            return
        # Renamed first: no engine may find half a folder under a digest's name.
        trash = self.root / f".trash-{path.name}"
        shutil.rmtree(trash, ignore_errors=True)
        path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def size_of(folders: Iterable[Folder]) -> int:
    """Bytes of all folders together."""
    return sum(map(_SIZE, folders))


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _make_readable(folder: Path) -> None:
    for current, _, files in os.walk(folder):
        Path(current).chmod(0o755)
        for name in files:
            (Path(current) / name).chmod(0o644)


def _stamps(folder: Path) -> Mapping[str, Sequence[int]]:
    stamps: dict[str, Sequence[int]] = {}
    for name in files_below(folder):
        status = (folder / name).lstat()
        stamps[name] = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    return stamps
