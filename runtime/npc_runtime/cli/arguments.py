"""The command line: every command, option and example; `kubectl npc --help` is its documentation."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import vocabulary as v
from .answers import Code

FORMS = ("table", "json", "yaml")
SHELLS = ("bash", "zsh", "fish")

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
  {Code.DECLINED:<4} drill: nobody said yes
  {Code.INTERRUPTED:<4} interrupted
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, its options, what it can show."""

    name: str
    help: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser], None]
    cluster: bool = True
    forms: bool = True


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")
    parser.add_argument("-w", "--watch", action="store_true", help="show it again when something changed, until Ctrl-C")
    parser.add_argument(
        "--every", type=_positive, default=2.0, metavar="SECONDS", help="how often --watch looks (default: 2)"
    )


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        default="",
        metavar="[KIND/]NAME",
        help="region, tier, adapter (or its archetype) or pod; without it everything in the namespace",
    )


def _matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--archetype", default="", help="only this archetype")
    parser.add_argument("--tier", default="", help="only this tier")


def _diff(_: argparse.ArgumentParser) -> None:
    """diff has no options of its own."""


def _say(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archetype", help="who is asked")
    parser.add_argument("text", help="what is said to them")
    parser.add_argument("--tier", default="", help="the tier that should answer (default: as the region assigns it)")
    parser.add_argument("--npc", default="", metavar="ID", help="the character's id, which may choose the tier")
    parser.add_argument(
        "--key-secret",
        default="",
        metavar="SECRET[/ENTRY]",
        help="Secret with the API key (default: the region's gateway.auth.secretRef, its first entry)",
    )
    parser.add_argument("--max-tokens", type=_count, default=200, help="longest answer (default: 200)")
    parser.add_argument(
        "--timeout", type=_positive, default=60.0, metavar="SECONDS", help="longest silence (default: 60)"
    )


def _digest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR", help="an adapter's folder")


def _lint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a manifest, a folder of them, - for stdin, or an adapter's folder"
    )
    parser.add_argument(
        "--max-rank", type=_count, default=16, metavar="N", help="adapter: the tier's engine.maxLoraRank (default: 16)"
    )
    parser.add_argument("--base", default="", metavar="DIR", help="adapter: the tier's base model")


def _drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("engine", "pod", "leader"), help="what is to go")
    parser.add_argument("pod", nargs="?", default="", help="the engine pod (engine, pod)")
    parser.add_argument("--tier", default="", help="instead of a pod: any ready one of this tier")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--wait",
        type=_not_negative,
        default=600.0,
        metavar="SECONDS",
        help="how long it may take until it is there again; 0: do not wait (default: 600)",
    )


def _dump(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", default="", metavar="FILE", help="the archive (default: npc-dump-NAMESPACE-TIME.tar.gz)"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="whose script")


COMMANDS: tuple[Command, ...] = (
    Command(
        "status",
        "regions, tiers and adapters at a glance",
        ("kubectl npc status -n eu-west", "kubectl npc status -A --watch"),
        _status,
    ),
    Command(
        "why",
        "the chain of causes of a region, tier, adapter or pod, with the next command",
        ("kubectl npc why -n eu-west", "kubectl npc why tier/gold", "kubectl npc why vampire"),
        _why,
    ),
    Command(
        "matrix",
        "what each engine pod holds: archetype, tier, pod, digest, since when (asks the agents)",
        ("kubectl npc matrix -n eu-west --archetype vampire", "kubectl npc matrix -o json"),
        _matrix,
    ),
    Command(
        "diff",
        "where pods hold something else than specs want (asks the agents)",
        ("kubectl npc diff -n eu-west",),
        _diff,
    ),
    Command(
        "say",
        "one line of a character through the region's gateway, with the tier and digest that spoke",
        ('kubectl npc say vampire "Who are you?" -n eu-west', 'kubectl npc say vampire "Hello" --tier gold -o json'),
        _say,
    ),
    Command(
        "digest", "the digest of an adapter's folder", ("kubectl npc digest ./vampire-v2",), _digest, cluster=False
    ),
    Command(
        "lint",
        "manifests or an adapter's folder, without a cluster",
        (
            "kubectl npc lint manifests/",
            "kubectl npc lint ./vampire-v2 --max-rank 16 --base ./Qwen3-8B",
        ),
        _lint,
        cluster=False,
    ),
    Command(
        "drill",
        "kill an engine, a pod or the leader on purpose, and tell how long it took to heal; asks first",
        ("kubectl npc drill engine --tier bronze -n eu-west", "kubectl npc drill leader --yes"),
        _drill,
    ),
    Command(
        "dump",
        "objects, conditions, Events and logs in one archive, without secrets",
        ("kubectl npc dump -n eu-west --file incident.tar.gz",),
        _dump,
    ),
    Command(
        "completion",
        "a completion script for your shell",
        ("source <(kubectl-npc completion bash)", "kubectl-npc completion fish | source"),
        _completion,
        cluster=False,
        forms=False,
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="kubectl npc",
        description="Asks a cluster what its voices do, and why: with your rights, and only drill changes things.",
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
        "--operator-namespace",
        default=v.OPERATOR_NAMESPACE,
        metavar="NAMESPACE",
        help="where the operator and its Lease are (default: %(default)s)",
    )


def command_first(arguments: Sequence[str]) -> list[str]:
    """The same words with what stands before the command put behind it: `kubectl npc -n eu-west status` works too."""
    names = {one.name for one in COMMANDS}
    valued = {"-n", "--namespace", "--context", "--kubeconfig", "--operator-namespace", "-o", "--output"}
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
