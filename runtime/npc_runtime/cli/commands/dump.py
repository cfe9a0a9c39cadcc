"""dump: everything a stranger needs to understand an incident, in one archive without a secret in it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...wire import AgentReport, GatewayReport
from .. import paths
from .. import vocabulary as v
from ..answers import Answer, Code, text
from ..clients.agents import ask_agents, ask_gateways, read_access
from ..explain.target import explain_namespace
from ..facts import World
from ..observe import OURS
from ..ports import CliError, Cluster, Forbidden, NotFound, Object
from ..redact import Redactor, known_values
from ..render import render
from ..views.residency import engine_pods
from ..views.status import view_status
from ..views.why import view_why
from .session import Session

LOG_LINES = 2000
"""Per container, and as many of the process before it where there was one."""
OPERATOR_LINES = 10_000
"""Of the operator, whose audit lines are few among many."""
AUDIT = ".audit"
"""How the name of the logger ends that writes one line for each decision."""


def run_dump(session: Session) -> Code:
    """Write the archive and say what is in it and what could not be read."""
    cluster = session.connect()
    namespace = session.namespace(cluster)
    made = datetime.fromtimestamp(session.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
    target = Path(session.option("file") or f"npc-dump-{namespace}-{made}.tar.gz")
    if target.exists():
        raise CliError(f"{target} is already there", Code.USAGE, step="name another file with --file")
    if not target.parent.is_dir():
        # Said before the minutes that reading takes.
        raise CliError(f"there is no folder {target.parent}", Code.USAGE, step="name another file with --file")
    missing: list[str] = []
    world = _world(session, cluster, missing)
    redactor, looked = _redactor(cluster, world, missing)
    files = {
        name: body if name.endswith(".json") else redactor.text(body)
        for name, body in _files(session, cluster, world, redactor, missing)
    }
    files["about.json"] = json.dumps(
        {
            "made": made,
            "namespace": namespace,
            "secretValuesLookedFor": looked is None,
            "secretsLookedFor": looked,
            "notRead": sorted(set(missing)),
        },
        indent=2,
    )
    try:
        _write(target, files, int(session.now()))
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error}", Code.USAGE) from None
    size = target.stat().st_size
    lines = [f"{target}: {len(files)} files, {size} bytes"]
    if looked is not None:
        which = f"of the values of Secrets only those of {', '.join(looked)}" if looked else "no values of Secrets"
        lines.append(
            f"{which} could be read, so otherwise logs were only searched for what looks like a secret; "
            "read them before you hand them on"
        )
    lines += [f"not read: {one}" for one in sorted(set(missing))]
    data = {"file": str(target), "files": sorted(files), "bytes": size, "notRead": sorted(set(missing))}
    session.console.show(Answer(data, (text(*lines),)))
    return Code.FINE


def _world(session: Session, cluster: Cluster, missing: list[str]) -> World:
    """One look, or an empty one: the archive is for incidents, and CRDs that are gone are one. Raises NoCluster where
    nobody answers.
    """
    try:
        return session.world(cluster)
    except (Forbidden, NotFound) as error:
        missing.append(str(error))
        return World(namespace=session.namespace(cluster))


def _redactor(cluster: Cluster, world: World, missing: list[str]) -> tuple[Redactor, list[str] | None]:
    """One that knows the namespace's own secret values as far as the caller may read them, and the names of those
    Secrets, or None where it was all. The values stay in memory.
    """
    try:
        return Redactor(known_values(cluster.list(paths.core("secrets", world.namespace)))), None
    except CliError as error:
        missing.append(str(error))
    # Who may not list them may still read those that this tool is for.
    found: dict[str, Object] = {}
    for name in (v.SECRET_INTERNAL, *(one.auth_secret for one in world.regions if one.auth_secret)):
        try:
            found[name] = cluster.get(paths.core("secrets", world.namespace, name))
        except CliError as error:
            missing.append(str(error))
    return Redactor(known_values(found.values())), sorted(found)


def _files(
    session: Session, cluster: Cluster, world: World, redactor: Redactor, missing: list[str]
) -> Iterator[tuple[str, str]]:
    """(name, text) of each file; objects are redacted here, value by value, and plain text by the caller."""
    namespace = world.namespace
    missing += [one.why for one in world.unread]
    now = session.now()
    yield "status.txt", render(view_status((world,), now=now), form="table", colours=False)
    why = view_why(explain_namespace(world, now), unread=world.unread, now=now)
    yield "why.txt", render(why, form="table", colours=False)
    collections = {
        **{plural: (paths.own(kind, namespace), "") for kind, plural in v.PLURALS.items()},
        "pods": (paths.core("pods", namespace), OURS),
        "services": (paths.core("services", namespace), OURS),
        "deployments": (paths.deployments(namespace), OURS),
        "events": (paths.core("events", namespace), ""),
        "nodes": (paths.core("nodes"), ""),
    }
    pods: list[Object] = []
    for name, (path, selector) in collections.items():
        found = _read_list(cluster, path, selector, missing)
        pods = found if name == "pods" else pods
        yield f"objects/{name}.json", json.dumps([redactor.object(one) for one in found], indent=1)
    yield from _lease(session, cluster, redactor, missing)
    yield from _reports(cluster, world, redactor, missing)
    for pod in pods:
        yield from _logs(cluster, pod, missing)
    operator = session.option("operator_namespace")
    audit: list[str] = []
    for pod in _read_list(cluster, paths.core("pods", operator), "app.kubernetes.io/name=npc-operator", missing):
        for name, said in _logs(cluster, pod, missing, folder="operator-logs", lines=OPERATOR_LINES):
            audit += audit_lines(said)
            yield name, said
    # Each line begins with its time: the lines of all replicas in one order.
    yield "audit.txt", "".join(f"{one}\n" for one in sorted(audit))


def _reports(cluster: Cluster, world: World, redactor: Redactor, missing: list[str]) -> Iterator[tuple[str, str]]:
    """What each agent and each gateway says of itself, as far as the caller may ask."""
    engines = engine_pods(world, world.tiers)
    gateways = [pod for pod in world.pods if pod.component == v.COMPONENT_GATEWAY and pod.phase == "Running"]
    if not engines and not gateways:
        return
    try:
        access = read_access(cluster, world.namespace)
        heard: dict[str, Mapping[str, AgentReport | GatewayReport | CliError]] = {
            "agents": ask_agents(cluster, access, engines),
            "gateways": ask_gateways(cluster, access, gateways),
        }
    except CliError as error:
        missing.append(f"what agents and gateways say: {error}")
        return
    for folder, reports in heard.items():
        for name, report in reports.items():
            if isinstance(report, CliError):
                missing.append(f"{folder}/{name}: {report}")
            else:
                said = report.model_dump(mode="json", by_alias=True)
                yield f"{folder}/{name}.json", json.dumps(redactor.object(said), indent=1)


def audit_lines(log: str) -> list[str]:
    """The lines of an operator's log that are its audit trail, with the time the API server put before them."""
    found = []
    for line in log.splitlines():
        try:
            said = json.loads(line.partition(" ")[2])
        except ValueError:  # a traceback, or a log that is no JSON
            continue
        if isinstance(said, dict) and str(said.get("logger", "")).endswith(AUDIT):
            found.append(line)
    return found


def _lease(session: Session, cluster: Cluster, redactor: Redactor, missing: list[str]) -> Iterator[tuple[str, str]]:
    try:
        found = cluster.get(paths.lease(session.option("operator_namespace")))
    except CliError as error:
        missing.append(str(error))
        return
    yield "objects/lease.json", json.dumps(redactor.object(found), indent=1)


def _read_list(cluster: Cluster, path: str, selector: str, missing: list[str]) -> list[Object]:
    try:
        return list(cluster.list(path, selector=selector))
    except CliError as error:
        # One list that cannot be read must not cost the whole archive.
        missing.append(str(error))
        return []


def _logs(
    cluster: Cluster, pod: Object, missing: list[str], *, folder: str = "logs", lines: int = LOG_LINES
) -> Iterator[tuple[str, str]]:
    meta: Mapping[str, Any] = pod.get("metadata") or {}
    status: Mapping[str, Any] = pod.get("status") or {}
    name, namespace = str(meta.get("name")), str(meta.get("namespace"))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        own = str(container.get("name"))
        wanted = [(False, "log")] + ([(True, "previous.log")] if container.get("restartCount") else [])
        for previous, suffix in wanted:
            try:
                said = cluster.logs(namespace, name, own, previous=previous, lines=lines)
            except CliError as error:
                # A container that never ran has no log; one refusal must not cost the whole archive.
                missing.append(f"log of {name}/{own}: {error}")
                continue
            yield f"{folder}/{name}/{own}.{suffix}", said


def _write(target: Path, files: Mapping[str, str], now: int) -> None:
    """For its owner's eyes only, whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    root = target.name.removesuffix(".tar.gz")
    try:
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, body in sorted(files.items()):
                data = body.encode()
                entry = tarfile.TarInfo(f"{root}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), now, 0o600
                archive.addfile(entry, io.BytesIO(data))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
