"""The digest of an adapter directory, exactly as anyone can check it with coreutils.

    find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum

sha256sum escapes unusual names in its listing, so names outside `[A-Za-z0-9._/-]` have no digest and are refused: the
rule that keeps the listing plain also keeps Windows paths, control characters and look-alikes out of the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import Reason, refused

CHUNK = 1 << 20
"""Bytes hashed per call: hashlib releases the GIL for each, so the event loop waits for at most one hand-over."""

_SAFE = re.compile(r"[A-Za-z0-9._/-]+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|clock\$|com[0-9]|lpt[0-9])(\..*)?")
_MAX_NAME = 255
_MAX_DEPTH = 8


def check_name(name: str) -> str:
    """The name itself, if it is a safe relative path below the adapter's folder.

    Raises AdapterError(UnsafePath) for anything that could escape the folder, that no digest exists for, or that other
    systems reserve.
    """
    if not _SAFE.fullmatch(name):
        raise refused(Reason.UNSAFE_PATH, f"file name {name!r} has characters outside [A-Za-z0-9._/-]")
    parts = name.split("/")
    if len(parts) > _MAX_DEPTH or any(len(part) > _MAX_NAME for part in parts):
        raise refused(Reason.UNSAFE_PATH, f"file name {name[:80]!r} is too deep or too long")
    for part in parts:
        if part in {"", ".", ".."}:
            raise refused(Reason.UNSAFE_PATH, f"file name {name!r} leaves its folder or is not in its plain form")
        if _RESERVED.fullmatch(part) or part.endswith("."):
            raise refused(Reason.UNSAFE_PATH, f"file name {name!r} is reserved on some systems")
    return name


def sha256_of(path: Path) -> str:
    """Hex sha256 of one file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def digest_of_listing(hashes: Mapping[str, str]) -> str:
    """`sha256:<hex>` of an adapter whose files have these names and sha256 hex digests."""
    return f"sha256:{hashlib.sha256(listing_of(hashes)).hexdigest()}"


def listing_of(hashes: Mapping[str, str]) -> bytes:
    """What `sha256sum` prints for these files, in byte order of their names."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode("ascii")


def files_below(root: Path) -> Iterable[str]:
    """Relative names of all regular files below `root`.

    Raises AdapterError for a symlink or anything else that is neither file nor folder: such a tree has no digest.
    """
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_symlink():
                    raise refused(Reason.SYMLINK, f"{name!r} is a symbolic link")
                if entry.is_dir(follow_symlinks=False):
                    stack.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield check_name(name)
                else:
                    raise refused(Reason.FORBIDDEN_FILE, f"{name!r} is neither a file nor a folder")


def digest_of_folder(root: Path) -> str:
    """`sha256:<hex>` of the folder's present bytes; raises AdapterError like files_below."""
    return digest_of_listing({name: sha256_of(root / name) for name in files_below(root)})
