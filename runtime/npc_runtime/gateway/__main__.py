"""`npc-gateway`: parse the command line, run one gateway, exit."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvloop

from npc_runtime.gateway.app import run_until_signal
from npc_runtime.gateway.internal import BadInternalDir
from npc_runtime.gateway.logs import configure_logging
from npc_runtime.gateway.settings import parse_settings
from npc_runtime.gateway.tls import BadCertificate

log = logging.getLogger(__name__)


def main() -> None:
    """Run the gateway until it is told to stop. Exit status: 0 after a signal, 2 for wrong settings, 1 for anything
    else."""
    settings = parse_settings()
    configure_logging(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(run_until_signal(settings))
    except BadInternalDir as error:
        log.error("the internal folder cannot be used: %s", error)
        status = 2
    except BadCertificate as error:
        log.error("the data port's certificate cannot be used: %s", error)
        status = 2
    except OSError as error:
        log.error("cannot start: %s", error)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
