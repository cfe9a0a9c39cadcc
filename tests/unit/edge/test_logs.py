"""Logs: one JSON object per record with the object's key, or one line for a person; kopf repeats itself less."""

from __future__ import annotations

import json
import logging
from typing import Any

from npc_operator.edge.logs import JsonFormatter, TextFormatter, _is_news


def record(message: str, *, name: str = "npc_operator.loop.runner", **more: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, None)
    made.__dict__.update(more)
    return made


def failed() -> logging.LogRecord:
    try:
        raise ValueError("a bug")
    except ValueError as error:
        made = record("crashed", key="tier/eu/gold")
        made.exc_info = (type(error), error, error.__traceback__)
        return made


def test_a_json_line_names_time_level_logger_message_and_key() -> None:
    line = json.loads(JsonFormatter().format(record("failed\nand more", key="tier/eu/gold")))
    assert line["level"] == "error"
    assert line["logger"] == "npc_operator.loop.runner"
    assert line["message"] == "failed\nand more"
    assert line["key"] == "tier/eu/gold"
    assert line["time"].endswith("+00:00")


def test_a_traceback_stays_in_its_one_line() -> None:
    text = JsonFormatter().format(failed())
    assert "\n" not in text
    assert "ValueError: a bug" in json.loads(text)["error"]


def test_a_record_about_nothing_in_particular_has_no_key() -> None:
    assert "key" not in json.loads(JsonFormatter().format(record("hello")))


def test_text_for_people_says_the_same() -> None:
    text = TextFormatter().format(failed())
    assert "runner [tier/eu/gold]: crashed" in text
    assert text.endswith("ValueError: a bug")


def test_an_absent_api_server_is_said_at_the_first_try_and_now_and_then() -> None:
    def said(attempt: int) -> bool:
        text = f"Request attempt #{attempt} failed; will retry: GET https://api/pods -> refused"
        return _is_news(record(text, name="kopf._cogs.clients.watching"))

    assert [attempt for attempt in range(1, 61) if said(attempt)] == [1, 20, 40, 60]


def test_such_a_try_is_a_warning_and_everything_else_of_kopf_stays_as_it_is() -> None:
    tried = record("Request attempt #1 failed; will retry: GET x", name="kopf.x")
    assert _is_news(tried)
    assert tried.levelname == "WARNING"
    crashed = record("Event processing has failed", name="kopf.x")
    assert _is_news(crashed)
    assert crashed.levelname == "ERROR"
    assert not _is_news(record("OS signals are ignored: running not in the main thread.", name="kopf.x"))
