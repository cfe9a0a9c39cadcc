"""``python3 -m hack.cluster``: the local cluster from the command line."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from hack.cluster import faults, guests, karpenter, node_faults, notices
from hack.cluster.console import say, tail
from hack.cluster.drivers import NAMES, driver
from hack.cluster.errors import ClusterError
from hack.cluster.info import Driver

_DESCRIPTION = """\
A real Kubernetes cluster on this host, for the demo and the tests: one command to have it, one to be rid of it.
Environment: NPC_FLEET_STATE (folder of the running cluster), NPC_FLEET_CACHE (built programs and images),
NPC_FLEET_NETWORK (private /15 for pods and services), NPC_FLEET_OFFLINE=1 (no download attempts),
NPC_FLEET_BIN_<PROGRAM> (use this program). See docs/local-cluster.md."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m hack.cluster", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--driver", choices=NAMES, default="auto", help="how to have a cluster (default: what fits)")
    parser.add_argument("--context", default="", help="the kubeconfig context of the driver 'context'")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start or repair the cluster").set_defaults(run=_up)
    commands.add_parser("down", help="remove the cluster and everything it made").set_defaults(run=_down)
    commands.add_parser("status", help="what runs; exit status 1 when a part does not").set_defaults(run=_status)
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig").set_defaults(run=_kubeconfig)

    load = commands.add_parser("load-image", help="make an image available to every node")
    load.add_argument(
        "image",
        help="'fleet' or 'engine-base' to build and load ours, or the path of an OCI or Docker archive",
    )
    load.add_argument("--name", default="", help="the image's name in an archive")
    load.set_defaults(run=_load_image)

    node = commands.add_parser("node", help="add or remove a node")
    verbs = node.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add a node, or repair it")
    add.add_argument("name", help="the node's name")
    add.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    add.add_argument("--taint", action="append", default=[], metavar="KEY[=VALUE]:EFFECT", help="repeatable")
    add.set_defaults(run=_node_add)
    remove = verbs.add_parser("remove", help="remove a node at once, as a scale-down of the machine would")
    remove.add_argument("name", help="the node's name")
    remove.set_defaults(run=_node_remove)
    notice = verbs.add_parser("notice", help="write onto a node what announces that its machine goes")
    notice.add_argument("name", help="the node's name")
    notice.add_argument("--seconds", type=float, default=120.0, metavar="N", help="until it goes (default: 120)")
    notice.add_argument("--as", dest="source", choices=notices.SOURCES, default="nth", help="in whose way")
    notice.add_argument("--drain", action="store_true", help="then evict its pods, until the time is over")
    notice.add_argument("--kill", action="store_true", help="wait until the time is over, then kill the node")
    notice.set_defaults(run=_node_notice)
    silent = verbs.add_parser("silence", help="drop a node's packets silently: connections are left hanging")
    silent.add_argument("name", help="the node's name")
    silent.set_defaults(run=_node_silence)
    revive = verbs.add_parser("revive", help="bring a node back, whatever happened to it, without its notices")
    revive.add_argument("name", help="the node's name")
    revive.set_defaults(run=_node_revive)

    guest = commands.add_parser("karpenter", help="run the real Karpenter with fake instances beside the real nodes")
    verbs = guest.add_subparsers(dest="verb", required=True, metavar="VERB")
    start = verbs.add_parser("up", help="start or repair it, and kwok with it")
    start.add_argument("--without-spot", action="store_true", help="no spot capacity is to be had")
    start.set_defaults(run=_karpenter_up)
    verbs.add_parser("down", help="remove it with its fake nodes and its kinds").set_defaults(run=_karpenter_down)

    logs = commands.add_parser("logs", help="show the logs of the cluster's processes")
    logs.add_argument("process", nargs="?", default="", help="one process (default: the last lines of each)")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C; needs a process")
    logs.set_defaults(run=_logs)
    return parser


def _up(cluster: Driver, _arguments: argparse.Namespace) -> int:
    info = cluster.up(None)
    say(f"try: export KUBECONFIG={info.kubeconfig}")
    return 0


def _down(cluster: Driver, _arguments: argparse.Namespace) -> int:
    cluster.down()
    return 0


def _status(cluster: Driver, _arguments: argparse.Namespace) -> int:
    parts = cluster.status()
    width = max((len(part.name) for part in parts), default=0)
    for part in parts:
        print(f"{'ok ' if part.ok else 'BAD'}  {part.name:<{width}}  {part.detail}")
    if all(part.ok for part in parts):
        return 0
    say("'python3 -m hack.cluster up' repairs what is broken")
    return 1


def _kubeconfig(cluster: Driver, _arguments: argparse.Namespace) -> int:
    info = cluster.info()
    if info is None:
        raise ClusterError("there is no cluster; start one with: python3 -m hack.cluster up")
    print(info.kubeconfig)
    return 0


def _load_image(cluster: Driver, arguments: argparse.Namespace) -> int:
    from hack.images import build  # only this command needs the image tools

    image = build.resolve(arguments.image, arguments.name)
    cluster.load_image(image)
    print(image.name)
    return 0


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping.

    :raises ClusterError: for a word without ``=``.
    """
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ClusterError(f"label {pair!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _node_add(cluster: Driver, arguments: argparse.Namespace) -> int:
    cluster.add_node(arguments.name, parse_labels(arguments.label), arguments.taint)
    return 0


def _node_remove(cluster: Driver, arguments: argparse.Namespace) -> int:
    cluster.remove_node(arguments.name)
    return 0


def _only_local(cluster: Driver) -> None:
    """:raises ClusterError: for another driver: its nodes are not ours to harm."""
    if cluster.name != "local":
        raise ClusterError(f"only the driver 'local' can do this, and this cluster is of the driver {cluster.name!r}")


def _node_notice(cluster: Driver, arguments: argparse.Namespace) -> int:
    _only_local(cluster)
    deadline = node_faults.give_notice(arguments.name, seconds=arguments.seconds, source=arguments.source)
    if arguments.drain:
        node_faults.drain_node(arguments.name, seconds=arguments.seconds)
    if arguments.kill:
        time.sleep(max(0.0, deadline.timestamp() - time.time()))
        faults.kill_node(arguments.name)
        say(f"{arguments.name} is gone; 'node revive {arguments.name}' brings it back")
    return 0


def _node_silence(cluster: Driver, arguments: argparse.Namespace) -> int:
    _only_local(cluster)
    node_faults.silence_node(arguments.name)
    return 0


def _node_revive(cluster: Driver, arguments: argparse.Namespace) -> int:
    _only_local(cluster)
    node_faults.revive_node(arguments.name)
    return 0


def _karpenter_up(cluster: Driver, arguments: argparse.Namespace) -> int:
    _only_local(cluster)
    guests.karpenter_up(karpenter.without_spot() if arguments.without_spot else karpenter.DEFAULT_TYPES)
    return 0


def _karpenter_down(cluster: Driver, _arguments: argparse.Namespace) -> int:
    _only_local(cluster)
    guests.karpenter_down()
    return 0


def _logs(cluster: Driver, arguments: argparse.Namespace) -> int:
    logs = cluster.logs()
    if arguments.process:
        if arguments.process not in logs:
            raise ClusterError(f"no process {arguments.process!r}; known: {', '.join(sorted(logs)) or 'none'}")
        follow = ["--follow"] if arguments.follow else []
        return subprocess.call(["tail", "--lines=200", *follow, str(logs[arguments.process])])
    if arguments.follow:
        raise ClusterError("--follow needs the name of one process")
    for process, path in logs.items():
        if process != "audit":
            print(f"== {process}: {path}\n{tail(path, 5)}")
    return 0


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 1 for an error a person can act on, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        cluster = driver(arguments.driver, context=arguments.context)
        status: int = arguments.run(cluster, arguments)
        return status
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here, 'down' removes everything")
        return 130
    except BrokenPipeError:
        # The reader has gone (`... | head`); leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
