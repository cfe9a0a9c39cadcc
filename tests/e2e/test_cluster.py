"""The local cluster keeps its own promises: a node comes and goes without a trace, and what died is named and mended.

All of it happens on a node of its own, beside those that the regions' pods run on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hack.cluster import api, cgroups, mounts
from hack.cluster.addresses import bridge_name
from hack.cluster.node import is_ready
from hack.cluster.paths import Layout
from hack.cluster.state import load
from hack.stack import commands
from hack.stack.install import Stack

SPARE = "spare-1"
KEY = "e2e.npcfleet.dev/spare"
ADD = ("node", "add", SPARE, "--label", f"{KEY}=yes", "--taint", f"{KEY}=yes:NoSchedule")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def spare(stack: Stack) -> AsyncIterator[str]:
    """A third node that no pod is scheduled to by chance."""
    await commands.run_tool("hack.cluster", *ADD)
    yield SPARE
    await remove_if_there(stack)


async def remove_if_there(stack: Stack) -> None:
    """Also what a run that was interrupted has left."""
    if await stack.kubectl.find("node", SPARE, ""):
        await commands.run_tool("hack.cluster", "node", "remove", SPARE)


async def test_what_ctrl_c_interrupted_is_finished_by_the_same_command(stack: Stack) -> None:
    await remove_if_there(stack)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hack.cluster", *ADD),
        cwd=commands.ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while f"starting node {SPARE}" not in (line := (await process.stderr.readline()).decode()):
        assert line, "it ended before it began"
    await commands.interrupt(process)
    assert process.returncode == 130
    await commands.run_tool("hack.cluster", *ADD)
    assert is_ready(await stack.kubectl.get("node", SPARE, ""))


async def test_an_added_node_has_its_labels_and_taints_and_runs_a_pod(stack: Stack, spare: str) -> None:
    node = await stack.kubectl.get("node", spare, "")
    assert is_ready(node)
    assert node["metadata"]["labels"][KEY] == "yes"
    assert {"key": KEY, "value": "yes", "effect": "NoSchedule"} in node["spec"]["taints"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "on-the-spare-node", "namespace": "default"},
        "spec": {
            "nodeSelector": {KEY: "yes"},
            "tolerations": [{"key": KEY, "operator": "Exists"}],
            "restartPolicy": "Never",
            "containers": [{"name": "it", "image": api.busybox(), "args": ["true"]}],
        },
    }
    await stack.kubectl.delete("pod", "on-the-spare-node", "default")
    await stack.kubectl.apply(pod)
    try:
        await stack.kubectl.until(
            "pod", "on-the-spare-node", "default", lambda seen: seen["status"].get("phase") == "Succeeded", timeout=300
        )
    finally:
        await stack.kubectl.delete("pod", "on-the-spare-node", "default")


async def test_what_died_is_named_by_status_and_brought_back_by_up(stack: Stack, spare: str) -> None:
    for role in ("kube-scheduler", "kube-controller-manager", f"{spare}/containerd", f"{spare}/kubelet"):
        await asyncio.to_thread(api.kill_process, role)
    with pytest.raises(commands.CommandError, match="status"):
        await commands.run_tool("hack.cluster", "status")
    await commands.run_tool("hack.cluster", "up")
    assert "BAD" not in await commands.run_tool("hack.cluster", "status")
    assert is_ready(await stack.kubectl.get("node", spare, ""))


async def test_a_removed_node_leaves_nothing_on_the_host(stack: Stack, spare: str) -> None:
    layout = Layout(stack.cluster.state_dir)
    state = load(layout)
    assert state is not None
    bridge = Path("/sys/class/net") / bridge_name(state.node(spare).index)
    assert bridge.exists()
    await commands.run_tool("hack.cluster", "node", "remove", spare)
    assert await stack.kubectl.find("node", spare, "") is None
    assert not bridge.exists()
    folder = layout.node(spare).root
    assert not folder.exists()
    assert mounts.below(folder, await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)) == []
    assert cgroups.processes(spare) == []
