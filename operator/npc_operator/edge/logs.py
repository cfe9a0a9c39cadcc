"""One line per record: JSON for machines (default), plain text for people. Says which object it is about, never what
a Secret holds."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LEVELS = tuple(_LEVELS)
FORMATS = ("json", "text")


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, and where known: key (kind/namespace/name), audit (a decision about traffic) and
    error (traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        key = getattr(record, "key", None)
        if key:
            line["key"] = str(key)
        decision = getattr(record, "audit", None)
        if decision:
            line["audit"] = decision
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same on one line for a person; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        key = getattr(record, "key", "")
        about = f" [{key}]" if key else ""
        text = f"{time} {record.levelname:<7} {record.name.rpartition('.')[2]}{about}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up_logging(*, level: str, form: str) -> None:
    """Everything to stderr through the root logger; libraries speak from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("npc_operator").setLevel(_LEVELS[level])
    logging.getLogger("npc_operator.audit").setLevel(logging.INFO)  # a record, however little else is wanted
    logging.getLogger("kopf").setLevel(logging.WARNING)
    handler.addFilter(_is_news)


_RETRIED = re.compile(r"Request attempt #(\d+) failed; will retry: (?P<what>.*)")


def _is_news(record: logging.LogRecord) -> bool:
    """Quietens kopf where this operator knows better: an API server that is away is said at the first try, and then now
    and then, as a warning; that its thread handles no signals is as it should be.
    """
    if not record.name.startswith("kopf."):
        return True
    text = record.getMessage()
    retried = _RETRIED.match(text)
    if retried is not None:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return int(retried[1]) == 1 or int(retried[1]) % 20 == 0
    return "OS signals are ignored" not in text
