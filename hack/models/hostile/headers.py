"""Adapters whose safetensors header lies, or is too much to read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hack.models.base import BaseModel
from hack.models.hostile.files import WEIGHTS, make_sound
from hack.models.tensors import header_bytes

HUGE_HEADER_BYTES = 32 << 20
"""Of a header that is valid JSON and far more than any adapter needs."""

DEEP_LEVELS = 200_000
"""Of nested lists: more than a recursive parser survives."""

_LENGTH_BYTES = 8

Entries = dict[str, Any]


def make_truncated(directory: Path, base: BaseModel) -> Path:
    """The upload stopped half-way through the weights."""
    path = make_sound(directory, base) / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return directory


def make_empty_weights(directory: Path, base: BaseModel) -> Path:
    """A weights file without a byte."""
    (make_sound(directory, base) / WEIGHTS).write_bytes(b"")
    return directory


def make_rest_behind_data(directory: Path, base: BaseModel) -> Path:
    """Bytes behind the last tensor, where something may hide."""
    path = make_sound(directory, base) / WEIGHTS
    path.write_bytes(path.read_bytes() + b"hidden" * 100)
    return directory


def make_length_beyond_file(directory: Path, base: BaseModel) -> Path:
    """A header length just beyond the end of the file."""
    path = make_sound(directory, base) / WEIGHTS
    return _with_length(directory, base, path.stat().st_size - _LENGTH_BYTES + 1)


def make_length_enormous(directory: Path, base: BaseModel) -> Path:
    """A header length that becomes negative in a signed integer."""
    return _with_length(directory, base, (1 << 64) - 1)


def make_length_zero(directory: Path, base: BaseModel) -> Path:
    """No header at all."""
    return _with_length(directory, base, 0)


def make_header_no_json(directory: Path, base: BaseModel) -> Path:
    """A header of the right length that is no JSON."""
    return _with_header_text(directory, base, lambda text: b"\xff" * len(text))


def make_header_huge(directory: Path, base: BaseModel) -> Path:
    """HUGE_HEADER_BYTES of valid metadata."""

    def lie(entries: Entries) -> None:
        entries["__metadata__"] = {"padding": "x" * HUGE_HEADER_BYTES}

    return _with_entries(directory, base, lie)


def make_header_deep(directory: Path, base: BaseModel) -> Path:
    """Lists in lists, DEEP_LEVELS of them: RecursionError, or worse, in a naive parser."""
    deep = b'{"__metadata__":' + b"[" * DEEP_LEVELS + b"]" * DEEP_LEVELS + b","
    return _with_header_text(directory, base, lambda text: deep + text.lstrip()[1:])


def make_duplicate_keys(directory: Path, base: BaseModel) -> Path:
    """One tensor described twice: two parsers, two opinions."""

    def lie(text: bytes) -> bytes:
        name, entry = next((key, value) for key, value in json.loads(text).items() if key != "__metadata__")
        return b"{" + json.dumps(name).encode() + b":" + json.dumps(entry).encode() + b"," + text.lstrip()[1:]

    return _with_header_text(directory, base, lie)


def make_offsets_beyond_file(directory: Path, base: BaseModel) -> Path:
    """All tensors say they are twice as long, and end behind the end of the file."""

    def lie(entries: Entries) -> None:
        for entry in _tensors(entries):
            entry["shape"] = [2 * entry["shape"][0], *entry["shape"][1:]]
            entry["data_offsets"] = [2 * offset for offset in entry["data_offsets"]]

    return _with_entries(directory, base, lie)


def make_offsets_reversed(directory: Path, base: BaseModel) -> Path:
    """A tensor that ends before it begins."""

    def lie(entries: Entries) -> None:
        _tensors(entries)[0]["data_offsets"].reverse()

    return _with_entries(directory, base, lie)


def make_offsets_negative(directory: Path, base: BaseModel) -> Path:
    """A tensor that begins inside the header."""

    def lie(entries: Entries) -> None:
        first = _tensors(entries)[0]
        first["data_offsets"] = [offset - 64 for offset in first["data_offsets"]]

    return _with_entries(directory, base, lie)


def make_offsets_overlap(directory: Path, base: BaseModel) -> Path:
    """Two tensors of the same size that share their bytes; the bytes of the second belong to nobody."""

    def lie(entries: Entries) -> None:
        first, second = _same_size(entries)
        second["data_offsets"] = list(first["data_offsets"])

    return _with_entries(directory, base, lie)


def make_offsets_gap(directory: Path, base: BaseModel) -> Path:
    """Bytes between two tensors that no tensor owns."""
    path = make_sound(directory, base) / WEIGHTS
    text, data = _split(path.read_bytes())
    entries: Entries = json.loads(text)
    tensors = sorted(_tensors(entries), key=lambda entry: int(entry["data_offsets"][0]))
    start = tensors[1]["data_offsets"][0]
    for entry in tensors[1:]:
        entry["data_offsets"] = [offset + 64 for offset in entry["data_offsets"]]
    path.write_bytes(header_bytes(entries) + data[:start] + bytes(64) + data[start:])
    return directory


def make_shape_lies(directory: Path, base: BaseModel) -> Path:
    """A shape whose product is not the number of bytes."""

    def lie(entries: Entries) -> None:
        _tensors(entries)[0]["shape"][0] += 1

    return _with_entries(directory, base, lie)


def make_shape_overflows(directory: Path, base: BaseModel) -> Path:
    """A shape whose product is right only modulo 2^64."""

    def lie(entries: Entries) -> None:
        first = _tensors(entries)[0]
        first["shape"] = [1 << 32, 1 << 32, *first["shape"]]

    return _with_entries(directory, base, lie)


def _tensors(entries: Entries) -> list[Entries]:
    return [entry for name, entry in entries.items() if name != "__metadata__"]


def _same_size(entries: Entries) -> tuple[Entries, Entries]:
    by_shape: dict[tuple[int, ...], Entries] = {}
    for entry in _tensors(entries):
        other = by_shape.setdefault(tuple(entry["shape"]), entry)
        if other is not entry:
            return other, entry
    raise ValueError("no two tensors have the same shape")


def _split(content: bytes) -> tuple[bytes, bytes]:
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    return content[_LENGTH_BYTES:end], content[end:]


def _with_length(directory: Path, base: BaseModel, length: int) -> Path:
    path = make_sound(directory, base) / WEIGHTS
    path.write_bytes(length.to_bytes(_LENGTH_BYTES, "little") + path.read_bytes()[_LENGTH_BYTES:])
    return directory


def _with_header_text(directory: Path, base: BaseModel, change: Callable[[bytes], bytes]) -> Path:
    path = make_sound(directory, base) / WEIGHTS
    text, data = _split(path.read_bytes())
    changed = change(text)
    path.write_bytes(len(changed).to_bytes(_LENGTH_BYTES, "little") + changed + data)
    return directory


def _with_entries(directory: Path, base: BaseModel, change: Callable[[Entries], None]) -> Path:
    path = make_sound(directory, base) / WEIGHTS
    text, data = _split(path.read_bytes())
    entries: Entries = json.loads(text)
    change(entries)
    path.write_bytes(header_bytes(entries) + data)
    return directory
