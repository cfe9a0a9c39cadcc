"""The digest of an adapter directory, as anyone can check it with coreutils.

find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum
"""

import hashlib
import re
from pathlib import Path

SAFE_NAME = re.compile(r"[A-Za-z0-9._/-]+")
"""Names outside this set are refused: sha256sum escapes them, and the listing would no longer be the plain one."""

_CHUNK = 1 << 20


def digest_of(directory: Path) -> str:
    """The digest (64 lower-case hex) of every regular file under `directory`; raises ValueError for names that have
    none.
    """
    names = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    for name in names:
        if not SAFE_NAME.fullmatch(name):
            raise ValueError(f"file name {name!r} has characters outside [A-Za-z0-9._/-]")
    listing = "".join(f"{_sha256_of(directory / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def served_name(archetype: str, digest: str) -> str:
    """What an engine is told to call this adapter: the archetype and the first 12 hex of its digest."""
    return f"{archetype}--{digest[:12]}"


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
