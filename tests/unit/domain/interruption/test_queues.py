"""What a tier says of the queue that it hears from."""

from __future__ import annotations

import pytest

from npc_operator.api.meta import Condition
from npc_operator.domain import reasons
from npc_operator.domain.interruption.queues import ADVICE, OWN, QueueFact, QueueRef, fact_name, queue_entries, queue_of
from tests.support.builders import tier_fact

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/npc"
QUEUE = QueueRef(url=URL, region="eu-west-1")
BARE = tier_fact().spec
NAMING = tier_fact(spec={"interruption": {"queue": {"url": URL, "region": "eu-west-1"}}}).spec
SAID = Condition.model_validate(
    {
        "type": "InterruptionQueueReady",
        "status": "False",
        "reason": "QueueMissing",
        "message": "gone",
        "lastTransitionTime": "2026-11-21T17:00:00Z",
        "observedGeneration": 1,
    }
)


def test_a_tier_hears_from_its_own_queue_or_else_from_the_operators() -> None:
    assert queue_of(NAMING) == QUEUE
    assert fact_name(NAMING) == QUEUE.key
    assert queue_of(BARE) is None
    assert fact_name(BARE) == OWN


def test_the_same_url_in_another_region_is_another_queue() -> None:
    assert QueueRef(url=URL, region="eu-central-1").key != QUEUE.key


@pytest.mark.parametrize("trouble", ["", *ADVICE, "SomethingNew"])
def test_a_queue_says_by_name_whether_it_is_read_and_what_to_do(trouble: str) -> None:
    ((kind, status, finding),) = queue_entries(NAMING, QueueFact(QUEUE, trouble), (SAID,))
    assert kind == "InterruptionQueueReady"
    assert status == ("False" if trouble else "True")
    assert finding.reason == (trouble or reasons.QUEUE_READ)
    assert "queue npc in eu-west-1" in finding.message
    assert "123456789012" not in finding.message
    if trouble:
        assert finding.message.partition(": ")[2] in ADVICE.values()


@pytest.mark.parametrize("fact", [None, QueueFact(QUEUE)])
def test_before_a_new_leaders_first_word_the_last_one_holds(fact: QueueFact | None) -> None:
    ((kind, status, finding),) = queue_entries(NAMING, fact, (SAID,))
    assert (kind, status, finding.reason, finding.message) == (SAID.type, "False", "QueueMissing", "gone")
    assert queue_entries(NAMING, fact, ()) == ()


def test_without_any_queue_nothing_is_said_whatever_was_said_before() -> None:
    assert queue_entries(BARE, None, (SAID,)) == ()
