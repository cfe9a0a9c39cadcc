"""Makes parsed objects small: what thousands of them have in common is kept once.

pydantic notes for every instance which fields were given, as a set of its own (up to a kilobyte); there are only a
few different ones. And most texts of a specification or a status (tiers, reasons, URIs) are the same in many objects.
Whole values can be the same, too: what ten pods say of one adapter. Nothing that can be observed changes, as models and
facts are frozen.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")

_LONGEST_SHARED = 128
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""glibc's <malloc.h>."""
_LARGE_BYTES = 128 << 10
"""glibc's own first value of that threshold."""
_ARENAS = 2
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


class Pool(Generic[V]):
    """Equal values, kept once for all who have them. Only the last value under each key is offered again, and nothing
    is kept alive by being here.
    """

    def __init__(self, key: Callable[[V], Hashable]) -> None:
        self._key = key
        self._last: WeakValueDictionary[Hashable, V] = WeakValueDictionary()

    def shared(self, value: V) -> V:
        """An equal value that somebody has already, else this one."""
        key = self._key(value)
        known = self._last.get(key)
        if known is not None and known == value:
            return known
        self._last[key] = value
        return value

    def __len__(self) -> int:
        return len(self._last)


def give_large_blocks_back() -> bool:
    """Have the C library return what large messages took as soon as they are gone; False where it cannot be told so.

    Left alone, glibc takes the first freed message of 300 kB as a sign to keep such blocks in its heap, which lasting
    small objects then hold open: with 1,000 adapters on 10 pods, 5 MB that nobody uses.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_M_ARENA_MAX, _ARENAS))
