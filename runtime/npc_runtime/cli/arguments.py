"""The command line: how it is parsed and completed; `kubectl npc --help` is its documentation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import vocabulary as v
from .answers import Code
from .catalog import COMMANDS
from .options import positive
from .ports import REQUEST_SECONDS

FORMS = ("table", "json", "yaml")

CODES = f"""\
exit codes:
  {Code.FINE:<4} as wanted, or done
  {Code.NOT_AS_WANTED:<4} not as wanted: why or diff found something, lint a fault, or a drill did not end in time
  {Code.USAGE:<4} the command line makes no sense
  {Code.FORBIDDEN:<4} you lack a right; the message names it
  {Code.NOT_FOUND:<4} an object, a file or the CRDs are not there
  {Code.NO_CLUSTER:<4} the API server or the kubeconfig cannot be used
  {Code.NOT_REACHED:<4} a pod did not answer through the API server
  {Code.NO_LINE:<4} say: the gateway refused, or the line broke off
  {Code.DECLINED:<4} nobody said yes
  {Code.REFUSED:<4} not changed: there is nothing to do it with, a tool keeps the field, or the API server refused it
  {Code.INTERRUPTED:<4} interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="kubectl npc",
        description="Asks a cluster what its voices do, and why; changes specs where told to. With your rights alone.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for one in COMMANDS:
        examples = "examples:\n" + "".join(f"  {example}\n" for example in one.examples)
        own = commands.add_parser(
            one.name,
            help=one.help,
            description=one.help[0].upper() + one.help[1:] + ".",
            epilog=f"{examples}\n{CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.options(own)
        if one.cluster:
            _cluster_options(own)
        if one.forms:
            own.add_argument("-o", "--output", choices=FORMS, default="table", help="how to answer (default: table)")
    return parser


def _cluster_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cluster")
    group.add_argument("-n", "--namespace", default="", help="namespace of the region (default: the context's)")
    group.add_argument("--context", default="", help="context of the kubeconfig")
    group.add_argument("--kubeconfig", default="", metavar="FILE", help="kubeconfig (default: as kubectl finds it)")
    group.add_argument(
        "--request-timeout",
        type=positive,
        default=REQUEST_SECONDS,
        metavar="SECONDS",
        help="how long one request to the API server may take (default: %(default)g)",
    )
    group.add_argument(
        "--operator-namespace",
        default=v.OPERATOR_NAMESPACE,
        metavar="NAMESPACE",
        help="where the operator and its Lease are (default: %(default)s)",
    )


def command_first(arguments: Sequence[str]) -> list[str]:
    """The same words with what stands before the command put behind it: `kubectl npc -n eu-west status` works too."""
    names = {one.name for one in COMMANDS}
    valued = {"-n", "--namespace", "--context", "--kubeconfig", "--operator-namespace", "--request-timeout"}
    valued |= {"-o", "--output"}
    index = 0
    while index < len(arguments) and arguments[index] not in names:
        if not arguments[index].startswith("-"):
            return list(arguments)
        index += 2 if arguments[index] in valued else 1
    if index >= len(arguments):
        return list(arguments)
    return [arguments[index], *arguments[:index], *arguments[index + 1 :]]


def complete(words: Sequence[str]) -> tuple[str, ...]:
    """What may follow: the last word is the one being written, the others come before it."""
    before, current = list(words[:-1]), words[-1] if words else ""
    names = [one.name for one in COMMANDS]
    command = next((word for word in before if word in names), "")
    if not command:
        return tuple(sorted(name for name in names if name.startswith(current)))
    parser = _parser_of(command)
    if before[-1] in ("-o", "--output"):
        return tuple(form for form in FORMS if form.startswith(current))
    if current.startswith("-"):
        options = {option for action in parser._actions for option in action.option_strings}  # noqa: SLF001
        return tuple(sorted(option for option in options if option.startswith(current) and option.startswith("--")))
    choices = next(
        (action.choices for action in parser._actions if action.choices and not action.option_strings),  # noqa: SLF001
        None,
    )
    return tuple(str(one) for one in choices or () if str(one).startswith(current))


def _parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    one = next(command for command in COMMANDS if command.name == name)
    one.options(parser)
    if one.cluster:
        _cluster_options(parser)
    if one.forms:
        parser.add_argument("-o", "--output", choices=FORMS)
    return parser
