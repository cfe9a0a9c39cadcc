"""The one place where knowledge of the world is kept: frozen facts by (type, namespace, name), each with its version
and its age.

Watches, lists and long polls write; reconcilers only read. A fact carries no clock of its own, so the same facts
always give the same decision; when a fact was last confirmed is kept here, beside it. Writers race (a LIST page may
be older than a watch event that overtook it), so whoever knows a version hands it in and older words never replace
newer ones, deletions included.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast

F = TypeVar("F")

_NOTHING: Mapping[str, Any] = MappingProxyType({})

TOMBSTONE_SECONDS = 900.0
"""How long a deletion's version is remembered: longer than any LIST can take, short enough not to grow."""


@dataclass(frozen=True, slots=True)
class Change:
    """One fact came (`old` is None), went (`new` is None) or changed. `kind` is the fact's type."""

    kind: type[Any]
    namespace: str
    name: str
    old: Any
    new: Any


class Ticks(Protocol):
    """Where ages come from: seconds that never go back."""

    def monotonic(self) -> float: ...


_Index = dict[tuple[str, Hashable], dict[str, None]]
"""Names, in the order they came, by (namespace, value of an attribute)."""


class Store:
    """Facts by type, namespace and name. Not thread-safe: it lives on the event loop."""

    def __init__(self, clock: Ticks) -> None:
        self._clock = clock
        self._facts: dict[type[Any], dict[str, dict[str, Any]]] = {}
        self._meta: dict[tuple[type[Any], str, str], list[float]] = {}
        self._tombstones: dict[tuple[type[Any], str, str], tuple[int, float]] = {}
        self._synced: set[type[Any]] = set()
        self._subscribers: list[Callable[[Change], None]] = []
        self._indices: dict[type[Any], dict[Callable[[Any], Hashable], _Index]] = {}

    # --- reading ---

    def get(self, kind: type[F], namespace: str, name: str) -> F | None:
        """The fact, or None: not known (which is not the same as absent, unless `synced(kind)`)."""
        return cast("F | None", self._facts.get(kind, {}).get(namespace, {}).get(name))

    def list(self, kind: type[F], namespace: str) -> Mapping[str, F]:
        """All facts of one namespace by name: a live read-only view, so take what you need before the next await."""
        found = self._facts.get(kind, {}).get(namespace)
        return MappingProxyType(found) if found is not None else _NOTHING

    def having(
        self, kind: type[F], namespace: str, attribute: Callable[[F], Hashable], value: Hashable
    ) -> tuple[str, ...]:
        """Names of the facts of one namespace of which `attribute` is `value`, without looking at the others.

        `attribute` is a pure module-level function: each one asked for is an index that is kept from then on.
        """
        indices = self._indices.setdefault(kind, {})
        index = indices.get(attribute)
        if index is None:
            index = indices[attribute] = {}
            for space, name, fact in self.items(kind):
                index.setdefault((space, attribute(fact)), {})[name] = None
        return tuple(index.get((namespace, value), ()))

    def all(self, kind: type[F]) -> Iterator[F]:
        """Every fact of a type, over all namespaces, in no particular order; safe against changes while iterating."""
        for namespace in list(self._facts.get(kind, {}).values()):
            yield from list(namespace.values())

    def items(self, kind: type[F]) -> Iterator[tuple[str, str, F]]:
        """(namespace, name, fact) of a type; safe against changes while iterating."""
        for namespace, facts in list(self._facts.get(kind, {}).items()):
            for name, fact in list(facts.items()):
                yield namespace, name, fact

    def kinds(self) -> tuple[type[Any], ...]:
        """The fact types of which at least one was ever seen."""
        return tuple(self._facts)

    def namespaces(self, kind: type[Any]) -> Iterator[str]:
        """Namespaces that hold at least one fact of a type."""
        yield from list(self._facts.get(kind, {}))

    def count(self, kind: type[Any]) -> int:
        return sum(len(facts) for facts in self._facts.get(kind, {}).values())

    def synced(self, kind: type[Any]) -> bool:
        """Whether a whole LIST was merged since the start: only then does a missing fact mean an absent object."""
        return kind in self._synced

    def age(self, kind: type[Any], namespace: str, name: str) -> float | None:
        """Seconds since the fact was last confirmed by a watch event, a list or a report; None if there is no such
        fact."""
        meta = self._meta.get((kind, namespace, name))
        return None if meta is None else self._clock.monotonic() - meta[1]

    def version(self, kind: type[Any], namespace: str, name: str) -> int | None:
        """The version the fact was put with; None if there is no such fact."""
        meta = self._meta.get((kind, namespace, name))
        return None if meta is None else int(meta[0])

    # --- writing ---

    def put(self, kind: type[F], namespace: str, name: str, fact: F, *, version: int = 0) -> bool:
        """Learn a fact; True if it was news. With a version (0 = none is known) an older word than the present one is
        ignored."""
        key = (kind, namespace, name)
        meta = self._meta.get(key)
        if version:
            if meta is not None and version < meta[0]:
                return False
            tombstone = self._tombstones.get(key)
            if tombstone is not None and version <= tombstone[0]:
                return False
        now = self._clock.monotonic()
        facts = self._facts.setdefault(kind, {}).setdefault(namespace, {})
        old = facts.get(name)
        if meta is None:
            self._meta[key] = [version, now]
        else:
            meta[0], meta[1] = version or meta[0], now
        if old is not None and old == fact:
            return False
        facts[name] = fact
        self._file(kind, namespace, name, old, fact)
        self._tell(Change(kind, namespace, name, old, fact))
        return True

    def confirm(self, kind: type[Any], namespace: str, name: str) -> None:
        """The fact was seen again, unchanged: only its age starts anew."""
        meta = self._meta.get((kind, namespace, name))
        if meta is not None:
            meta[1] = self._clock.monotonic()

    def drop(self, kind: type[Any], namespace: str, name: str, *, version: int = 0) -> bool:
        """The object is gone; True if that was news. With a version, a fact that is newer than the deletion stays."""
        key = (kind, namespace, name)
        if version:
            meta = self._meta.get(key)
            if meta is not None and meta[0] > version:
                return False
            known = self._tombstones.get(key)
            self._tombstones[key] = (max(version, known[0] if known else 0), self._clock.monotonic())
        spaces = self._facts.get(kind, {})
        old = spaces.get(namespace, {}).pop(name, None)
        if old is None:
            return False
        del self._meta[key]
        if not spaces[namespace]:
            del spaces[namespace]
        self._file(kind, namespace, name, old, None)
        self._tell(Change(kind, namespace, name, old, None))
        return True

    def mark_synced(self, kind: type[Any]) -> None:
        """A whole LIST of this type was merged."""
        self._synced.add(kind)

    def mark_unsynced(self) -> None:
        """Forget that lists were merged: what is missing is unknown again (a new leadership begins with looking)."""
        self._synced.clear()

    def forget_tombstones(self) -> None:
        """Drop remembered deletions older than TOMBSTONE_SECONDS; called now and then so that they do not pile up."""
        horizon = self._clock.monotonic() - TOMBSTONE_SECONDS
        for key in [key for key, (_, when) in self._tombstones.items() if when < horizon]:
            del self._tombstones[key]

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of every change after it happened, in order, synchronously; returns the way to unsubscribe."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def _file(self, kind: type[Any], namespace: str, name: str, old: Any, new: Any) -> None:
        """Keep the indices of a type in step with one fact."""
        for attribute, index in self._indices.get(kind, {}).items():
            before = None if old is None else (namespace, attribute(old))
            after = None if new is None else (namespace, attribute(new))
            if before == after:
                continue
            if before is not None:
                index[before].pop(name)
                if not index[before]:
                    del index[before]
            if after is not None:
                index.setdefault(after, {})[name] = None

    def _tell(self, change: Change) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber(change)
