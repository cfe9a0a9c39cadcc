"""What can be set, and the only place that reads the environment: flags for people, variables for what a pod is told
by its own manifest."""

from __future__ import annotations

import argparse
import os
import re
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from npc_operator.api.interruption import InterruptionQueue
from npc_operator.domain.interruption.queues import QueueRef
from npc_operator.edge.logs import FORMATS, LEVELS

DEFAULT_ENGINE_IMAGE = "vllm/vllm-openai:v0.32.0"
"""The release the agent's behaviour was proven against (its CPU build); anything from 0.18 on has the interfaces
used."""
DEFAULT_METRICS_PORT = 8080
_REGION_IN_HOST = re.compile(r"https://sqs(?:-fips)?\.([a-z0-9-]+)\.")
"""How SQS's own addresses say their region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the composition root needs to know."""

    command: str
    namespaces: tuple[str, ...]
    engine_image: str
    fleet_image: str
    image_pull_policy: str
    own_namespace: str
    identity: str
    lease_name: str
    lease_namespace: str
    metrics_host: str
    metrics_port: int
    resync_seconds: float
    workers: int
    log_level: str
    log_format: str
    kubeconfig: str
    context: str
    in_cluster: str
    """host:port of the API server as a pod is told; empty outside of one."""
    interruption_queue: QueueRef | None = None
    """The operator's own; tiers may name others."""


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The command line; `npc-operator --help` is its documentation."""
    parser = argparse.ArgumentParser(
        prog="npc-operator",
        description="Keeps NPCRegions, GpuTiers and ArchetypeAdapters as they say: pods, proven adapters, gateways.",
        epilog="Environment: WATCH_NAMESPACES (comma-separated) where --namespace is not given; POD_NAMESPACE, "
        "POD_NAME and KUBERNETES_SERVICE_HOST as set in a pod; KUBECONFIG outside of one; AWS_REGION, and what else "
        "boto3 knows of an identity, for interruption queues.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("run", "check"),
        default="run",
        help="run (default): work until SIGTERM. check: say what is missing, and the command that mends it",
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--fleet-image",
        metavar="IMAGE",
        default="",
        help="image of agents and gateways: the operator's own; needed to run",
    )
    images.add_argument(
        "--engine-image",
        metavar="IMAGE",
        default=DEFAULT_ENGINE_IMAGE,
        help="vLLM image (>= 0.18) of tiers that name none (default: %(default)s)",
    )
    images.add_argument(
        "--image-pull-policy",
        choices=("", "Always", "IfNotPresent", "Never"),
        default="",
        help="pull policy of both in the pods made (default: the cluster's)",
    )
    scope = parser.add_argument_group("where to look")
    scope.add_argument(
        "--namespace",
        metavar="NAME",
        action="append",
        default=[],
        help="only this namespace; repeatable (default: all)",
    )
    scope.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="outside a pod: credentials (default: $KUBECONFIG)"
    )
    scope.add_argument(
        "--context", metavar="NAME", default="", help="context of the kubeconfig (default: its current one)"
    )
    scope.add_argument(
        "--resync-seconds",
        type=_positive,
        default=300.0,
        metavar="S",
        help="everything is looked at again this often, +- 20%% (default: %(default)g)",
    )
    queue = parser.add_argument_group("interruptions")
    queue.add_argument(
        "--interruption-queue",
        metavar="URL",
        default="",
        help="SQS queue of this operator's own that EventBridge sends EC2's events to, for all tiers (default: none). "
        "Never Karpenter's or a termination handler's: every reader takes messages from the others",
    )
    queue.add_argument(
        "--interruption-queue-region",
        metavar="REGION",
        default="",
        help="its region (default: as its URL says, else $AWS_REGION)",
    )
    election = parser.add_argument_group("leader election")
    election.add_argument(
        "--lease-name", default="npc-operator", metavar="NAME", help="the Lease (default: %(default)s)"
    )
    election.add_argument(
        "--lease-namespace", default="", metavar="NAME", help="its namespace (default: the operator's own)"
    )
    process = parser.add_argument_group("process")
    process.add_argument(
        "--workers", type=int, default=32, metavar="N", help="reconciles that run at a time (default: %(default)s)"
    )
    process.add_argument(
        "--metrics-host",
        default="",
        metavar="ADDRESS",
        help="where /healthz, /readyz and /metrics listen (default: all)",
    )
    process.add_argument(
        "--metrics-port", type=int, default=DEFAULT_METRICS_PORT, metavar="N", help="their port (default: %(default)s)"
    )
    process.add_argument("--log-level", choices=LEVELS, default="info", help="(default: %(default)s)")
    process.add_argument("--log-format", choices=FORMATS, default="json", help="(default: %(default)s)")
    return parser


def _service_address(env: Mapping[str, str]) -> str:
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    if not host:
        return ""
    return f"{f'[{host}]' if ':' in host else host}:{env.get('KUBERNETES_SERVICE_PORT', '443')}"


def _read_queue(url: str, region: str, env: Mapping[str, str]) -> QueueRef | None:
    """The operator's own queue, by the rules that a tier's is held to. Raises ValueError with what is wrong."""
    if not url:
        if region:
            raise ValueError("--interruption-queue-region without --interruption-queue")
        return None
    said = _REGION_IN_HOST.match(url)
    found = region or (said[1] if said else "") or env.get("AWS_REGION", "") or env.get("AWS_DEFAULT_REGION", "")
    try:
        queue = InterruptionQueue(url=url, region=found)
    except ValidationError as error:
        wrong = {"region" if "region" in fault["loc"] else "URL" for fault in error.errors()}
        raise ValueError(f"--interruption-queue: {' and '.join(sorted(wrong))} cannot be used") from None
    return QueueRef(url=queue.url, region=queue.region)


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """From the command line and the environment. Exits with code 2 and a message on a usage fault."""
    env = os.environ if environment is None else environment
    parser = build_parser()
    given = parser.parse_args(arguments)
    if given.command == "run" and not given.fleet_image:
        parser.error("--fleet-image is needed: agents and gateways run the operator's own image")
    if given.workers < 1:
        parser.error("--workers must be at least 1")
    try:
        queue = _read_queue(given.interruption_queue, given.interruption_queue_region, env)
    except ValueError as error:
        parser.error(str(error))
    named = given.namespace or [name.strip() for name in env.get("WATCH_NAMESPACES", "").split(",")]
    own = env.get("POD_NAMESPACE", "") or given.lease_namespace or "default"
    host = env.get("POD_NAME", "") or socket.gethostname()
    return Settings(
        command=given.command,
        namespaces=tuple(dict.fromkeys(name for name in named if name)),
        engine_image=given.engine_image,
        fleet_image=given.fleet_image,
        image_pull_policy=given.image_pull_policy,
        own_namespace=own,
        # A restarted container keeps its pod's name: only a fresh part makes the identity that of one process.
        identity=f"{host}_{uuid.uuid4().hex[:12]}",
        lease_name=given.lease_name,
        lease_namespace=given.lease_namespace or own,
        metrics_host=given.metrics_host,
        metrics_port=given.metrics_port,
        resync_seconds=given.resync_seconds,
        workers=given.workers,
        log_level=given.log_level,
        log_format=given.log_format,
        kubeconfig=given.kubeconfig or env.get("KUBECONFIG", ""),
        context=given.context,
        in_cluster="" if given.kubeconfig else _service_address(env),
        interruption_queue=queue,
    )
