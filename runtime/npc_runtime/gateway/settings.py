"""The gateway's command line, and the two variables of its environment. All that may differ between two gateways of one
region is here; everything else comes with the route table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npc_runtime import wire

POD_UID_ENV = "NPC_POD_UID"
"""The uid of the gateway's own pod, from the downward API. A variable and no flag: an image that does not know it yet
still starts."""

TLS_DIR_ENV = "NPC_TLS_DIR"
"""Where the data port's certificate is; the flag --tls-dir wins."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One process's settings; durations in seconds."""

    host: str
    port: int
    admin_port: int
    health_port: int
    agent_port: int
    internal_dir: Path
    routes_file: Path
    state_dir: Path
    shutdown_delay: float
    drain: float
    workers: int
    access_log: bool
    prefix_affinity: bool
    log_level: str
    tls_dir: Path | None
    """Without it the data port speaks plain HTTP."""
    pod_uid: str
    """Empty where nobody says it: then nothing is refused for being meant for another pod."""


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError("a port is 0 to 65535 (0: any free one)")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("0 to 86400 seconds")
    return value


def _workers(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError("1 to 64 workers")
    return value


def parse_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the command line and the environment, the process's own where none is given; exits with status 2 and a
    message when it is wrong."""
    environment = os.environ if environment is None else environment
    parser = argparse.ArgumentParser(
        prog="npc-gateway",
        description="OpenAI-compatible gateway of a region: sends each NPC's line to a pod with its adapter.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_ports(parser)
    _add_folders(parser, environment.get(TLS_DIR_ENV) or None)
    _add_behaviour(parser)
    return Settings(**vars(parser.parse_args(arguments)), pod_uid=environment.get(POD_UID_ENV, ""))


def _add_ports(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="0.0.0.0", help="address all ports listen on; :: for IPv6")  # noqa: S104 (a pod's ports)
    add("--port", type=_port, default=wire.GATEWAY_PORT, help="HTTP for game servers, HTTPS with --tls-dir")
    add("--admin-port", type=_port, default=wire.GATEWAY_ADMIN_PORT, help="TLS and token, for the operator")
    add("--health-port", type=_port, default=wire.GATEWAY_HEALTH_PORT, help="/healthz /readyz /metrics /openapi.json")
    add("--agent-port", type=_port, default=wire.AGENT_PORT, help="port of the agents beside the engines")


def _add_folders(parser: argparse.ArgumentParser, tls_dir: str | None) -> None:
    add = parser.add_argument
    add(
        "--internal-dir",
        type=Path,
        default=Path("/etc/npc/internal"),
        help="folder with tls.crt, tls.key, ca.crt, token and optionally token-previous; followed while running",
    )
    add(
        "--tls-dir",
        type=Path,
        default=tls_dir,
        help=f"folder with tls.crt and tls.key of the data port; followed while running (environment: {TLS_DIR_ENV})",
    )
    add(
        "--routes-file",
        type=Path,
        default=Path("/etc/npc/routes/routes.json.gz"),
        help="route table to start with when the operator is away; may be missing",
    )
    add(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/npc-gateway"),
        help="writable folder that keeps the last route table",
    )


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--shutdown-delay-seconds",
        dest="shutdown_delay",
        type=_seconds,
        default=5.0,
        help="after SIGTERM: how long to go on accepting while endpoints are removed",
    )
    add(
        "--drain-seconds",
        dest="drain",
        type=_seconds,
        default=60.0,
        help="after that: how long running answers may take",
    )
    add("--workers", type=_workers, default=1, help="processes that share the port, one event loop each")
    add("--access-log", action=argparse.BooleanOptionalAction, default=True, help="one JSON line per request on stdout")
    add(
        "--prefix-affinity",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="of several pods ask the one that most likely has a line's beginning in its prefix cache; "
        "without it the least busy one",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="of the JSON log on stderr")
