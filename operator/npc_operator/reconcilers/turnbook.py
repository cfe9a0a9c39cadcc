"""Who may have a candidate with traffic now, from the newest that is known of each voice.

Between a decision and the answer to its write another voice must not be given the turn that was just taken. So each
voice's claim is kept here as it was last decided.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain.facts import Adapter
from npc_operator.domain.rollout import GRANTED, Turn
from npc_operator.domain.turns import TurnClaim, claim_turn, pick_turns
from npc_operator.loop.store import Store


class TurnBook:
    """Claims by namespace. Lives as long as one leadership."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims: dict[str, dict[str, TurnClaim]] = {}

    def ask(self, adapter: Adapter, *, most: int, now: float) -> Turn:
        """Whether a voice whose candidate is ready may have it heard, or has it heard already, now (Unix seconds)."""
        claims = self._of(adapter.meta.namespace, now)
        mine = claim_turn(adapter)
        claims[adapter.meta.name] = mine
        if mine.has_turn(now):
            return GRANTED
        # Of one that is gone the key may not have run yet, and nobody would wake this one again afterwards.
        present = self._store.list(Adapter, adapter.meta.namespace)
        others = [claim for name, claim in claims.items() if name != adapter.meta.name and name in present]
        if adapter.meta.name in pick_turns((*others, replace(mine, waits=True)), most=most, now=now):
            return GRANTED
        holders = sorted(claim for claim in others if claim.has_turn(now))
        return Turn(
            granted=False,
            holders=tuple(claim.describe() for claim in holders),
            free_after=min((claim.resting(now) for claim in holders if not claim.holds), default=None),
        )

    def note(self, adapter: Adapter, now: float) -> None:
        """What was decided of a voice, now (Unix seconds)."""
        claim = claim_turn(adapter)
        claims = self._of(adapter.meta.namespace, now)
        if claim.waits or claim.has_turn(now):
            claims[adapter.meta.name] = claim
        else:
            claims.pop(adapter.meta.name, None)

    def forget(self, namespace: str, name: str) -> None:
        """The voice is gone."""
        self._claims.get(namespace, {}).pop(name, None)

    def _of(self, namespace: str, now: float) -> dict[str, TurnClaim]:
        claims = self._claims.get(namespace)
        if claims is None:
            published = map(claim_turn, self._store.list(Adapter, namespace).values())
            claims = {claim.name: claim for claim in published if claim.waits or claim.has_turn(now)}
            self._claims[namespace] = claims
        return claims
