"""Commands of the stack: their words are kept when they fail, and they end when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from hack.stack import commands
from hack.stack.install import Images, is_rolled_out, operator_values


async def test_output_and_input_go_through() -> None:
    assert await commands.run([sys.executable, "-c", "print(input())"], stdin="blood\n") == "blood\n"


async def test_a_failure_says_what_the_command_said() -> None:
    with pytest.raises(commands.CommandError, match="no such crypt"):
        await commands.run([sys.executable, "-c", "import sys; sys.exit('no such crypt')"])


async def test_a_silent_failure_says_its_exit_status() -> None:
    with pytest.raises(commands.CommandError, match="exit status 3"):
        await commands.run([sys.executable, "-c", "import sys; sys.exit(3)"])


def _pipe(tmp_path: Path) -> Path:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    return fifo


SAYS_ITS_PID_AND_SLEEPS = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


async def test_a_command_dies_with_the_task_that_waits_for_it(tmp_path: Path) -> None:
    fifo = _pipe(tmp_path)
    task = asyncio.create_task(commands.run([sys.executable, "-c", SAYS_ITS_PID_AND_SLEEPS, fifo]))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError):
        await commands.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.2)


async def test_a_tool_of_ours_is_interrupted_politely() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import time\ntry:\n  print('up', flush=True); time.sleep(600)\nexcept KeyboardInterrupt:\n  print('tidy')",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    await commands.interrupt(process)
    assert await process.stdout.read() == b"tidy\n"
    assert process.returncode == 0


async def test_a_tool_answers_on_standard_output() -> None:
    assert "usage" in await commands.run_tool("hack.images", "--help")


async def test_a_tool_that_fails_is_named() -> None:
    with pytest.raises(commands.CommandError, match=r"python -m hack\.nonsense failed"):
        await commands.run_tool("hack.nonsense")


def test_the_operators_image_is_the_one_on_the_nodes() -> None:
    image = operator_values(Images("localhost:5000/npc/fleet:0a1b", "localhost/engine:1"))["image"]
    assert image == {"repository": "localhost:5000/npc/fleet", "tag": "0a1b", "pullPolicy": "IfNotPresent"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({}, False),
    ],
)
def test_a_deployment_is_rolled_out_when_all_and_only_new_pods_serve(status: dict[str, int], expected: bool) -> None:
    assert is_rolled_out({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}) is expected
