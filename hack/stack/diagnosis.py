"""What an experienced person would look at first when something is not as it should be, in one text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hack.stack.faults import container_status
from hack.stack.kubectl import Kubectl, KubectlError, Object

LOG_LINES = 20
EVENTS = 25


async def diagnose(kubectl: Kubectl, namespaces: Sequence[str]) -> str:
    """Conditions, pods that are not well with the end of their logs, and recent events. Never raises for a cluster
    that does not answer: it says so instead.
    """
    parts: list[str] = []
    for namespace in namespaces:
        parts.append(f"--- namespace {namespace}")
        try:
            parts += await _namespace(kubectl, namespace)
        except (KubectlError, TimeoutError) as error:
            parts.append(f"  cannot be looked at: {error}")
    return "\n".join(parts)


async def _namespace(kubectl: Kubectl, namespace: str) -> list[str]:
    pods = await kubectl.list("pods", namespace)
    events = await kubectl.run("events", "-n", namespace)
    return [
        *await _conditions(kubectl, namespace),
        *(line for pod in pods for line in pod_lines(pod)),
        *await _logs(kubectl, namespace, [pod for pod in pods if not is_well(pod)] or pods[:2]),
        "events:",
        *(f"  {line}" for line in events.splitlines()[-EVENTS:]),
    ]


async def _conditions(kubectl: Kubectl, namespace: str) -> list[str]:
    try:
        ours = await kubectl.list("npcregions,gputiers,archetypeadapters", namespace)
    except KubectlError as error:
        return [f"objects of npcfleet.dev: {error}"]
    return [line for seen in ours for line in condition_lines(seen)]


async def _logs(kubectl: Kubectl, namespace: str, pods: Sequence[Object]) -> list[str]:
    wanted = [
        (pod["metadata"]["name"], container["name"], previous)
        for pod in pods
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
        for previous in ((False, True) if container_status(pod, container["name"]).get("restartCount") else (False,))
    ]
    return [
        line
        for lines in await asyncio.gather(*(_log(kubectl, namespace, *entry) for entry in wanted))
        for line in lines
    ]


async def _log(kubectl: Kubectl, namespace: str, pod: str, container: str, previous: bool) -> list[str]:
    title = f"log of {pod}/{container}{' before its last restart' if previous else ''}:"
    more = ("--previous",) if previous else ()
    try:
        text = await kubectl.run("logs", pod, "-c", container, "-n", namespace, f"--tail={LOG_LINES}", *more)
    except (KubectlError, TimeoutError) as error:
        return [title, f"  {error}"]
    return [title, *(f"  {line}" for line in text.splitlines())]


def condition_lines(seen: Object) -> list[str]:
    """An object of ours with its conditions, one per line."""
    name = f"{seen['kind']} {seen['metadata']['name']}"
    conditions = seen.get("status", {}).get("conditions", ())
    if not conditions:
        return [f"{name}: no status: the operator has not looked at it"]
    return [
        f"{name}:",
        *(f"  {c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}" for c in conditions),
    ]


def is_well(pod: Object) -> bool:
    """Ready, or done."""
    status = pod.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return ready or status.get("phase") == "Succeeded"


def pod_lines(pod: Object) -> list[str]:
    """A pod, and what each of its containers that does not run waits for or ended of."""
    status, meta = pod.get("status", {}), pod["metadata"]
    state = f"{status.get('phase', '?')}{'' if is_well(pod) else ', not ready'}"
    lines = [
        f"pod {meta['name']}: {state} on {pod['spec'].get('nodeName', 'no node')}",
        *(
            f"  not scheduled: {condition.get('message', '')}"
            for condition in status.get("conditions", ())
            if condition["type"] == "PodScheduled" and condition["status"] != "True"
        ),
    ]
    for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        now, last = entry.get("state", {}), entry.get("lastState", {})
        waiting, ended = now.get("waiting"), now.get("terminated") or last.get("terminated")
        if waiting:
            lines.append(f"  {entry['name']} waits: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip())
        if ended and ended.get("exitCode"):
            lines.append(
                f"  {entry['name']} ended with {ended['exitCode']} {ended.get('reason', '')},"
                f" {entry.get('restartCount', 0)} restarts"
            )
    return lines
