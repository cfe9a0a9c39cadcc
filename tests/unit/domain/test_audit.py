"""The audit trail: every decision about traffic, complete, and nothing secret in it."""

from __future__ import annotations

import json
import logging

import pytest

from npc_operator.domain import reasons
from npc_operator.domain.rollout.audit import build_records
from npc_operator.edge.logs import JsonFormatter
from npc_operator.reconcilers.adapter import keep_record
from tests.support.builders import adapter_fact
from tests.unit.domain.rollouts import BAD, NEW, OLD, Story


def test_a_decision_says_who_what_when_from_where_to_where_and_by_which_numbers() -> None:
    story = Story()
    story.watch(10)
    story.verdict = BAD
    decision = story.later(5)
    adapter = adapter_fact("vampire", secret="bucket", generation=4)
    (record,) = build_records(adapter, "gold", decision.made)
    assert record == {
        "time": decision.made[0].time,
        "namespace": "eu-west",
        "adapter": "vampire",
        "uid": adapter.meta.uid,
        "generation": 4,
        "archetype": "vampire",
        "tier": "gold",
        "decision": reasons.ROLLED_BACK,
        "digest": NEW,
        "uri": decision.made[0].uri,
        "previous": OLD,
        "fromPercent": 10,
        "toPercent": 0,
        "verdict": f"CandidateErrors: {BAD.numbers}",
        "by": "rollout.analysis",
    }


def test_each_decision_is_one_line_of_json_on_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    story = Story()
    decision = story.watch(10)
    with caplog.at_level(logging.INFO, logger="npc_operator.audit"):
        keep_record(adapter_fact("vampire"), decision)
    (line,) = [record for record in caplog.records if record.name == "npc_operator.audit"]
    told = json.loads(JsonFormatter().format(line))
    assert told["key"] == "adapter/eu-west/vampire"
    assert (told["audit"]["decision"], told["audit"]["toPercent"]) == (reasons.STEPPED, 10)
    assert "\n" not in JsonFormatter().format(line)


def test_a_look_that_decides_nothing_leaves_no_line(caplog: pytest.LogCaptureFixture) -> None:
    story = Story()
    story.watch(10)
    with caplog.at_level(logging.INFO, logger="npc_operator.audit"):
        keep_record(adapter_fact("vampire"), story.later(1))
    assert caplog.records == []
