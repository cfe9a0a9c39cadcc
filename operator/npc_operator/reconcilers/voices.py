"""Every archetype that a region speaks with, with its persona: what gateways need of a voice beside its adapters.

An archetype is here as soon as its adapter is selected, whether any digest of it is proven or not. With a thousand of
them the routes are asked for again after every change in the fleet, so each voice is built once and kept until its
adapter's spec changes.
"""

from __future__ import annotations

from npc_operator.domain.facts import Adapter, Region
from npc_operator.domain.region import pick_holder, selects
from npc_operator.domain.routes import build_voice
from npc_operator.loop.slim import share
from npc_operator.loop.store import Change, Store
from npc_runtime.wire import Voice


class Voices:
    """The voices of one namespace. Reads the store; is told of changes and catches up when asked."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._known: dict[str, tuple[Adapter, Voice]] = {}
        self._dirty: set[str] = set(store.list(Adapter, namespace))
        self._selector: object = None
        self._picked: tuple[Voice, ...] | None = None

    def note(self, change: Change) -> None:
        """An adapter changed; only remembers which."""
        old, new = change.old, change.new
        if change.kind is not Adapter or (old is not None and new is not None and _shape(old) == _shape(new)):
            return
        self._dirty.add(change.name)

    def of(self, region: Region) -> tuple[Voice, ...]:
        """The voices of a region by archetype; the same object while nothing changed."""
        if self._dirty:
            self._catch_up()
        if self._picked is None or self._selector != region.spec.adapter_selector:
            self._selector = region.spec.adapter_selector
            self._picked = self._pick(region)
        return self._picked

    def _catch_up(self) -> None:
        for name in self._dirty:
            adapter = self._store.get(Adapter, self._namespace, name)
            known = self._known.get(name)
            if adapter is None:
                self._known.pop(name, None)
            elif known is not None and known[0].spec == adapter.spec:
                self._known[name] = (adapter, known[1])
            else:
                self._known[name] = (adapter, share(build_voice(adapter.spec)))
        self._dirty.clear()
        self._picked = None

    def _pick(self, region: Region) -> tuple[Voice, ...]:
        claims: dict[str, list[Adapter]] = {}
        for adapter, _ in self._known.values():
            claims.setdefault(adapter.spec.archetype, []).append(adapter)
        holders = (pick_holder(adapters) for _, adapters in sorted(claims.items()))
        return tuple(
            self._known[holder.meta.name][1]
            for holder in holders
            if holder is not None and selects(region.spec, holder.meta.labels)
        )


def _shape(adapter: Adapter) -> object:
    """What decides what a voice says and whether it is the region's."""
    meta = adapter.meta
    return (adapter.spec, meta.labels, meta.uid, meta.creation_timestamp, meta.deletion_timestamp)
