"""Finds NaN and infinity in weights at the speed of memory.

One such number turns every answer of a batch into noise, and engines load it without a word. A float is not finite
exactly when all bits of its exponent are set, so the raw bytes are viewed as unsigned integers, masked and compared:
numpy does this without the GIL, and the chunk stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import Reason, refused
from .safetensors_header import Tensor

CHUNK = 1 << 20
"""Bytes per step: fits the second-level cache together with its temporaries."""

# dtype -> (integer view, exponent mask). F8_E4M3 as used by engines has no infinity and its only NaN has all seven bits
# set.
_EXPONENTS: Mapping[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E4M3": (np.uint8, 0x7F),
}
WEIGHT_DTYPES = frozenset(_EXPONENTS)
"""The dtypes an adapter's weights may have."""


def scan_finite(path: Path, tensors: tuple[Tensor, ...], *, stopped: Callable[[], bool] = lambda: False) -> int:
    """Looks at every weight of the file and returns the bytes seen; raises AdapterError(NotFinite | BadTensor |
    Truncated).

    `stopped` is asked between chunks; when it says so the scan ends early (its result is then of no use).
    """
    seen = 0
    buffer = np.empty(CHUNK, dtype=np.uint8)
    scratch = np.empty(CHUNK, dtype=np.uint8)
    with path.open("rb", buffering=0) as file:
        for tensor in tensors:
            if tensor.dtype not in _EXPONENTS:
                raise refused(Reason.BAD_TENSOR, f"{tensor.name[:80]!r} has dtype {tensor.dtype}, weights are floats")
            view, mask = _EXPONENTS[tensor.dtype]
            file.seek(tensor.begin)
            left = tensor.end - tensor.begin
            while left:
                if stopped():
                    return seen
                count = _read_full(file.readinto, buffer.data[: min(left, CHUNK)])
                if count == 0:
                    raise refused(Reason.TRUNCATED, f"{path.name} ended while it was read")
                if _has_full_exponent(buffer[:count].view(view), view(mask), scratch[:count].view(view)):
                    raise refused(Reason.NOT_FINITE, f"{tensor.name[:120]!r} has NaN or infinity among its weights")
                left -= count
                seen += count
    return seen


def _read_full(readinto: Callable[[memoryview], int | None], view: memoryview) -> int:
    """Fills the view (raw files may read less at a time), so that a chunk always ends on a whole element."""
    done = 0
    while done < len(view):
        count = readinto(view[done:])
        if not count:
            return 0
        done += count
    return done


def _has_full_exponent(
    bits: npt.NDArray[np.unsignedinteger], mask: np.unsignedinteger, scratch: npt.NDArray[np.unsignedinteger]
) -> bool:
    np.bitwise_and(bits, mask, out=scratch)
    return bool(scratch.max() == mask)
