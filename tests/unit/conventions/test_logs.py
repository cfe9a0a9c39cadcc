"""Logs of all three processes: one JSON object a line, with what it is about."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from npc_operator.domain.keys import Key, KeyKind
from npc_operator.edge.logs import JsonFormatter as OperatorFormatter
from npc_runtime.agent.logs import JsonFormatter as AgentFormatter
from npc_runtime.gateway.access_log import Record
from npc_runtime.gateway.logs import JsonFormatter as GatewayFormatter

AGENT_FIELDS = {"namespace": "eu", "tier": "gold", "pod": "gold-1"}
FORMATTERS: dict[str, logging.Formatter] = {
    "operator": OperatorFormatter(),
    "agent": AgentFormatter(AGENT_FIELDS),
    "gateway": GatewayFormatter(),
}


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("npc", logging.WARNING, __file__, 1, message, (), None)
    vars(made).update(extra)
    return made


@pytest.mark.parametrize("process", FORMATTERS)
def test_a_record_is_one_line_of_json_with_time_level_logger_and_message(process: str) -> None:
    line = FORMATTERS[process].format(record("two\nlines"))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["message"]) == ("warning", "npc", "two\nlines")
    assert fields["time"].endswith("+00:00")


@pytest.mark.parametrize("process", FORMATTERS)
def test_a_traceback_stays_on_the_line(process: str) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        failed = record("it failed")
        failed.exc_info = sys.exc_info()
    line = FORMATTERS[process].format(failed)
    assert "\n" not in line
    assert "ValueError: broken" in line


def test_the_operator_says_which_object_it_is_about() -> None:
    line = OperatorFormatter().format(record("x", key=Key(KeyKind.TIER, "eu", "gold")))
    assert json.loads(line)["key"] == "tier/eu/gold"


def test_the_agent_says_which_pod_it_belongs_to() -> None:
    assert json.loads(AgentFormatter(AGENT_FIELDS).format(record("x"))).items() >= AGENT_FIELDS.items()


def test_the_gateways_line_about_a_request_has_no_place_for_words_or_keys() -> None:
    assert set(Record.__slots__) == {
        *("request_id", "method", "path", "status", "reason", "archetype", "tier", "digest", "pod"),
        *("served_tier", "degraded", "resumed"),
        *("npc", "player", "key_name", "attempts", "first_token", "duration", "at"),
    }
