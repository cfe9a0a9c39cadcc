"""Seeded tensors and safetensors files, from the standard library alone.

Bytes must be the same on every machine and with every library version, because tests and manifests name their digest:
so the numbers come from SHAKE-256 (frozen by its standard) as 16-bit integers, every product is an exact integer one,
and only the last step makes float32 of them.
"""

import hashlib
import json
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HALF_RANGE = 1 << 15
"""Seeded integers lie in [-HALF_RANGE, HALF_RANGE)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a safetensors file: its type word (F32, BF16, ...), its shape and its little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of_floats(values: Iterable[float], *shape: int) -> "Tensor":
        """A float32 tensor; raises ValueError if the values do not fill the shape."""
        floats = array("f", values)
        expected = 1
        for size in shape:
            expected *= size
        if len(floats) != expected:
            raise ValueError(f"{len(floats)} values do not fill the shape {shape}")
        if sys.byteorder == "big":
            floats.byteswap()
        return Tensor("F32", shape, floats.tobytes())


def seeded_integers(label: str, count: int) -> "array[int]":
    """`count` integers in [-HALF_RANGE, HALF_RANGE), uniform, the same for the same label for ever."""
    integers = array("h", hashlib.shake_256(label.encode()).digest(2 * count))
    if sys.byteorder == "big":
        integers.byteswap()
    return integers


def seeded_signs(label: str, count: int) -> list[int]:
    """`count` values of +1 or -1: a direction that is random and exact."""
    return [1 if value >= 0 else -1 for value in seeded_integers(label, count)]


def uniform(label: str, *shape: int, bound: float) -> list[float]:
    """Seeded values, uniform in [-bound, bound), row after row."""
    count = 1
    for size in shape:
        count *= size
    step = bound / HALF_RANGE
    return [value * step for value in seeded_integers(label, count)]


def header_bytes(entries: Mapping[str, object]) -> bytes:
    """A safetensors header: its length in 8 bytes, then compact JSON padded with spaces to a multiple of 8."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a valid safetensors file, tensors in the order of their names, without gaps."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        end = offset + len(tensor.data)
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    with _replacing(path) as file:
        file.write(header_bytes(entries))
        for name in sorted(tensors):
            file.write(tensors[name].data)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file written by `write_safetensors`; made for our own files, not for hostile ones."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    entries: dict[str, dict[str, Sequence[int]]] = json.loads(raw[8 : 8 + length])
    body = raw[8 + length :]
    return {
        name: Tensor(
            str(entry["dtype"]), tuple(entry["shape"]), body[entry["data_offsets"][0] : entry["data_offsets"][1]]
        )
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def write_json(path: Path, value: object) -> None:
    """Write indented JSON with sorted keys, readable by everyone whatever the umask."""
    with _replacing(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` at the end: making models again never disturbs whoever reads them."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        yield file
    partial.chmod(0o644)
    partial.replace(path)


def make_directory(directory: Path) -> Path:
    """Make a directory that another uid may list and enter."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    return directory
