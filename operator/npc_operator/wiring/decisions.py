"""What the platform needs of whatever decides: which keys a change concerns, a way to reconcile one key, and somebody
who hears what queues say of machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Outcome
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Listener, Outside


class Work(Protocol):
    """What decides during one term of leadership; it may be cancelled at any await."""

    @property
    def interruptions(self) -> Listener: ...

    async def reconcile(self, key: Key, /) -> Outcome: ...


class Decisions(Protocol):
    """`begin` is called once per term of leadership."""

    def triggers(self, store: Store, change: Change) -> Iterable[Key]: ...

    def begin(self, store: Store, outside: Outside) -> Work: ...
