"""From this host to a Service of the cluster.

The local driver's host is on the cluster's network (its kube-proxy works here), so a ClusterIP is called directly. From
outside, as with kind, kubectl forwards a port, to one pod and for as long as this process lives.
"""

from __future__ import annotations

import asyncio
import atexit
import re
import subprocess

from hack.stack.kubectl import Kubectl, KubectlError

ON_THE_NETWORK = frozenset({"local"})
"""Drivers whose host reaches ClusterIPs."""

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
_SECONDS = 30.0


async def host_url(kubectl: Kubectl, driver: str, namespace: str, service: str, *, timeout: float = 240.0) -> str:
    """http://... of a Service's first port as this host reaches it; waits until the Service is there.

    Raises NotYet without a Service, KubectlError when its port cannot be forwarded.
    """
    seen = await kubectl.until(
        "service",
        service,
        namespace,
        lambda seen: bool(seen["spec"].get("clusterIP")),
        timeout=timeout,
        what="an address",
    )
    port = int(seen["spec"]["ports"][0]["port"])
    if driver in ON_THE_NETWORK:
        return f"http://{seen['spec']['clusterIP']}:{port}"
    return f"http://127.0.0.1:{await forward(kubectl, namespace, service, port)}"


async def forward(kubectl: Kubectl, namespace: str, service: str, port: int) -> int:
    """A local port that leads to the Service until this process ends. Raises KubectlError."""
    process = _start(kubectl.command("port-forward", f"service/{service}", f":{port}", "-n", namespace))
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _SECONDS)
    except BaseException:
        process.kill()
        raise
    found = _FORWARDING.match(first)
    if found is None:
        process.kill()
        raise KubectlError(f"kubectl port-forward service/{service} -n {namespace}: {first.strip() or 'it ended'}")
    return int(found[1])


def _start(command: list[str]) -> subprocess.Popen[str]:
    """A child that ends with this process; not asyncio's, whose children end with their event loop."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    atexit.register(process.kill)
    return process
