"""From a parsed request to an exchange: who asks, for which character, on which tier, and in which words.

The two ways to ask for a line meet here, so that keys, rates, tiers, rollouts and fallbacks are the same for both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from npc_runtime.gateway import chat, lines
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.affinity import line_key
from npc_runtime.gateway.answer import Client
from npc_runtime.gateway.callers import Caller, Callers, Proof
from npc_runtime.gateway.errors import Refused, not_ready
from npc_runtime.gateway.exchange import Exchange
from npc_runtime.gateway.http.parser import RequestHead
from npc_runtime.gateway.metrics import Metrics
from npc_runtime.gateway.pursuit import Means
from npc_runtime.gateway.question import Question
from npc_runtime.gateway.routing import choose_tier, nothing_answers


class Connection(Client, Protocol):
    """The connection that asked."""

    record: Record | None
    proof: Proof | None

    def run(self, exchange: Exchange) -> None:
        """Let an exchange answer the present request."""


class Asking:
    """The way to an exchange under one table."""

    def __init__(self, means: Means, callers: Callers, metrics: Metrics) -> None:
        self._means = means
        self._callers = callers
        self._metrics = metrics

    def complete(self, connection: Connection, head: RequestHead, body: bytes) -> None:
        """One chat completion.

        Raises:
            Refused: it is none, or may not be asked.

        """
        caller, record = self._admit(connection)
        npc = chat.parse_id("X-NPC-Id", head.headers.get(b"x-npc-id"))
        record.npc = "" if npc is None else npc.decode("ascii")
        player = _player(head, record)
        payload = chat.parse_completion(body)
        in_sentences = chat.parse_resume(head.headers.get(b"x-npc-resume"), payload)
        question = Question(payload, chat.trace_lines(head.headers), caller.cache_salt, in_sentences=in_sentences)
        connection.run(self._exchange(connection, record, caller, question, head=head, npc=npc, player=player))

    def say(self, connection: Connection, head: RequestHead, body: bytes, npc: bytes) -> None:
        """One line of an NPC.

        Raises:
            Refused: it is none, or may not be asked.

        """
        caller, record = self._admit(connection)
        chat.parse_id("npc", npc)
        record.npc = npc.decode("ascii")
        player = _player(head, record)
        payload = lines.parse_line(body).payload()
        client = lines.LineClient(connection, record)
        question = Question(payload, chat.trace_lines(head.headers), caller.cache_salt, can_read=client.read)
        try:
            exchange = self._exchange(client, record, caller, question, head=head, npc=npc, player=player)
        except Refused as refusal:
            if refusal.fault.param == "model":
                raise Refused(replace(refusal.fault, param="archetype")) from refusal
            raise
        connection.run(exchange)

    def _admit(self, connection: Connection) -> tuple[Caller, Record]:
        record, proof = connection.record, connection.proof
        if record is None or proof is None:
            raise Refused(not_ready())
        if (fault := self._callers.take(proof.caller)) is not None:
            raise Refused(fault)
        return proof.caller, record

    def _exchange(
        self,
        client: Client,
        record: Record,
        caller: Caller,
        question: Question,
        *,
        head: RequestHead,
        npc: bytes | None,
        player: bytes | None,
    ) -> Exchange:
        fleet, payload = self._means.fleet, question.payload
        table = fleet.table
        if table is None:
            raise Refused(not_ready())
        archetype: str = payload["model"]
        tier = choose_tier(table, wanted=head.headers.get(b"x-npc-tier"), npc=npc)
        if (fault := caller.refusal(archetype, tier)) is not None:
            raise Refused(fault)
        ladder = fleet.ladder(tier, archetype)
        if ladder is None:
            raise Refused(nothing_answers(table, archetype=archetype, tier=tier))
        record.archetype = ladder.archetype
        record.tier = tier
        place = None
        if fleet.affinity is not None and fleet.has_choice:
            place = line_key(archetype=archetype.encode(), npc=npc, player=player, messages=payload["messages"])
        series = self._metrics.series(ladder.archetype, tier)
        return Exchange(self._means, client, ladder, npc, place, question, series, record)


def _player(head: RequestHead, record: Record) -> bytes | None:
    player = chat.parse_id("X-Player-Id", head.headers.get(b"x-player-id"))
    record.player = "" if player is None else player.decode("ascii")
    return player
