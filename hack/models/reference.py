"""A real vLLM alone on this machine's CPU: where tests get the answers that the fleet must give.

with LoneEngine(catalog.base) as engine:
    engine.load("v", catalog.adapter("vampire-v1"))
    engine.ask("v", "Who are you?")
"""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hack.cluster.ports import pick_port
from hack.models.engine_flags import ENGINE_ARGS, ENGINE_ENV, MODULE
from hack.models.environment import engine_python, ensure_packages
from hack.models.margins import MAX_TOKENS

BASE_NAME = "base"
"""What the base model is called in requests."""

_CALL_SECONDS = 180.0
"""Silence for which a call waits: the first answer of an engine on a busy machine has taken half a minute."""

_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0
_LOG_TAIL_BYTES = 4000


class LoneEngineError(RuntimeError):
    """The engine did not start, or refused what it was asked; the message holds its own words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as it came."""

    status: int
    content_type: str | None
    body: bytes

    def json(self) -> Any:
        """The body read as JSON; raises ValueError if it is none."""
        return json.loads(self.body)


class LoneEngine:
    """One vLLM process on a free loopback port, started by `with` and ended with all its children by their group.

    `shutdown_seconds` is vLLM's own --shutdown-timeout. `ready_seconds` bounds the wait for /health (15 s on two idle
    cores, a minute on busy ones).
    """

    def __init__(
        self,
        base: Path,
        *,
        max_loras: int = 4,
        max_lora_rank: int = 16,
        shutdown_seconds: int = 5,
        ready_seconds: float = 300.0,
    ) -> None:
        self.api_key = secrets.token_urlsafe(24)
        self.port = pick_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.started_seconds = 0.0
        """How long the engine took to become healthy."""
        self._ready_seconds = ready_seconds
        self._arguments = [
            *(f"--model={base.absolute()}", f"--served-model-name={BASE_NAME}"),
            *("--host=127.0.0.1", f"--port={self.port}", "--api-server-count=1", "--max-model-len=2048"),
            *("--enable-lora", f"--max-loras={max_loras}", f"--max-cpu-loras={2 * max_loras}"),
            *(f"--max-lora-rank={max_lora_rank}", f"--shutdown-timeout={shutdown_seconds}", *ENGINE_ARGS),
        ]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        started = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="npc-lone-engine-")
        try:
            self._start(Path(self._folder.name))
            self._wait_until_healthy(started + self._ready_seconds)
        except BaseException:
            self._stop()
            raise
        self.started_seconds = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def load(self, name: str, path: Path) -> None:
        """Load an adapter under a name; raises LoneEngineError with the engine's words if it will not."""
        reply = self.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path.absolute())})
        if reply.status != http.client.OK:
            raise LoneEngineError(f"loading {name} from {path}: {reply.status} {reply.body.decode()}")

    def ask(self, model: str, prompt: str, *, max_tokens: int = MAX_TOKENS) -> str:
        """The whole greedy answer to one user message; raises LoneEngineError if there is none."""
        return str(self._complete(model, prompt, max_tokens)["message"]["content"])

    def lead(self, model: str, prompt: str, *, max_tokens: int = MAX_TOKENS) -> float:
        """By how many logits each token of the greedy answer leads the next best, at least, by the engine's account."""
        choice = self._complete(model, prompt, max_tokens, logprobs=True, top_logprobs=2)
        tokens = choice["logprobs"]["content"]
        return float(min(token["top_logprobs"][0]["logprob"] - token["top_logprobs"][1]["logprob"] for token in tokens))

    def call(self, method: str, path: str, body: object = None) -> Reply:
        """One call with the engine's key; any status is an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_CALL_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Reply(response.status, response.getheader("Content-Type"), response.read())
        finally:
            connection.close()

    def terminate(self) -> None:
        """Send SIGTERM, as a kubelet does, and return at once; running requests have `shutdown_seconds` to end."""
        if self._process is not None:
            self._process.terminate()

    def memory_bytes(self) -> int:
        """What the engine's processes hold: their proportional set sizes, together."""
        total = 0
        for process in self._group():
            for line in (Path("/proc") / str(process) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def _complete(self, model: str, prompt: str, max_tokens: int, **more: object) -> Any:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0} | more
        reply = self.call("POST", "/v1/chat/completions", body)
        if reply.status != http.client.OK:
            raise LoneEngineError(f"asking {model}: {reply.status} {reply.body.decode()}")
        return reply.json()["choices"][0]

    def _start(self, folder: Path) -> None:
        environment = ENGINE_ENV | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ensure_packages()),
            "USER": "npc",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "VLLM_API_KEY": self.api_key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        }
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(engine_python()), "-m", MODULE, *self._arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_healthy(self, deadline: float) -> None:
        while not self._is_healthy():
            if self._process is None or self._process.poll() is not None:
                raise LoneEngineError(f"vLLM ended while it started:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise LoneEngineError(f"vLLM is not healthy after {self._ready_seconds:.0f} s:\n{self._log_tail()}")
            time.sleep(_POLL_SECONDS)

    def _is_healthy(self) -> bool:
        try:
            return self.call("GET", "/health").status == http.client.OK
        except OSError:
            return False

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                # A vLLM that does not end in time ends with its group below.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
            finally:
                _kill_group(process)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _group(self) -> Sequence[int]:
        if self._process is None:
            return []
        wanted = self._process.pid
        members = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name in parentheses may hold anything; what follows it is: state, parent, process group.
                group = int(entry.read_text().rpartition(")")[2].split()[2])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if group == wanted:
                members.append(int(entry.parent.name))
        return members

    def _log_tail(self) -> str:
        if self._folder is None:
            return ""
        return (Path(self._folder.name) / "log").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process's own group (it leads one), and reap it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
