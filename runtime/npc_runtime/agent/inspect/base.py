"""What the base model has: its modules and the shapes of their weights, read from its own config and safetensors
headers.

An engine happily loads an adapter made for another model of the same family and answers nonsense. The adapter's claim
about its base is only a name, so the comparison is made with the bytes that the engine itself serves from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import AdapterError, Reason, refused
from .safetensors_header import BASE_HEADER_LIMIT, BadJson, Tensor, load_json, read_header

_CONFIG_LIMIT = 4 << 20
_PLAIN_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8"})
"""Dtypes whose weight matrix has the module's own shape; packed quantisation (4 bit in U8 or I32) has not."""

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Modules of one base model; `name` is what it calls itself, empty when it does not say.

    `shapes` has (out, in) for every module with a plain weight matrix, None for one whose weight is packed. `folders`
    are names that only have modules below them (an expert group, a layer). `fingerprint` changes with anything the
    comparison looks at.
    """

    name: str
    shapes: Mapping[str, Shape | None]
    folders: frozenset[str]
    fingerprint: str

    def find(self, module: str) -> tuple[bool, Shape | None]:
        """Whether the module is there, and its (out, in) where that can be known.

        Checkpoints of multimodal models prefix the same language model in several ways, so a name also matches by what
        follows the last `layers.`.
        """
        for name in _spellings(module):
            if name in self.shapes:
                return True, self.shapes[name]
            if name in self.folders:
                return True, None
        return False, None


def read_base(folder: Path, *, name: str = "") -> BaseModel:
    """The base model in a folder; raises AdapterError when it has no config.json or no safetensors header that can be
    read.
    """
    config = folder / "config.json"
    try:
        if config.stat().st_size > _CONFIG_LIMIT:
            raise refused(Reason.BAD_CONFIG, f"the base model's config.json is larger than {_CONFIG_LIMIT} bytes")
        named = load_json(config.read_bytes()).get("_name_or_path", "")
        files = sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")
        if not files:
            raise refused(Reason.MISSING_FILE, "the base model has no safetensors files to compare with")
        tensors = [tensor for path in files for tensor in read_header(path, limit=BASE_HEADER_LIMIT).tensors]
    except BadJson as bad:
        raise refused(Reason.BAD_CONFIG, f"the base model's config.json: {bad}") from None
    except OSError as error:
        raise AdapterError(
            Reason.MISSING_FILE, f"the base model cannot be read: {error.strerror}", permanent=False
        ) from None
    return _base_of(name or (named if isinstance(named, str) else ""), tensors)


def _base_of(name: str, tensors: Iterable[Tensor]) -> BaseModel:
    shapes: dict[str, Shape | None] = {}
    folders: set[str] = set()
    fingerprint = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda item: item.name):
        fingerprint.update(f"{tensor.name} {tensor.dtype} {tensor.shape}\n".encode())
        module, _, leaf = tensor.name.rpartition(".")
        # A module with a packed weight is told by any of its leaves (qweight, weight_packed, weight_scale); a plain
        # weight overrides.
        plain = leaf == "weight" and len(tensor.shape) == 2 and tensor.dtype in _PLAIN_DTYPES
        for spelling in {module, _tail(module)}:
            if plain:
                shapes[spelling] = (tensor.shape[0], tensor.shape[1])
            else:
                shapes.setdefault(spelling, None)
        folders.update(_parents(tensor.name))
    if "lm_head" not in shapes and "embed_tokens" in shapes:  # tied weights are stored once
        shapes["lm_head"] = shapes["embed_tokens"]
    return BaseModel(
        name=name, shapes=shapes, folders=frozenset(folders - set(shapes)), fingerprint=fingerprint.hexdigest()
    )


def _spellings(module: str) -> tuple[str, ...]:
    return (module, _tail(module))


def _tail(module: str) -> str:
    """`layers.3.self_attn.q_proj` for any prefix before the last `layers.`, else the last component."""
    position = module.rfind("layers.")
    return module[position:] if position >= 0 else module.rpartition(".")[2]


def _parents(name: str) -> Iterable[str]:
    """All folders above a tensor, also spelled from their `layers.`: fused experts are named by the folder."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        parent = ".".join(parts[:count])
        yield parent
        yield _tail(parent)
