"""`npc-operator`: reads the settings, and hands over to wiring."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from npc_operator.clients.lease import LeadershipStuck
from npc_operator.edge.logs import set_up_logging
from npc_operator.settings import Settings, read_settings
from npc_operator.wiring.fleet import FleetDecisions
from npc_operator.wiring.process import check, run


def main() -> None:
    """Exit codes: 0 stopped or all found, 1 something is missing or broke, 2 usage."""
    settings = read_settings()
    set_up_logging(level=settings.log_level, form=settings.log_format)
    try:
        code = asyncio.run(check(settings) if settings.command == "check" else _run(settings))
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)


async def _run(settings: Settings) -> int:
    try:
        return await run(settings, FleetDecisions(settings))
    except LeadershipStuck as error:
        logging.getLogger("npc_operator").critical("%s", error)
        # From within the loop, which would else wait for the very work that does not stop while another process leads.
        os._exit(1)


if __name__ == "__main__":
    main()
