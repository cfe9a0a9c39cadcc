"""`kubectl-npc`, which kubectl finds as `kubectl npc`: reads the environment and runs one command."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from .answers import Code
from .arguments import build_parser, command_first
from .completion import COMPLETE, SCRIPTS, answer_shell
from .console import Console, ReaderGone
from .ports import CliError, Cluster
from .render import wants_colours

# Only what a command needs is imported, in `pick`: `--help`, `digest` and completion answer at once.


RUNS = {
    "status": ("looking", "run_status"),
    "why": ("looking", "run_why"),
    "matrix": ("looking", "run_matrix"),
    "diff": ("looking", "run_diff"),
    "history": ("looking", "run_history"),
    "approve": ("changing", "run_approve"),
    "rollback": ("changing", "run_rollback"),
    "quarantine": ("changing", "run_quarantine"),
    "pause": ("changing", "run_pause"),
    "resume": ("changing", "run_resume"),
    "say": ("say", "run_say"),
    "digest": ("files", "run_digest"),
    "lint": ("files", "run_lint"),
    "drill": ("drill", "run_drill"),
    "dump": ("dump", "run_dump"),
}
"""Where the function of each command is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code (see `kubectl npc --help`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows another one: no answer may be lost over an ellipsis.
            stream.reconfigure(errors="replace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except ReaderGone:
        return Code.FINE
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    finally:
        _let_go()


def _run(given: list[str]) -> int:
    colours = wants_colours(terminal=sys.stdout.isatty(), environment=dict(os.environ))
    if given[:1] == [COMPLETE]:
        Console(sys.stdout, sys.stderr, sys.stdin).raw(answer_shell(given[1:]))
        return Code.FINE
    parsed = build_parser().parse_args(command_first(given))
    form = getattr(parsed, "output", "table")
    console = Console(sys.stdout, sys.stderr, sys.stdin, form=form, colours=colours)
    if parsed.command == "completion":
        console.raw(SCRIPTS[parsed.shell])
        return Code.FINE

    opened: list[Cluster] = []

    def connect() -> Cluster:
        from .clients.config import connect as connect_kube

        opened.append(
            connect_kube(kubeconfig=parsed.kubeconfig, context=parsed.context, timeout=parsed.request_timeout)
        )
        return opened[-1]

    from .commands.session import Session

    session = Session(parsed, connect, console, time.time, time.sleep)
    try:
        return pick(parsed.command)(session)
    except CliError as error:
        console.note(f"error: {error}")
        if error.step:
            console.note(f"next: {error.step}")
        return error.code
    finally:
        for cluster in opened:
            cluster.close()


def _let_go() -> None:
    """Flush what is left, so that the interpreter does not complain at exit of a reader who has seen enough."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def pick(command: str) -> Callable[..., Code]:
    """The function of a command."""
    module, function = RUNS[command]
    found: Callable[..., Code] = getattr(import_module(f"npc_runtime.cli.commands.{module}"), function)
    return found


if __name__ == "__main__":
    sys.exit(main())
