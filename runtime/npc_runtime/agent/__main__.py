"""`npc-agent serve` beside an engine, `npc-agent fetch-model` before it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys

from . import logs
from .app import serve
from .credentials import Credentials
from .model_fetch import fetch_model
from .settings import ModelSettings, Settings, parse

log = logging.getLogger("npc_runtime.agent")


def main() -> int:
    """The console script; returns the exit code: 0 done, 1 failed for now, 2 cannot work as it is set up."""
    settings = parse()
    if isinstance(settings, ModelSettings):
        logs.set_up(settings.log_level, {"process": "npc-agent-fetch-model"})
        return fetch_model(settings)
    return _serve(settings)


def _serve(settings: Settings) -> int:
    logs.set_up(
        settings.log_level,
        {"process": "npc-agent", "namespace": settings.namespace, "tier": settings.tier, "pod": settings.pod},
    )
    try:
        credentials = Credentials(settings.internal_dir)
    except (OSError, ssl.SSLError, ValueError) as error:
        log.error(
            "the internal folder needs tls.crt, tls.key and token",
            extra={"folder": str(settings.internal_dir), "detail": str(error)},
        )
        return 2
    code = 0
    try:
        asyncio.run(serve(settings, credentials))
    except* OSError as group:
        log.error("the agent cannot run", extra={"detail": "; ".join(str(error) for error in group.exceptions)})
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
