"""Which files an adapter may consist of: its config, its weights, and harmless text.

Everything else is refused by name before a byte of it is fetched, and text is looked at once it is here: a pickle
called README.md is still a pickle.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..digest import CHUNK, check_name
from ..errors import Reason, refused
from .config import CONFIG_NAME

WEIGHTS_NAME = "adapter_model.safetensors"
TEXT_LIMIT = 64 << 20
"""Bytes of one text file; the largest real one is a tokenizer of some 20 MB."""
FILE_LIMIT = 64
"""Files in one adapter."""

_TEXT_SUFFIXES = frozenset({".md", ".txt", ".json", ".jsonl", ".jinja", ".yaml", ".yml", ".csv"})
_TEXT_NAMES = frozenset({"README", "LICENSE", "NOTICE", "CHANGELOG", "SHA256SUMS", ".gitattributes", ".gitignore"})


def check_names(names: Collection[str]) -> None:
    """Raises AdapterError(UnsafePath | TooManyFiles | ForbiddenFile | MissingFile) unless these can be an adapter."""
    if len(names) > FILE_LIMIT:
        raise refused(Reason.TOO_MANY_FILES, f"{len(names)} files, an adapter has at most {FILE_LIMIT}")
    for name in names:
        check_name(name)
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            raise refused(Reason.UNSAFE_PATH, f"{name!r} and {other!r} are one name on some systems")
        if name not in {CONFIG_NAME, WEIGHTS_NAME} and not _is_text_name(name):
            raise refused(Reason.FORBIDDEN_FILE, f"{name!r} is neither config, weights nor plain text")
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if name not in names:
            raise refused(Reason.MISSING_FILE, f"{name} is missing")


def check_size(name: str, size: int) -> None:
    """Raises AdapterError(TooLarge) for a text file beyond TEXT_LIMIT; weights are bounded by the whole adapter."""
    if name != WEIGHTS_NAME and size > TEXT_LIMIT:
        raise refused(Reason.TOO_LARGE, f"{name!r} has {size} bytes, text has at most {TEXT_LIMIT}")


def check_text(path: Path, name: str) -> None:
    """Raises AdapterError(ForbiddenFile) when the file's bytes are not text (UTF-8 without control bytes of binary
    formats).
    """
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if b"\0" in chunk:
                raise refused(Reason.FORBIDDEN_FILE, f"{name!r} is called text and is binary")
            rest = _undecoded(rest + chunk, name)
    if rest:
        raise refused(Reason.FORBIDDEN_FILE, f"{name!r} is not UTF-8 text")


def _undecoded(data: bytes, name: str) -> bytes:
    """The bytes of a character cut in two at the end of a chunk; raises when there is more wrong than that."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end == len(data) and len(data) - error.start < 4 and error.reason == "unexpected end of data":
            return data[error.start :]
        raise refused(Reason.FORBIDDEN_FILE, f"{name!r} is not UTF-8 text") from None
    return b""


def _is_text_name(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in _TEXT_SUFFIXES or path.name in _TEXT_NAMES
