"""How the process ends when nothing inside it can be trusted to."""

from __future__ import annotations

import asyncio
import sys

STUCK = """
import asyncio, sys
from npc_operator import __main__ as entry
from npc_operator.clients.lease import LeadershipStuck

async def work():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def run(settings, decisions):
    left = asyncio.create_task(work())
    await asyncio.sleep(0)
    raise LeadershipStuck("the work did not stop")

entry.run = run
sys.argv = ["npc-operator", "run", "--fleet-image=fleet:test"]
entry.main()
"""


async def test_work_that_does_not_stop_cannot_keep_the_process() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUCK, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    assert b"the work did not stop" in said
