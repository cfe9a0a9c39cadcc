"""What the platform needs of whatever decides: which keys a change concerns, and a way to reconcile one key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from npc_operator.domain.keys import Key
from npc_operator.domain.outcomes import Outcome
from npc_operator.loop.store import Change, Store
from npc_operator.ports import Outside


class Decisions(Protocol):
    """`begin` is called once per term of leadership; what it returns may be cancelled at any await."""

    def triggers(self, store: Store, change: Change) -> Iterable[Key]: ...

    def begin(self, store: Store, outside: Outside) -> Callable[[Key], Awaitable[Outcome]]: ...
