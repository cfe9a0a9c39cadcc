"""Commands as awaitables: they end when we are cancelled, and what went wrong is in the exception."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

# What a child gets to tidy up after an interrupt before it is killed: the cluster tool stops what it has just started.
INTERRUPT_GRACE_SECONDS = 120.0


class CommandError(Exception):
    """A command failed; the message is what it printed."""


async def run(argv: Sequence[str | Path], *, stdin: str | None = None, timeout: float = 60.0) -> str:
    """Standard output of a short command. Raises CommandError when it fails, TimeoutError when it hangs."""
    command = [str(part) for part in argv]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin is not None else None), timeout)
    except BaseException:
        await kill(process)
        raise
    if process.returncode:
        raise CommandError(err.decode(errors="replace").strip() or f"exit status {process.returncode}")
    return out.decode()


async def run_tool(module: str, *arguments: str) -> str:
    """Standard output of `python -m module ...` of this checkout, which tells its progress on our standard error.

    A process of its own, not a call in a thread, because only a process can be interrupted: Ctrl-C and cancellation
    reach it as SIGINT, and it gets the time to leave nothing half made. Raises CommandError when it fails.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    except BaseException:
        await interrupt(process)
        raise
    if process.returncode:
        raise CommandError(f"{' '.join(('python -m', module, *arguments))} failed; it said why above")
    return out.decode()


async def in_thread(call: Callable[[], T]) -> T:
    """What `call` returns, made in a thread. A thread cannot be interrupted: who is cancelled waits for it first, so
    that what is put back afterwards is not overtaken by it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


async def interrupt(process: asyncio.subprocess.Process) -> None:
    """End a child the polite way, then the other."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), INTERRUPT_GRACE_SECONDS)
    await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a child at once."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
