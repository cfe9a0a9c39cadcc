"""`python -m hack.demo up | rollback | spot | down`: see `make demo`, `make demo-rollback` and `make demo-spot`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback

from hack.cluster.errors import ClusterError
from hack.demo import show
from hack.demo.acts import DemoFault
from hack.demo.console import Console
from hack.models.environment import EngineEnvironmentError, engine_python
from hack.stack.commands import CommandError
from hack.stack.faults import NoSuchProcess
from hack.stack.helm import HelmError
from hack.stack.kubectl import KubectlError, NotYet

# What these say is meant for people; anything else is a bug of the demo and gets its traceback.
EXPECTED = (ClusterError, CommandError, DemoFault, HelmError, KubectlError, NoSuchProcess, NotYet)


def main(arguments: list[str]) -> int:
    """Exit status: 0 all as it should be, 1 not, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description="Show the main job on a real cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring everything up, swap a voice under load, kill an engine; can be run again")
    commands.add_parser("rollback", help="a bad voice is caught and taken back while you watch; can be run again")
    commands.add_parser(
        "spot", help="a spot node gets its notice and is taken away while NPCs talk, and comes back; can be run again"
    )
    down = commands.add_parser("down", help="remove the demo and its cluster")
    down.add_argument(
        "--keep-cluster", action="store_true", help="only uninstall regions, operator and kinds, in that order"
    )
    options = parser.parse_args(arguments)
    console = Console()
    if options.command != "down":
        # Before the minutes that building takes, and with nothing there yet that could be diagnosed.
        try:
            engine_python()
        except EngineEnvironmentError as error:
            console.step(f"Not begun: {error}")
            return 1
    try:
        return asyncio.run(_run(console, options))
    except KeyboardInterrupt:
        console.step("Interrupted. The same command goes on from here; `make demo-down` removes everything.")
        return 130


async def _run(console: Console, options: argparse.Namespace) -> int:
    try:
        if options.command == "up":
            await show.up(console)
        elif options.command == "rollback":
            await show.take_back(console)
        elif options.command == "spot":
            await show.take_away(console)
        else:
            await show.down(console, keep_cluster=options.keep_cluster)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, diagnosed, and ends in a status that is not 0
        console.step(f"Not as it should be: {str(error) or type(error).__name__}")
        if not isinstance(error, EXPECTED):
            console.text("".join(traceback.format_exception(error)))
        if options.command != "down":
            console.text(await show.what_is_wrong())
            again = "make demo" if options.command == "up" else f"make demo-{options.command}"
            console.say(f"the cluster stays for a closer look; `{again}` tries again, `make demo-down` removes it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
