"""Names by content: the same inputs give the same name, so nothing that is unchanged is built or loaded again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_LENGTH = 16


def tree_files(*roots: Path) -> list[Path]:
    """Every source file below ``roots`` (a root may be a file), sorted; compiled and hidden files are none."""
    found: set[Path] = set()
    for root in roots:
        if root.is_file():
            found.add(root)
            continue
        for path in root.rglob("*"):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
            if path.is_file() and not hidden:
                found.add(path)
    return sorted(found)


def content_key(files: Iterable[Path], *, base: Path, extra: Iterable[str] = ()) -> str:
    """A key over names (relative to ``base``), modes and bytes of ``files`` and over the words ``extra``."""
    digest = hashlib.sha256()
    for word in extra:
        digest.update(f"word {len(word)} {word}\n".encode())
    for path in files:
        body = hashlib.sha256(path.read_bytes()).hexdigest()
        executable = "x" if path.stat().st_mode & 0o111 else "-"
        digest.update(f"file {path.relative_to(base)} {executable} {body}\n".encode())
    return digest.hexdigest()[:_LENGTH]
