"""The pods as this process sees them: the applied table, what each agent said, who may be asked for which served name,
and how busy each is.

Everything mutable that routing needs is here, and changes only between requests: a new table or an agent's word
rebuilds the look-up from (tier, served name) to pods, so a request only reads.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from npc_runtime import wire
from npc_runtime.gateway import ejection, residency
from npc_runtime.gateway.affinity import Affinity
from npc_runtime.gateway.ejection import Standing
from npc_runtime.gateway.holds import Holds
from npc_runtime.gateway.levels import Ladder, Ladders
from npc_runtime.gateway.pool import Pool
from npc_runtime.gateway.residency import AgentWord
from npc_runtime.gateway.table import CompiledTable, EndpointFacts, EndpointKey

LOOK_SECONDS: Final = 0.25
"""From a line that was lost to the look at its pod: the kernel of a process that ended resets all its connections at
once, and an engine takes far longer to start again."""


class Endpoint(Standing):
    """One engine pod: its connections, its load, its standing, and what its agent said. Lives as long as tables name
    it."""

    __slots__ = (
        "_looking",
        "_loop",
        "_on_failure",
        "facts",
        "in_flight",
        "name",
        "pool",
        "remembered",
        "request_head",
        "word",
    )

    def __init__(
        self, facts: EndpointFacts, loop: asyncio.AbstractEventLoop, on_failure: Callable[[Endpoint, bool], None]
    ) -> None:
        super().__init__()
        self._on_failure = on_failure
        self._loop = loop
        self._looking: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        self.name = facts.key.uid
        self.word: AgentWord | None = None
        self.remembered: frozenset[str] = frozenset()
        self.pool = Pool(facts.key.address, facts.key.port, loop)
        self.offer(facts)

    def offer(self, facts: EndpointFacts) -> None:
        """Take over what a new table says about this pod."""
        self.facts = facts
        address = f"[{facts.key.address}]" if ":" in facts.key.address else facts.key.address
        self.request_head = b"".join(
            (
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: ",
                f"{address}:{facts.key.port}\r\n".encode(),
                facts.authorization,
                b"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n",
            )
        )
        self.word = residency.see_table(self.word, facts.resident)
        if facts.resident is not None:
            self.remembered = facts.resident

    def usable_names(self) -> frozenset[str]:
        """The served names that may be asked of this pod right now."""
        return residency.usable_names(self.facts.resident, self.word, self.remembered)

    def find_out(self, tell: Callable[[bool], None]) -> None:
        """Have `tell` called in a moment with whether it is still there."""
        looking = self._loop.create_task(self._look(tell))
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    async def _look(self, tell: Callable[[bool], None]) -> None:
        is_there = False
        try:
            await asyncio.sleep(LOOK_SECONDS)
            if not self.pool.connections:
                self.pool.put_back(await self.pool.connect())
            is_there = True
        except OSError:
            pass  # that is the answer
        finally:
            tell(is_there)

    def note_failure(self, *, reached: bool) -> None:
        """A line got nothing from it; that may eject it."""
        self._on_failure(self, reached)

    @property
    def is_accepting(self) -> bool:
        """Whether its agent lets new lines come, whatever is resident there."""
        return self.word is None or self.word.accepting


class Fleet:
    """The applied table and its pods."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._usable: dict[tuple[str, str], list[Endpoint]] = {}
        self._accepting: dict[str, list[Endpoint]] = {}
        self._ladders: Ladders | None = None
        self._turn = 0
        self._gone: list[Endpoint] = []
        """Pods that the table does not name any more, with lines that still run."""
        self.table: CompiledTable | None = None
        self.affinity: Affinity | None = None
        """Who chooses among several pods; None: the least busy one is taken."""
        self.has_choice = False
        """Whether any tier has more than one pod that takes lines: without, no line needs a place on a ring."""
        self.holds = Holds(self._is_able)
        """The levels that lines pass over for a while: keys are those of rungs, and tiers."""
        self.ejections: dict[str, int] = {}
        """How often a pod was ejected, by tier."""

    @property
    def endpoints(self) -> Iterable[Endpoint]:
        """Every pod of the applied table."""
        return self._endpoints.values()

    def apply(self, table: CompiledTable) -> None:
        """Replace the table. Running answers of pods that are gone finish; nothing new goes there."""
        known = self._endpoints
        self._endpoints = {}
        for facts in table.endpoints:
            endpoint = known.pop(facts.key, None)
            if endpoint is None:
                endpoint = Endpoint(facts, self._loop, self._note_failure)
            else:
                endpoint.offer(facts)
            self._endpoints[facts.key] = endpoint
        for gone in known.values():
            gone.pool.close()
            self._gone.append(gone)
        self.table = table
        self._ladders = Ladders(table)
        self.holds.forget(self._is_known)
        self.ejections = {tier: self.ejections.get(tier, 0) for tier in sorted(table.tiers)}
        self._rebuild()

    def hear(self, key: EndpointKey, said: wire.Routable) -> None:
        """An agent answered."""
        endpoint = self._endpoints.get(key)
        if endpoint is not None:
            endpoint.word = residency.hear(endpoint.word, said, endpoint.facts.resident)
            self._rebuild()

    def lose(self, key: EndpointKey) -> None:
        """Contact with an agent was lost. Nothing is withdrawn by that."""
        endpoint = self._endpoints.get(key)
        if endpoint is not None:
            endpoint.word = residency.lose(endpoint.word)

    def usable(self, tier: str, served_name: str) -> list[Endpoint]:
        """The pods of a tier where a served name is resident."""
        return self._usable.get((tier, served_name), [])

    def accepting(self, tier: str) -> list[Endpoint]:
        """The pods of a tier that take new lines, whatever is resident there."""
        return self._accepting.get(tier, [])

    def ladder(self, tier: str, archetype: str) -> Ladder | None:
        """By what an archetype can be answered on a tier; None if by nothing."""
        return None if self._ladders is None else self._ladders.find(tier, archetype)

    def departures(self) -> dict[str, int]:
        """Lines that still run, by uid of pods that the table does not name any more."""
        self._gone = [endpoint for endpoint in self._gone if endpoint.in_flight]
        found: dict[str, int] = {}
        for endpoint in self._gone:
            found[endpoint.name] = found.get(endpoint.name, 0) + endpoint.in_flight
        return found

    @property
    def ejected(self) -> int:
        """Pods that are left out or on trial now."""
        return sum(endpoint.is_ejected for endpoint in self._endpoints.values())

    def next_turn(self) -> int:
        """A growing number that spreads picks over equally loaded pods."""
        self._turn += 1
        return self._turn

    def close_aged_connections(self) -> None:
        """Housekeeping of every pool; call it about once a second."""
        for endpoint in self._endpoints.values():
            endpoint.pool.close_aged()

    def close(self) -> None:
        """Close every pool."""
        for endpoint in self._endpoints.values():
            endpoint.pool.close()

    def _rebuild(self) -> None:
        usable: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
        accepting: dict[str, list[Endpoint]] = defaultdict(list)
        for endpoint in self._endpoints.values():
            for name in endpoint.usable_names():
                usable[endpoint.facts.tier, name].append(endpoint)
            if endpoint.is_accepting:
                accepting[endpoint.facts.tier].append(endpoint)
        self._usable = dict(usable)
        self._accepting = dict(accepting)
        self.has_choice = any(len(pods) > 1 for pods in accepting.values())
        self.holds.look(self._loop.time())

    def _note_failure(self, endpoint: Endpoint, reached: bool) -> None:
        tier = endpoint.facts.tier
        pods = [each for each in self._endpoints.values() if each.facts.tier == tier]
        if ejection.note_failure(endpoint, reached=reached, now=self._loop.time(), tier=pods):
            self.ejections[tier] = self.ejections.get(tier, 0) + 1

    def _is_able(self, key: Hashable) -> bool:
        if not isinstance(key, tuple):
            return bool(self.accepting(str(key)))
        tier, archetype = key
        if not archetype:
            return bool(self.accepting(tier))
        alias = None if self.table is None else self.table.aliases.get(key)
        return alias is not None and bool(self.usable(tier, alias.stable.served_name))

    def _is_known(self, key: Hashable) -> bool:
        tier, archetype = key if isinstance(key, tuple) else (key, "")
        table = self.table
        return table is not None and tier in table.tiers and (not archetype or key in table.aliases)
