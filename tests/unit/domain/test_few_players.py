"""Too few players for a verdict: what the status, the history and the Events say of it, for each way on."""

from __future__ import annotations

import pytest

from npc_operator.domain import reasons
from npc_operator.reconcilers.events import decided
from tests.unit.domain.rollouts import ENOUGH, TOO_FEW, Story

STEP = 60


def stuck(policy: str) -> Story:
    """At 10%, three times the step's length later."""
    story = Story(spec={"onTooLittleTraffic": policy, "stepSeconds": STEP}, verdict=TOO_FEW)
    story.watch(10)
    story.later(3 * STEP)
    return story


def test_gateways_that_ask_themselves_are_told_with_how_many_answers_they_ask_for() -> None:
    status = stuck("Probe").look().status
    assert (status.reason, status.rollout and status.rollout.phase) == (reasons.PROBING, "Probing")
    assert "10% of the NPCs" in status.message
    assert "too few of them speak: the gateways ask the probe's question until there are 50 answers" in status.message


def test_a_rollout_that_waits_for_players_says_for_how_many_answers_and_by_which_policy() -> None:
    story = stuck("Hold")
    status = story.look().status
    assert (status.reason, status.rollout and status.rollout.phase) == (reasons.TOO_LITTLE_TRAFFIC, "Holding")
    assert "waits for players until there are 50 answers (rollout.onTooLittleTraffic is Hold)" in status.message
    (held,) = [entry for entry in story.made if entry.reason == reasons.HELD]
    assert (held.by, held.verdict) == ("rollout.onTooLittleTraffic", "TooLittleTraffic: 0 of 3")


def test_a_rollout_that_goes_on_all_the_same_says_that_its_answers_were_too_few() -> None:
    story = stuck("Proceed")
    status = story.look().status
    assert status.rollout is not None
    assert status.rollout.percent == 25
    entry = status.history[0]
    assert (entry.reason, entry.by) == (reasons.STEPPED, "rollout.onTooLittleTraffic")
    assert entry.verdict == "TooLittleTraffic: 0 of 3"
    told = decided("gold", entry, status)
    assert "after 10% (TooLittleTraffic: 0 of 3), by rollout.onTooLittleTraffic" in told.message


def test_the_last_step_says_it_too() -> None:
    story = Story(spec={"onTooLittleTraffic": "Proceed", "stepSeconds": STEP, "steps": [100]}, verdict=TOO_FEW)
    story.watch(100)
    story.later(3 * STEP)
    story.look()
    entry = story.made[-1]
    assert (entry.reason, entry.by, entry.verdict) == (
        reasons.MOVED,
        "rollout.onTooLittleTraffic",
        "TooLittleTraffic: 0 of 3",
    )


@pytest.mark.parametrize("policy", ["Probe", "Hold", "Proceed"])
def test_with_enough_answers_no_policy_is_spoken_of(policy: str) -> None:
    story = stuck(policy)
    story.verdict = ENOUGH
    for _ in range(3):
        story.later(STEP)
    entry = [one for one in story.made if one.reason == reasons.STEPPED][-1]
    assert (entry.by, entry.verdict) == ("rollout.steps", ENOUGH.numbers)
