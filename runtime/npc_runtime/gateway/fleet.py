"""The pods as this process sees them: the applied table, what each agent said, who may be asked for which served name,
and how busy each is.

Everything mutable that routing needs is here, and changes only between requests: a new table or an agent's word
rebuilds the look-up from (tier, served name) to pods, so a request only reads.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from npc_runtime import wire
from npc_runtime.gateway import residency
from npc_runtime.gateway.pool import Pool
from npc_runtime.gateway.residency import AgentWord
from npc_runtime.gateway.table import CompiledTable, EndpointFacts, EndpointKey


class Endpoint:
    """One engine pod: its connections, its load, and what its agent said. Lives as long as tables name it."""

    __slots__ = ("facts", "in_flight", "pool", "remembered", "request_head", "suspect_until", "word")

    def __init__(self, facts: EndpointFacts, loop: asyncio.AbstractEventLoop) -> None:
        self.in_flight = 0
        self.suspect_until = 0.0
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


class Fleet:
    """The applied table and its pods."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._usable: dict[tuple[str, str], list[Endpoint]] = {}
        self._serving: dict[str, int] = {}
        self._turn = 0
        self.table: CompiledTable | None = None

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
                endpoint = Endpoint(facts, self._loop)
            else:
                endpoint.offer(facts)
            self._endpoints[facts.key] = endpoint
        for gone in known.values():
            gone.pool.close()
        self.table = table
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

    def serving(self, tier: str) -> int:
        """How many pods of a tier may be asked for anything right now."""
        return self._serving.get(tier, 0)

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
        serving: dict[str, int] = defaultdict(int)
        for endpoint in self._endpoints.values():
            names = endpoint.usable_names()
            serving[endpoint.facts.tier] += bool(names)
            for name in names:
                usable[endpoint.facts.tier, name].append(endpoint)
        self._usable = dict(usable)
        self._serving = dict(serving)
