"""The agent's command line, parsed once into frozen settings. Nothing else of the agent reads arguments or, but for
boto3, the environment.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..wire import AGENT_HEALTH_PORT, AGENT_PORT
from .metadata import CLOUDS, Cloud

POD_UID_ENV = "NPC_POD_UID"
"""The uid of the agent's own pod. An environment variable and no flag: an agent image that does not know it yet still
starts.
"""


@dataclass(frozen=True, slots=True)
class BaseLocation:
    """Where the base model's own files can be seen: a folder, or a repository in a Hugging Face cache, or neither."""

    model_dir: Path | None = None
    hf_home: Path | None = None
    hf_model: str = ""
    hf_revision: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """`npc-agent serve`. Sizes in bytes, times in seconds."""

    engine_url: str
    engine_key_files: tuple[Path, ...]
    internal_dir: Path
    base: BaseLocation
    adapters_dir: Path
    cache_size: int
    max_adapter_size: int
    max_cpu_loras: int
    max_lora_rank: int
    file_roots: tuple[Path, ...]
    socket: Path
    progress_file: Path | None
    ready_timeout_seconds: float
    drain_seconds: float
    namespace: str
    region: str
    tier: str
    pod: str
    pod_uid: str
    """Empty where nobody says it: then nothing is refused for being meant for another pod."""
    metadata: Cloud | None
    """Whose metadata service is asked whether the machine goes away; None: nobody's."""
    metadata_url: str
    """Where it is, if not at its usual address."""
    host: str
    port: int
    health_port: int
    log_level: str


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`npc-agent fetch-model`."""

    uri: str
    model_dir: Path
    progress_file: Path | None
    credentials_dir: Path | None
    file_roots: tuple[Path, ...]
    parallel: int
    log_level: str


def parse(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings | ModelSettings:
    """The settings of one start, from the process's own arguments and environment where none are given; exits with
    code 2 and a message for wrong usage, as argparse does.
    """
    environment = os.environ if environment is None else environment
    options = _parser().parse_args(arguments)
    if options.command == "fetch-model":
        return ModelSettings(
            uri=options.uri,
            model_dir=options.model_dir,
            progress_file=options.progress_file,
            credentials_dir=options.credentials_dir,
            file_roots=tuple(options.file_root),
            parallel=options.parallel,
            log_level=options.log_level,
        )
    return Settings(
        engine_url=options.engine_url.rstrip("/"),
        engine_key_files=tuple(options.engine_key_file),
        internal_dir=options.internal_dir,
        base=BaseLocation(options.model_dir, options.hf_home, options.hf_model, options.hf_revision),
        adapters_dir=options.adapters_dir,
        cache_size=options.cache_size,
        max_adapter_size=min(options.max_adapter_size, options.cache_size),
        max_cpu_loras=options.max_cpu_loras,
        max_lora_rank=options.max_lora_rank,
        file_roots=tuple(options.file_root),
        socket=options.socket,
        progress_file=options.progress_file,
        ready_timeout_seconds=options.ready_timeout_seconds,
        drain_seconds=options.drain_seconds,
        namespace=options.namespace,
        region=options.region,
        tier=options.tier,
        pod=options.pod,
        pod_uid=environment.get(POD_UID_ENV, ""),
        metadata=next((cloud for cloud in CLOUDS if cloud == options.metadata), None),
        metadata_url=options.metadata_url,
        host=options.host,
        port=options.port,
        health_port=options.health_port,
        log_level=options.log_level,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npc-agent", description="Fetches, inspects, loads and proves the adapters of one engine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(commands.add_parser("serve", help="run beside an engine (native sidecar)"))
    _add_fetch_model(commands.add_parser("fetch-model", help="bring a base model into a folder (init container)"))
    for command in commands.choices.values():
        command.add_argument(
            "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="JSON lines on stderr"
        )
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--engine-url", required=True, help="http://127.0.0.1:<port of the engine>")
    add(
        "--engine-key-file",
        type=Path,
        action="append",
        default=[],
        help="file with the engine's API key; repeatable: the next is tried on 401; re-read when changed",
    )
    add(
        "--internal-dir",
        type=Path,
        required=True,
        help="folder with tls.crt, tls.key, ca.crt, token and token-previous; re-read when changed",
    )
    add("--model-dir", type=Path, help="folder of the base model, which adapters are compared with")
    add("--hf-home", type=Path, help="HF_HOME of the engine, for models that the engine downloads itself")
    add("--hf-model", default="", help="organisation/name of such a model")
    add("--hf-revision", default="", help="its revision (branch, tag or commit)")
    add(
        "--adapters-dir",
        type=Path,
        required=True,
        help="content-addressed folder of adapters; the engine must see it at the same path",
    )
    add("--cache-size", type=_positive, default=10 << 30, help="bytes of adapters kept on disk (default 10 GiB)")
    add("--max-adapter-size", type=_positive, default=4 << 30, help="bytes of one adapter (default 4 GiB)")
    add("--max-cpu-loras", type=_positive, required=True, help="as the engine's flag of that name")
    add("--max-lora-rank", type=_positive, required=True, help="as the engine's flag of that name")
    add(
        "--file-root",
        type=Path,
        action="append",
        default=[],
        help="folder below which file:// adapters may lie; repeatable",
    )
    add(
        "--socket",
        type=Path,
        default=Path("/run/npc/agent.sock"),
        help="Unix socket that the engine's preStop drains through",
    )
    add("--progress-file", type=Path, help="where fetch-model of this pod writes its progress")
    add(
        "--ready-timeout-seconds",
        type=_positive,
        default=300,
        help="longest wait for the first set of adapters, from the engine's first answer",
    )
    add("--drain-seconds", type=_not_negative, default=60, help="longest wait for running lines")
    add("--namespace", required=True, help="for logs and metrics")
    add("--region", required=True, help="for logs and metrics")
    add("--tier", required=True, help="for logs and metrics")
    add("--pod", required=True, help="for logs and metrics")
    add(
        "--metadata",
        choices=("Off", *CLOUDS),
        default="Off",
        help="ask this cloud's metadata service whether the machine goes away (default: Off)",
    )
    add("--metadata-url", default="", help="where that is, e.g. http://[fd00:ec2::254] on machines without IPv4")
    add("--host", default="", help="address to listen on (default: all, IPv4 and IPv6)")
    add("--port", type=_not_negative, default=AGENT_PORT, help="TLS port of operator and gateways")
    add("--health-port", type=_not_negative, default=AGENT_HEALTH_PORT, help="plain port of kubelet and Prometheus")


def _add_fetch_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--uri", required=True, help="s3://bucket/prefix or file:///srv/adapters")
    add("--model-dir", type=Path, required=True, help="the folder to make; what the engine gets as --model")
    add("--progress-file", type=Path, help="JSON progress for the agent of this pod")
    add("--credentials-dir", type=Path, help="mounted Secret with files AWS_ACCESS_KEY_ID and so on")
    add(
        "--file-root",
        type=Path,
        action="append",
        default=[],
        help="folder below which a file:// model may lie; repeatable",
    )
    add("--parallel", type=_positive, default=4, help="files fetched at a time")


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
