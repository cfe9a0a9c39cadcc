"""Reads the header of a safetensors file without trusting a byte of it.

Engines map the file and believe its header, so a lying length or offset becomes somebody else's memory or a crash with
a useless message. Every number is checked against the file's real size: tensors must tile the data exactly, without
gap, overlap or rest.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterError, Reason, refused

ADAPTER_HEADER_LIMIT = 8 << 20
"""Bytes. A rank-16 adapter of every linear layer of a 120-expert model needs about 6 MB; parsing 8 MB takes some 0.1 s.
"""
BASE_HEADER_LIMIT = 64 << 20
TENSOR_LIMIT = 100_000
_DIMENSIONS = 8

ITEM_SIZES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes per element, by the dtype names of the format's specification."""

# A legitimate array is a shape or a pair of offsets. Looked for before parsing: a parser that meets megabytes of
# numbers holds the GIL for all of them.
_LONG_ARRAY = re.compile(rb"\[[^\]]{513}|\[[^\]]{0,512}\[")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header; `begin` and `end` are offsets into the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors of one file, in the order of their bytes."""

    tensors: tuple[Tensor, ...]


class BadJson(Exception):
    """What is wrong, before it is known in which file."""


def read_header(path: Path, *, limit: int = ADAPTER_HEADER_LIMIT) -> Header:
    """The checked header of one file.

    Raises AdapterError: Truncated when the file is shorter than it says, BadHeader when its header is not what the
    format allows, BadTensor when an entry lies about its bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < 8:
            raise refused(Reason.TRUNCATED, f"{path.name} has {size} bytes, a safetensors file has at least 8")
        length = int.from_bytes(file.read(8), "little")
        if length > limit:
            raise refused(Reason.BAD_HEADER, f"{path.name} claims a header of {length} bytes, more than {limit}")
        if 8 + length > size:
            raise refused(Reason.TRUNCATED, f"{path.name} claims a header of {length} bytes and has {size} in all")
        raw = file.read(length)
    try:
        return _parse(raw, data_start=8 + length, size=size)
    except BadJson as bad:
        raise refused(Reason.BAD_HEADER, f"{path.name}: {bad}") from None
    except AdapterError as error:
        raise AdapterError(error.reason, f"{path.name}: {error.message}", permanent=True) from None


def _parse(raw: bytes, *, data_start: int, size: int) -> Header:
    if not raw.startswith(b"{"):
        raise BadJson("the header does not begin with an object")
    if _LONG_ARRAY.search(raw):
        raise BadJson("the header has an array that is neither a shape nor a pair of offsets")
    parsed = load_json(raw)
    metadata = parsed.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadJson("__metadata__ is not a map of strings")
    if len(parsed) > TENSOR_LIMIT:
        raise BadJson(f"{len(parsed)} tensors, more than {TENSOR_LIMIT}")
    tensors = sorted(
        (_tensor(name, entry, data_start) for name, entry in parsed.items()), key=lambda t: (t.begin, t.end)
    )
    _check_tiling(tensors, data_start, size)
    return Header(tensors=tuple(tensors))


def load_json(raw: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN or bottomless nesting; raises BadJson otherwise."""
    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except UnicodeDecodeError:
        raise BadJson("it is not UTF-8") from None
    except RecursionError:
        raise BadJson("it is nested too deeply") from None
    except ValueError as error:  # a JSONDecodeError quotes no content, only a position
        raise BadJson(f"it is not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise BadJson("it is not an object")
    return parsed


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"it has the key {twice[:80]!r} twice")
    return result


def _no_constants(constant: str) -> Any:
    raise BadJson(f"it has the number {constant}")


def _tensor(name: str, entry: object, data_start: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadJson(f"the entry {name[:80]!r} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    item = ITEM_SIZES.get(dtype) if isinstance(dtype, str) else None
    if item is None:
        raise BadJson(f"the tensor {name[:80]!r} has an unknown dtype")
    if not _whole_numbers(shape) or len(shape) > _DIMENSIONS:
        raise BadJson(f"the tensor {name[:80]!r} has no usable shape")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadJson(f"the tensor {name[:80]!r} has no usable data_offsets")
    begin, end = offsets
    if math.prod(shape) * item != end - begin:
        raise refused(Reason.BAD_TENSOR, f"{name[:80]!r} of shape {shape} and {dtype} claims {end - begin} bytes")
    return Tensor(name=name, dtype=dtype, shape=tuple(shape), begin=data_start + begin, end=data_start + end)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_tiling(tensors: list[Tensor], data_start: int, size: int) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.end > size:
            raise refused(Reason.TRUNCATED, f"{tensor.name[:80]!r} ends at byte {tensor.end} and the file has {size}")
        if tensor.begin != position:
            what = "overlaps the one before" if tensor.begin < position else "leaves a gap before it"
            raise refused(Reason.BAD_TENSOR, f"{tensor.name[:80]!r} {what}")
        position = tensor.end
    if position != size:
        raise refused(Reason.BAD_TENSOR, f"{size - position} bytes behind the last tensor belong to none")
