"""Faults in running pods, played from the host: what no API can do to a container, the machine's owner can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from hack.stack.kubectl import Kubectl, Object

PROC = Path("/proc")


class NoSuchProcess(Exception):
    """The container's process is not to be found on this host."""


def container_status(pod: Object, container: str) -> Object:
    """Status of a container or init container of a pod; empty if there is none yet."""
    status = pod.get("status", {})
    every = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    return next((entry for entry in every if entry["name"] == container), {})


def first_process(container_id: str, proc: Path = PROC) -> int:
    """Host pid of process 1 of a container, found by its cgroup. Raises NoSuchProcess."""
    short = container_id.rpartition("/")[2]
    for folder in proc.glob("[0-9]*"):
        try:
            if not short or short not in (folder / "cgroup").read_text():
                continue
            status = (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        pids = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        if pids and pids[-1] == "1":
            return int(folder.name)
    raise NoSuchProcess(f"no process of container {container_id or '(none)'} on this host")


async def kill_container(kubectl: Kubectl, namespace: str, pod: str, container: str) -> int:
    """SIGKILL process 1 of a container, and with it all others there: a crash nobody saw coming. Returns its pid.

    From inside it cannot be done (a namespace's process 1 is immune to its children), so this needs the node's host.
    Raises NoSuchProcess.
    """
    pid = await process_one(kubectl, namespace, pod, container)
    os.kill(pid, signal.SIGKILL)
    return pid


@contextlib.asynccontextmanager
async def frozen_container(kubectl: Kubectl, namespace: str, pod: str, container: str) -> AsyncIterator[None]:
    """Process 1 of a container stands still while the block runs: it takes connections and answers nothing.

    Only for containers that no liveness probe would end meanwhile. Raises NoSuchProcess.
    """
    pid = await process_one(kubectl, namespace, pod, container)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def process_one(kubectl: Kubectl, namespace: str, pod: str, container: str) -> int:
    """Host pid of process 1 of a container: for faults that come when the API server cannot be asked any more. Raises
    NoSuchProcess.
    """
    seen = await kubectl.get("pod", pod, namespace)
    identity = str(container_status(seen, container).get("containerID", ""))
    return await asyncio.to_thread(first_process, identity)
