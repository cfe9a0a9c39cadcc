"""Brings a base model into its folder before the engine starts: `npc-agent fetch-model`, an init container.

Several files at a time, resumed where a killed container left off, each checked against its listed size; safetensors
files against their own header too, which finds what was cut off at the source. `config.json` comes last: with it the
folder is complete, for the engine and for the agent alike. Pods that share the volume take turns by a lock on the
folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from .digest import check_name
from .errors import AdapterError, Reason, refused
from .fetch.download import StoppedError, Transfer, mapped_disk_error
from .fetch.source import Listing, RemoteFile, Source
from .fetch.uri import open_source
from .inspect.safetensors_header import BASE_HEADER_LIMIT, read_header
from .settings import ModelSettings

MARKER = ".npc-model.json"
LOCK = ".npc-model.lock"
LAST = "config.json"
FILE_BOUND = 1 << 44
"""Bytes one file may have: none is larger than 16 TiB, and a listing that says so is nonsense."""
PROGRESS_SECONDS = 1.0
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """What the agent of this pod reads: bytes here, bytes in all, and what went wrong last. Written at most once a
    second.
    """

    path: Path | None
    total: int = 0
    done: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    written_at: float = 0.0

    def note(self, name: str, here: int) -> None:
        """Bytes of one file that are here now."""
        with self.lock:
            self.done[name] = here
            if time.monotonic() - self.written_at < PROGRESS_SECONDS:
                return
            self.written_at = time.monotonic()
        self.write("fetching")

    def write(self, state: str, message: str = "") -> None:
        """Replaces the file in one rename; a reader never sees half of it."""
        if self.path is None:
            return
        with self.lock:
            content = {
                "state": state,
                "doneBytes": sum(self.done.values()),
                "totalBytes": self.total,
                "message": message,
            }
            temporary = self.path.with_suffix(".new")
            temporary.write_text(json.dumps(content))
            temporary.replace(self.path)


def fetch_model(settings: ModelSettings) -> int:
    """Fetches the model; returns 0 when it is complete, 1 when trying again may help, 2 when it cannot."""
    progress = Progress(settings.progress_file)
    begun = time.monotonic()
    try:
        progress.write("fetching")
        settings.model_dir.mkdir(parents=True, exist_ok=True)
        source = open_source(
            settings.uri, credentials=_credentials(settings.credentials_dir), file_roots=settings.file_roots
        )
        with contextlib.closing(source), _locked(settings.model_dir):
            received = bring_model(
                source, settings.uri, settings.model_dir, parallel=settings.parallel, progress=progress
            )
    except AdapterError as error:
        progress.write("failed", f"{error.reason}: {error.message}")
        log.error("the model cannot be fetched", extra={"reason": error.reason, "detail": error.message})
        return 2 if error.permanent else 1
    except OSError as error:
        progress.write("failed", f"{Reason.DISK_ERROR}: {error.strerror}")
        log.error("the model cannot be written", extra={"detail": str(error)})
        return 1
    progress.write("done")
    log.info("model is complete", extra={"received_bytes": received, "seconds": round(time.monotonic() - begun, 3)})
    return 0


def bring_model(source: Source, uri: str, folder: Path, *, parallel: int, progress: Progress) -> int:
    """Makes the folder the source's present listing and returns the bytes that travelled; raises AdapterError or
    OSError.
    """
    listing = source.listing()
    _check(listing)
    progress.total = sum(file.size or 0 for file in listing.files)
    wanted = {file.name: f"{file.size}:{file.version}" for file in listing.files}
    if _complete(folder, uri, wanted):
        progress.done = {file.name: file.size or 0 for file in listing.files}
        return 0
    _forget_changed(folder, uri, wanted)
    first = [file for file in listing.files if file.name != LAST]
    last = [file for file in listing.files if file.name == LAST]
    received = _fetch_all(source, first, folder, parallel, progress) + _fetch_all(source, last, folder, 1, progress)
    _write_marker(folder, uri, wanted, complete=True)
    return received


def _check(listing: Listing) -> None:
    for file in listing.files:
        check_name(file.name)
        if (file.size or 0) > FILE_BOUND:
            raise refused(Reason.TOO_LARGE, f"{file.name} claims {file.size} bytes")
    if all(file.name != LAST for file in listing.files):
        raise refused(Reason.MISSING_FILE, f"the model has no {LAST}")


def _fetch_all(source: Source, files: list[RemoteFile], folder: Path, parallel: int, progress: Progress) -> int:
    stop = threading.Event()
    with ThreadPoolExecutor(parallel, thread_name_prefix="model") as pool:
        futures = [pool.submit(_fetch, source, file, folder, progress, stop) for file in files]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((error for future in finished if (error := future.exception()) is not None), None)
        if failed is not None:
            stop.set()
            raise failed
        return sum(future.result() for future in futures)


def _fetch(source: Source, file: RemoteFile, folder: Path, progress: Progress, stop: threading.Event) -> int:
    if stop.is_set():
        raise StoppedError
    target = folder / file.name
    transfer = Transfer(source, file, target, stopped=stop.is_set)
    try:
        transfer.run(limit=FILE_BOUND, progress=lambda here: progress.note(file.name, here))
    except OSError as error:
        raise mapped_disk_error(error) from None
    if target.suffix == ".safetensors":
        read_header(target, limit=BASE_HEADER_LIMIT)
    return transfer.received


def _complete(folder: Path, uri: str, wanted: Mapping[str, str]) -> bool:
    marker = _read_marker(folder)
    if marker != {"uri": uri, "files": dict(wanted), "complete": True}:
        return False
    return all(_size(folder / name) == int(version.partition(":")[0]) for name, version in wanted.items())


def _forget_changed(folder: Path, uri: str, wanted: Mapping[str, str]) -> None:
    """Removes files of another model or version, and config.json first: without it the folder is not complete."""
    (folder / LAST).unlink(missing_ok=True)
    marker = _read_marker(folder)
    known = marker.get("files") if marker.get("uri") == uri else {}
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name != LOCK and (
            not isinstance(known, dict) or wanted.get(name) is None or known.get(name) != wanted[name]
        ):
            path.unlink()
    _write_marker(folder, uri, wanted, complete=False)


def _read_marker(folder: Path) -> dict[str, object]:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _write_marker(folder: Path, uri: str, wanted: Mapping[str, str], *, complete: bool) -> None:
    temporary = folder / f"{MARKER}.new"
    temporary.write_text(json.dumps({"uri": uri, "files": dict(wanted), "complete": complete}))
    temporary.replace(folder / MARKER)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _credentials(folder: Path | None) -> Mapping[str, str]:
    if folder is None:
        return {}
    return {name: (folder / name).read_text().strip() for name in _CREDENTIALS if (folder / name).is_file()}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One fetcher per folder; a volume without locks (some network file systems) is used without."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            log.warning(
                "this volume has no locks; pods that share it may fetch the model twice", extra={"detail": str(error)}
            )
        yield
    finally:
        os.close(descriptor)
