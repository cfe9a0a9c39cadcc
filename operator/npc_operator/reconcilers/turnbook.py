"""Who may have a candidate with traffic now, from the newest that is known of each voice.

Between a decision and the answer to its write another voice must not be given the turn that was just taken. So each
voice's claim is kept here as it was last decided.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.domain.facts import Adapter
from npc_operator.domain.turns import TurnClaim, claim_turn, pick_turns
from npc_operator.loop.store import Store


class TurnBook:
    """Claims by namespace. Lives as long as one leadership."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims: dict[str, dict[str, TurnClaim]] = {}

    def may_move(self, adapter: Adapter, *, most: int) -> bool:
        """Whether a voice whose candidate is ready may have it heard, or has it heard already."""
        claims = self._of(adapter.meta.namespace)
        mine = claim_turn(adapter)
        claims[adapter.meta.name] = mine
        if mine.holds:
            return True
        # Of one that is gone the key may not have run yet, and nobody would wake this one again afterwards.
        present = self._store.list(Adapter, adapter.meta.namespace)
        others = (claim for name, claim in claims.items() if name != adapter.meta.name and name in present)
        return adapter.meta.name in pick_turns((*others, replace(mine, waits=True)), most=most)

    def note(self, adapter: Adapter) -> None:
        """What was decided of a voice."""
        claim = claim_turn(adapter)
        claims = self._of(adapter.meta.namespace)
        if claim.holds or claim.waits:
            claims[adapter.meta.name] = claim
        else:
            claims.pop(adapter.meta.name, None)

    def forget(self, namespace: str, name: str) -> None:
        """The voice is gone."""
        self._of(namespace).pop(name, None)

    def _of(self, namespace: str) -> dict[str, TurnClaim]:
        claims = self._claims.get(namespace)
        if claims is None:
            published = map(claim_turn, self._store.list(Adapter, namespace).values())
            claims = {claim.name: claim for claim in published if claim.holds or claim.waits}
            self._claims[namespace] = claims
        return claims
