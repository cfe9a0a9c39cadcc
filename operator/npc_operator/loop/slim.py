"""Makes parsed objects small: what thousands of them have in common is kept once.

pydantic notes for every instance which fields were given, as a set of its own (up to a kilobyte); there are only a
few different ones. And most texts of a specification or a status (tiers, reasons, URIs) are the same in many objects.
Nothing that can be observed changes, as models are frozen.
"""

from __future__ import annotations

import sys
from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_LONGEST_SHARED = 128
_SETS: dict[frozenset[str], set[str]] = {}


def share(model: M) -> M:
    """The same model, its note sets and short texts shared with all others, nested ones included."""
    _share(model)
    return model


def _share(model: BaseModel) -> None:
    given = model.__pydantic_fields_set__
    object.__setattr__(model, "__pydantic_fields_set__", _SETS.setdefault(frozenset(given), given))
    fields = model.__dict__
    for name, value in fields.items():
        if type(value) is str:
            if len(value) <= _LONGEST_SHARED:
                fields[name] = sys.intern(value)
        elif isinstance(value, BaseModel):
            _share(value)
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, BaseModel):
                    _share(item)
