"""A real node is announced to go, falls silent, and comes back: on a node of its own, with a pod that answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from hack.cluster import api
from hack.cluster.node import is_ready
from hack.cluster.notices import AKS_CONDITION, AKS_TAINT, NTH_TAINT
from hack.stack import commands
from hack.stack.install import Stack

SPARE = "spare-2"
KEY = "e2e.npcfleet.dev/faults"
POD, NAMESPACE, PORT = "on-the-faulty-node", "default", 8080
UNHEARD_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Spare:
    """The node's pod: where it listens, and which one it is."""

    address: str
    uid: str

    async def answers(self) -> bool:
        """Whether the pod answers; False when nothing is heard at all. Everything else is raised."""

        def ask() -> bool:
            try:
                with socket.create_connection((self.address, PORT), timeout=UNHEARD_SECONDS) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return connection.recv(64).startswith(b"HTTP/1")
            except TimeoutError:
                return False

        return await asyncio.to_thread(ask)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def spare(stack: Stack) -> AsyncIterator[Spare]:
    taint = f"{KEY}=yes:NoSchedule"
    await commands.run_tool("hack.cluster", "node", "add", SPARE, "--label", f"{KEY}=yes", "--taint", taint)
    await stack.kubectl.delete("pod", POD, NAMESPACE)
    await stack.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": NAMESPACE},
            "spec": {
                "nodeSelector": {KEY: "yes"},
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {"name": "it", "image": api.busybox(), "args": ["httpd", "-f", "-p", str(PORT), "-h", "/"]}
                ],
            },
        }
    )
    pod = await stack.kubectl.until_ready("pod", POD, NAMESPACE)
    yield Spare(pod["status"]["podIP"], pod["metadata"]["uid"])
    await commands.run_tool("hack.cluster", "node", "remove", SPARE)


async def as_before(stack: Stack, spare: Spare) -> bool:
    pod = await stack.kubectl.get("pod", POD, NAMESPACE)
    restarts = sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
    return bool(pod["metadata"]["uid"] == spare.uid and restarts == 0)


@pytest.mark.parametrize("way_back", [("node", "revive", SPARE), ("up",)])
async def test_a_silent_nodes_pod_lives_on_unheard_until_the_silence_ends(
    stack: Stack, spare: Spare, way_back: tuple[str, ...]
) -> None:
    assert await spare.answers()
    await commands.run_tool("hack.cluster", "node", "silence", SPARE)
    assert await asyncio.to_thread(api.silent_nodes) == [SPARE]
    assert not await spare.answers()
    await commands.run_tool("hack.cluster", *way_back)
    assert await asyncio.to_thread(api.silent_nodes) == []
    assert await spare.answers()
    assert await as_before(stack, spare)
    assert is_ready(await stack.kubectl.get("node", SPARE, ""))


async def test_a_notice_is_given_in_two_ways_and_taken_back_with_the_cordon(stack: Stack, spare: Spare) -> None:
    await commands.run_tool("hack.cluster", "node", "notice", SPARE, "--seconds", "120", "--as", "nth")
    await commands.run_tool("hack.cluster", "node", "notice", SPARE, "--seconds", "25", "--as", "aks")
    node = await stack.kubectl.get("node", SPARE, "")
    assert {NTH_TAINT, AKS_TAINT, KEY} <= {taint["key"] for taint in node["spec"]["taints"]}
    assert node["spec"]["unschedulable"]
    assert AKS_CONDITION in {condition["type"] for condition in node["status"]["conditions"]}
    assert await asyncio.to_thread(api.withdraw_notice, SPARE)
    node = await stack.kubectl.get("node", SPARE, "")
    assert not {NTH_TAINT, AKS_TAINT} & {taint["key"] for taint in node["spec"]["taints"]}
    assert not node["spec"].get("unschedulable")
    assert AKS_CONDITION not in {condition["type"] for condition in node["status"]["conditions"]}
    assert await spare.answers()


async def test_a_node_that_went_when_its_notice_was_over_comes_back_without_it(stack: Stack, spare: Spare) -> None:
    await commands.run_tool("hack.cluster", "node", "notice", SPARE, "--seconds", "0", "--as", "gke", "--kill")
    await commands.run_tool("hack.cluster", "node", "revive", SPARE)

    def well(node: dict[str, Any]) -> bool:
        return is_ready(node) and {taint["key"] for taint in node["spec"]["taints"]} == {KEY}

    await stack.kubectl.until("node", SPARE, "", well, what="Ready, with no taint but its own")
