"""The tool as a process of its own: terminals of any size, readers that leave, Ctrl-C, and locales that know less."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from npc_runtime.cli.answers import Code
from tests.component.cli.conftest import OWN
from tests.component.cli.fake_api import FakeApi
from tests.component.cli.test_say import engine, gateway  # noqa: F401 - fixtures
from tests.unit.cli import objects as o
from tests.unit.cli.moving_faults import on_its_way, voice

COMMAND = (sys.executable, "-m", "npc_runtime.cli")
SECONDS = 60.0
MESSAGE = "tier gold: 12 of 50 answers, none bad; it goes on after 60 s and 50 answers of players"


@dataclass
class Screen:
    """A terminal with the tool in it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    seen: str = ""

    async def until(self, wanted: str) -> str:
        """Everything that was shown until `wanted` was."""
        while wanted not in self.seen:
            self.seen += (await asyncio.wait_for(self.reader.read(65536), SECONDS)).decode()
        return self.seen

    async def rest(self) -> str:
        """Everything, once the tool has ended."""
        # A terminal whose last user is gone reads as a fault, not as an end.
        with contextlib.suppress(OSError):
            while more := await asyncio.wait_for(self.reader.read(65536), SECONDS):
                self.seen += more.decode()
        await self.process.wait()
        return self.seen


@contextlib.asynccontextmanager
async def terminal(*words: str, columns: int, lines: int = 50, **environment: str) -> AsyncIterator[Screen]:
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=far, stdout=far, env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **environment}
    )
    os.close(far)
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(near, "rb", buffering=0)
    )
    try:
        yield Screen(process, reader)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        transport.close()


@pytest.fixture
def config(api: FakeApi, tmp_path: Path) -> str:
    api.collections[f"{OWN}/archetypeadapters"][:] = [voice(on_its_way("Watching", "Watching", MESSAGE))]
    return api.kubeconfig(tmp_path)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
async def test_tables_fit_the_terminal_whatever_its_width(config: str, columns: int) -> None:
    async with terminal("status", "--kubeconfig", config, columns=columns) as screen:
        shown = (await screen.rest()).replace("\r", "")
    told = " ".join(shown.split())
    for word in ("Regions", "eu-west", "gold", "vampire", o.NEW[7:19], "Watching", "10%"):
        assert word in told
    assert MESSAGE in told
    # Sentences are the terminal's to wrap; everything else has room.
    assert [line for line in shown.splitlines() if len(line) > columns and MESSAGE not in line] == []


async def test_a_table_that_is_piped_is_never_folded(config: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("status", "--kubeconfig", config),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "40"},
    )
    shown, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert any(line.startswith(b"vampire") and line.endswith(MESSAGE.encode()) for line in shown.splitlines())


async def test_what_is_watched_fits_the_screen_and_ends_with_ctrl_c(config: str, api: FakeApi) -> None:
    api.put(f"{OWN}/archetypeadapters", *(o.adapter(f"voice-{number:03}") for number in range(300)))
    api.put(
        f"{OWN}/archetypeadapters",
        o.adapter("zombie", status=o.conditions(False, ("ProbeMismatch", "the probe was not answered as wanted"))),
    )
    words = ("status", "--watch", "--every", "0.05", "--kubeconfig", config)
    async with terminal(*words, columns=120, lines=24) as screen:
        shown = await screen.until("more lines: enlarge the terminal")
        frame = shown.partition("enlarge the terminal")[0].rpartition("\x1b[2J")[2].splitlines()
        assert len(frame) <= 24
        assert any("zombie" in line and "ProbeMismatch" in line for line in frame)
        assert "Rollouts" in shown
        api.collections[f"{OWN}/gputiers"][0]["status"]["readyReplicas"] = 0
        await screen.until("0/1")
        screen.process.send_signal(signal.SIGINT)
        assert "Traceback" not in await screen.rest()
        assert screen.process.returncode == Code.INTERRUPTED


async def leave(*words: str, both: bool = False) -> tuple[int, str]:
    """Run the tool for a reader who leaves before the first byte, of standard error too if `both`: (code, standard
    error).
    """
    reading, writing = os.pipe()
    os.close(reading)
    error = writing if both else asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdout=writing, stderr=error, stdin=asyncio.subprocess.DEVNULL
    )
    os.close(writing)
    _, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode is not None
    return process.returncode, (err or b"").decode()


@pytest.mark.parametrize(
    "words",
    [("status",), ("why",), ("status", "-o", "yaml"), ("history", "vampire", "-o", "json"), ("status", "--watch")],
)
async def test_a_reader_who_leaves_early_is_no_fault(words: tuple[str, ...], config: str) -> None:
    assert await leave(*words, "--kubeconfig", config) == (Code.FINE, "")


async def test_an_error_that_nobody_reads_is_still_the_code(config: str) -> None:
    assert (await leave("why", "ghost", "--kubeconfig", config, both=True))[0] == Code.NOT_FOUND
    assert (await leave("drill", "engine", "--tier", "gold", "--kubeconfig", config, both=True))[0] == Code.DECLINED
    assert (await leave("status", "--context", "other", "--kubeconfig", config, both=True))[0] == Code.FINE


@pytest.mark.parametrize("words", [("completion", "bash"), ("--help",), ("why", "--help"), ("__complete", "")])
async def test_nor_where_no_cluster_is_asked(words: tuple[str, ...]) -> None:
    assert await leave(*words) == (Code.FINE, "")


@pytest.mark.usefixtures("gateway")
async def test_a_reader_who_leaves_during_a_line_is_not_taken_for_a_pod_that_does_not_answer(
    api: FakeApi, tmp_path: Path
) -> None:
    words = ("say", "vampire", "Who are you?", "--kubeconfig", api.kubeconfig(tmp_path))
    assert await leave(*words) == (Code.FINE, "")


async def test_a_locale_without_a_character_costs_no_answer(config: str, api: FakeApi) -> None:
    api.collections[f"{OWN}/gputiers"][0]["status"] |= o.conditions(False, ("Starting", "größer… als erlaubt"))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("status", "--kubeconfig", config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    )
    shown, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert (process.returncode, err) == (Code.FINE, b"")
    assert "größer? als erlaubt".encode("latin-1") in shown
