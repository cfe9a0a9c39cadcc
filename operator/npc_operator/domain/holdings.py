"""What one pod's agent holds, with what is asked of it ready-made and kept from report to report.

Ten pods that prove a thousand adapters one by one are ten thousand reports, each about one adapter. So a report costs
what changed in it: entries that stay are the same objects, what is derived (who is resident, which names an archetype
has) is handed on while it still holds, and the step from one state to the next names the few adapters it touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from npc_runtime.wire import AdapterPhase


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Held:
    """What one adapter is doing on one pod: of wire.AdapterReport, what decisions need.

    It says nothing that differs between pods which are equally far with it, so that equal ones can be one object.
    """

    served_name: str
    archetype: str
    digest: str
    phase: AdapterPhase
    reason: str = ""
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    identity_checked: int = 0
    """The last proof of identity that was asked for and held in the present engine process."""


class Mark:
    """Names one state of one pod's holdings without keeping it alive."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Step:
    """How a state came about: from which, and whom it touched."""

    before: Mark
    touched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holdings:
    """Made by `hold` and `follow` alone: everything but the entries follows from them. Two are equal if their entries
    are.
    """

    entries: Mapping[str, Held]
    """By served name."""
    resident: frozenset[str] = field(compare=False, repr=False)
    """Served names proven by the present engine process."""
    by_archetype: Mapping[str, tuple[str, ...]] = field(compare=False, repr=False)
    """Served names of each archetype."""
    mark: Mark = field(compare=False, repr=False)
    step: Step | None = field(compare=False, repr=False)
    """From the state this one was made of; None for the first."""

    def of(self, archetype: str) -> tuple[Held, ...]:
        """Everything of one archetype."""
        return tuple(self.entries[name] for name in self.by_archetype.get(archetype, ()))

    def since(self, old: Holdings) -> Collection[str]:
        """Served names whose entries differ from those of `old`, whichever states lie between the two."""
        if self is old:
            return ()
        if self.step is not None and self.step.before is old.mark:
            return self.step.touched
        gone = old.entries.keys() - self.entries.keys()
        return gone | {name for name, held in self.entries.items() if _differ(old.entries.get(name), held)}


def hold(entries: Iterable[Held]) -> Holdings:
    """These and no others."""
    return follow(NOTHING, entries, ())


def follow(known: Holdings, changed: Iterable[Held], removed: Iterable[str]) -> Holdings:
    """`known` with some entries laid over it and others taken away; the same object if nothing differs."""
    gone = {name for name in removed if name in known.entries}
    news = {held.served_name: held for held in changed if _differ(known.entries.get(held.served_name), held)}
    gone -= news.keys()
    if not gone and not news:
        return known
    entries = {**known.entries, **news}
    for name in gone:
        del entries[name]
    touched = frozenset(news) | gone
    proven = frozenset(name for name, held in news.items() if held.phase is AdapterPhase.RESIDENT)
    kept = known.resident - (touched - proven)
    resident = known.resident if proven <= kept and len(kept) == len(known.resident) else kept | proven
    return Holdings(entries, resident, _file(known, news, gone), Mark(), Step(known.mark, touched))


def _file(known: Holdings, news: Mapping[str, Held], gone: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Names by archetype: handed on as they are unless a name came, went or changed sides."""
    moved: dict[str, str | None] = dict.fromkeys(gone)
    for name, held in news.items():
        before = known.entries.get(name)
        if before is None or before.archetype != held.archetype:
            moved[name] = held.archetype
    if not moved:
        return known.by_archetype
    filed = dict(known.by_archetype)
    for name, archetype in moved.items():
        before = known.entries.get(name)
        if before is not None:
            left = tuple(other for other in filed[before.archetype] if other != name)
            if left:
                filed[before.archetype] = left
            else:
                del filed[before.archetype]
        if archetype is not None:
            filed[archetype] = (*filed.get(archetype, ()), name)
    return filed


def _differ(one: Held | None, other: Held) -> bool:
    return one is not other and one != other


NOTHING = Holdings({}, frozenset(), {}, Mark(), None)
