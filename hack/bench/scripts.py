"""Benchmarks that are programs of their own: run, shown, and read from the file they leave."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hack.bench.waiting import BenchFault

ROOT = Path(__file__).resolve().parents[2]


async def run_script(module: str, *arguments: str, say: Callable[[str], None]) -> Any:
    """What `python -m module arguments --json FILE` wrote. What it prints goes to `say`. Raises BenchFault."""
    with tempfile.TemporaryDirectory(prefix="npc-bench-") as folder:
        result = Path(folder) / "result.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments, "--json", str(result)),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            assert process.stdout is not None
            last = ""
            async for raw in process.stdout:
                last = raw.decode(errors="replace").rstrip()
                say(f"  {last}")
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code or not result.exists():
            raise BenchFault(f"python -m {module} ended with {code}: {last}")
        return json.loads(result.read_text())
