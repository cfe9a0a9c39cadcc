"""Candidates that are loaded everywhere while others have the region's turns: in steps, or all at once.

Going back to what served before needs no turn where it happens at once: it is how a person ends a mistake, and must not
wait behind the others that made the same one.
"""

from __future__ import annotations

from dataclasses import replace

from npc_operator.api.archetypeadapter import RolloutStatus
from npc_operator.domain.rollout.facts import Decision, RolloutFacts, State
from npc_operator.domain.rollout.history import was_stable
from npc_operator.domain.rollout.settle import settle
from npc_operator.domain.rollout.words import describe_turn

TURN_LOOK_SECONDS = 30.0
"""How soon a voice that waits looks again, if nothing wakes it before: the first in line are woken, and a thousand that
wait behind them must not be a thousand writes whenever somebody else's turn begins or ends."""


def wait_for_turn(facts: RolloutFacts, state: State) -> Decision:
    """It is ready, and who has a turn is named."""
    rollout = state.rollout or RolloutStatus(phase="Loading")
    state = replace(state, rollout=rollout.model_copy(update={"phase": "Waiting"}))
    soon = TURN_LOOK_SECONDS if facts.turn.free_after is None else min(TURN_LOOK_SECONDS, facts.turn.free_after)
    return settle(facts, state, reconciling=describe_turn(facts), requeue_after=soon)


def may_move_at_once(facts: RolloutFacts, state: State) -> bool:
    """Whether all traffic may move now, as far as the others are concerned."""
    if state.stable is None or state.stands_in() or state.has_traffic() or facts.turn.granted:
        return True
    return any(entry.digest == facts.wanted.digest for entry in was_stable(state.history))
