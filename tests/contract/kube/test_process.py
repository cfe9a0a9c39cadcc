"""The program as a pod runs it: its exit codes, what it says when something is missing, and how it goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hack.cluster.ports import pick_port
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.lease import Timings
from npc_operator.ports import ObjectRef
from npc_operator.rights import Scope
from tests.contract.kube.test_rights import apply_all
from tests.support.kube_env import KubeEnv
from tests.support.rbac import cluster_wide, in_namespace

LEASE = "npc-operator"


class Process:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[dict[str, str]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))

    async def says(self, text: str, *, seconds: float = 120.0) -> dict[str, str]:
        """Waits for a log line that holds the text."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines:
                    if text in line["message"]:
                        return line
                await asyncio.sleep(0.02)

    async def until_ready(self, *, seconds: float = 120.0) -> None:
        """Waits until /readyz says so."""
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def ends(self, *, seconds: float = 120.0) -> int:
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reading
            return code

    async def kill(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.ends()


@contextlib.asynccontextmanager
async def operator(kubeconfig: Path, namespace: str, *arguments: str) -> AsyncIterator[Process]:
    port = pick_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "npc_operator",
        *arguments,
        "--fleet-image=fleet",
        f"--kubeconfig={kubeconfig}",
        f"--lease-namespace={namespace}",
        "--metrics-host=127.0.0.1",
        f"--metrics-port={port}",
        stderr=asyncio.subprocess.PIPE,
    )
    made = Process(process, port)
    try:
        yield made
    finally:
        await made.kill()


async def test_on_sigterm_it_gives_the_lease_back_and_ends_with_zero_within_five_seconds(
    env: KubeEnv, client: KubeClient, namespace: str
) -> None:
    async with operator(env.kubeconfig, namespace) as process:
        await process.says("everything was looked at once")
        ref = ObjectRef("coordination.k8s.io/v1", "Lease", namespace, LEASE)
        held = await client.get(ref)
        assert held is not None
        assert held["spec"]["holderIdentity"]
        process.process.send_signal(signal.SIGTERM)
        seconds = 0.0
        while process.process.returncode is None:  # in turns: a host that stands still holds it up, too
            await asyncio.sleep(0.05)
            seconds += 0.05
        assert await process.ends() == 0
        assert seconds < 5.0
        left = await client.get(ref)
        assert left is not None
        assert left["spec"]["holderIdentity"] == ""


async def test_two_replicas_hand_over_and_the_second_works_on(env: KubeEnv, namespace: str) -> None:
    async with operator(env.kubeconfig, namespace) as one:
        await one.says("everything was looked at once")
        async with operator(env.kubeconfig, namespace) as two:
            await two.until_ready()  # a standby is ready once its watchers work
            assert not any("leading" in line["message"] for line in two.lines)
            asked = time.monotonic()
            one.process.send_signal(signal.SIGTERM)
            await two.says("everything was looked at once")
            # The bar is 2 s (make bench); here others may use the machine, too, and the second must only not have
            # waited until the lease ran out.
            assert time.monotonic() - asked < Timings().lease - Timings().renew_every


async def test_a_log_line_is_one_json_object(env: KubeEnv, namespace: str) -> None:
    async with operator(env.kubeconfig, namespace) as process:
        line = await process.says("leading with epoch")
        assert set(line) >= {"time", "level", "logger", "message"}
        assert line["level"] == "info"


async def test_without_rights_it_says_the_command_that_mends_it_and_ends_with_one(env: KubeEnv, namespace: str) -> None:
    async with operator(env.kubeconfig_for("nobody"), namespace) as process:
        assert await process.ends() == 1
        said = "\n".join(line["message"] for line in process.lines)
        assert f"helm upgrade --install npc-operator charts/npc-operator -n {namespace}" in said
        assert "gputiers.npcfleet.dev" in said


async def test_check_finds_nothing_missing_with_the_rights_of_the_table_and_ends_with_zero(
    env: KubeEnv, namespace: str
) -> None:
    user = f"checker-{namespace}"
    apply_all(env, user, [*cluster_wide(user, Scope.WATCHED, Scope.NODES), *in_namespace(user, namespace, Scope.OWN)])
    async with operator(env.kubeconfig_for(user), namespace, "check") as process:
        assert await process.ends() == 0
        assert "CRDs and rights are there" in process.lines[-1]["message"]


async def test_an_api_server_that_is_not_there_yet_is_waited_for(env: KubeEnv, namespace: str) -> None:
    await asyncio.to_thread(env.kill_apiserver)
    try:
        async with operator(env.kubeconfig, namespace) as process:
            await process.says("does not answer, waiting for it")
            await asyncio.to_thread(env.start_apiserver)
            await process.says("everything was looked at once")
    finally:
        if not env.apiserver_runs():
            await asyncio.to_thread(env.start_apiserver)


async def test_a_kubeconfig_that_is_not_there_is_named(namespace: str) -> None:
    async with operator(Path("/nonexistent/kubeconfig"), namespace) as process:
        assert await process.ends() == 1
        assert "/nonexistent/kubeconfig" in process.lines[-1]["message"]


@pytest.mark.parametrize("flag", ["--workers=0", "--resync-seconds=0", "--log-level=loud"])
async def test_a_wrong_flag_ends_with_two(flag: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "npc_operator", "--fleet-image=x", flag, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert flag.partition("=")[0] in said.decode()
