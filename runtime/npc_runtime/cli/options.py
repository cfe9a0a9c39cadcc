"""The options of each command."""

from __future__ import annotations

import argparse
import math

SHELLS = ("bash", "zsh", "fish")


def positive(text: str) -> float:
    """A number of seconds."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _number(text: str) -> float:
    """A number that a clock can count to."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _not_negative(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


def status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")
    parser.add_argument("-w", "--watch", action="store_true", help="show it again when something changed, until Ctrl-C")
    parser.add_argument(
        "--every", type=positive, default=2.0, metavar="SECONDS", help="how often --watch looks (default: 2)"
    )


def why_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        default="",
        metavar="[KIND/]NAME",
        help="region, tier, adapter (or its archetype) or pod; without it everything in the namespace",
    )


def narrowing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--archetype", default="", help="only this archetype")
    parser.add_argument("--tier", default="", help="only this tier")


def say_options(parser: argparse.ArgumentParser) -> None:
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
        "--timeout", type=positive, default=60.0, metavar="SECONDS", help="longest silence (default: 60)"
    )


def digest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR", help="an adapter's folder")


def lint_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a manifest, a folder of them, - for stdin, or an adapter's folder"
    )
    parser.add_argument(
        "--max-rank", type=_count, default=16, metavar="N", help="adapter: the tier's engine.maxLoraRank (default: 16)"
    )
    parser.add_argument("--base", default="", metavar="DIR", help="adapter: the tier's base model")


def drill_options(parser: argparse.ArgumentParser) -> None:
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


def dump_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", default="", metavar="FILE", help="the archive (default: npc-dump-NAMESPACE-TIME.tar.gz)"
    )


def completion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="whose script")


def history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="the adapter, or its archetype")
    parser.add_argument("--tier", default="", help="only this tier")


def _change_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="let the API server check it, and change nothing")
    parser.add_argument("--anyway", action="store_true", help="also where a tool keeps the field and will put it back")


def _asking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    _change_options(parser)


def approve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="the adapter, or its archetype")
    parser.add_argument("--digest", default="", help="which digest, whole or its beginning (default: the candidate)")
    _change_options(parser)


def rollback_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="the adapter, or its archetype")
    parser.add_argument("--tier", default="", help="only this tier (default: all that can go back)")
    parser.add_argument(
        "--to", default="", metavar="DIGEST", help="a digest of the history, whole or its first 12 digits or more"
    )
    _asking_options(parser)


def quarantine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("digest", help="the digest, whole or its first 12 digits or more where it is known here")
    parser.add_argument(
        "adapter", nargs="?", default="", help="for this adapter (default: the one that knows the digest)"
    )
    parser.add_argument("--region", action="store_true", help="for every voice of the region instead")
    parser.add_argument("--remove", action="store_true", help="take the digest off instead")
    _asking_options(parser)


def pause_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="[KIND/]NAME", help="an adapter (or its archetype), a tier or a region")
    _change_options(parser)
