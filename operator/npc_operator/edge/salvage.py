"""What can still be understood of an object that as a whole cannot be: everything but the fields that are wrong.

An operator that was replaced by an older version, or CRDs that are newer than it, must not mean that voices which serve
are taken for absent and unloaded. So an object that nobody understood before is read without its unreadable fields and
counts as suspended: what its status says goes on, and nothing is begun.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

TRIES = 64
"""Wrong fields that are taken out of one object before it is given up."""


def salvage(model: type[M], data: Mapping[str, Any]) -> M | None:
    """`data` without what `model` refuses, or None if nothing usable is left."""
    rest: Any = copy.deepcopy(dict(data))
    for _ in range(TRIES):
        try:
            return model.model_validate(rest)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            path = fault["loc"][:-1] if fault["type"] == "missing" else fault["loc"]
            if not _take_out(rest, path):
                return None
    return None


def _take_out(data: Any, path: Sequence[int | str]) -> bool:
    """Remove the deepest part of `path` that exists; False where that is the whole."""
    holder: Any = None
    key: int | str = ""
    for part in path:
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not in_list and not (isinstance(data, dict) and part in data):
            break
        holder, key, data = data, part, data[part]
    if holder is None:
        return False
    del holder[key]
    return True
