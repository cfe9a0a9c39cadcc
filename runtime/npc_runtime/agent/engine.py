"""One engine's HTTP API, as far as the agent needs it, and what its errors mean.

vLLM answers every fault of a load with 400, 404 or 500 and a sentence; this is the only module that knows those
sentences. Nothing here remembers anything about adapters: the truth about what is listed is asked anew each time.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ..wire import Probe
from .errors import AdapterError, Reason, refused, retryable
from .identity.logprobs import TOP, FirstToken

LOAD_TIMEOUT = 180
"""Seconds for one load: a large adapter from a cold disk while the engine is busy."""
CHAT_PATH = "/v1/chat/completions"
_SHORT = aiohttp.ClientTimeout(total=5)
_START_METRIC = "process_start_time_seconds "
_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Lines:
    """What runs on an engine: requests in all, and the adapter names of those that run or wait (None: not told by this
    engine).
    """

    requests: int
    adapters: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine says of an adapter: the path it was loaded from, and the name of its base model."""

    root: str
    base: str


class Keys:
    """The engine's API keys by file, current first. An engine keeps the key it was started with, so after a rotation
    the older one may be the right one.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._accepted = ""

    def candidates(self) -> list[str]:
        """Keys worth trying, the one last accepted first; one empty key when there are no files. Raises OSError when
        none can be read.
        """
        keys: list[str] = []
        missing: OSError | None = None
        for file in self._files:
            try:
                keys.append(file.read_text().strip())
            except OSError as error:
                missing = error
        if self._accepted:  # the engine may still run with a key whose file is gone already
            keys = [self._accepted, *(key for key in keys if key != self._accepted)]
        if not keys and missing is not None:
            raise missing
        return keys or [""]

    def accepted(self, key: str) -> None:
        """Remembers which one the engine took."""
        self._accepted = key


class Engine:
    """A client of one engine.

    Every method raises AdapterError only (EngineUnavailable when it cannot be reached); `healthy` also TimeoutError.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, keys: Keys) -> None:
        self._session = session
        self._url = url
        self._keys = keys

    async def healthy(self) -> bool:
        """Whether /health is 200 now. Raises TimeoutError when it does not answer in 5 s, which says less than a
        refusal.

        A connection that breaks is tried once more: one may be closed for its age just as it is used again, and an
        engine that is called down loses all its lines. One that died is noticed by the connection that is held to it.
        """
        for _ in range(2):
            try:
                async with self._session.get(f"{self._url}/health", timeout=_SHORT) as answer:
                    return answer.status == 200
            except TimeoutError:
                raise
            except (aiohttp.ClientError, OSError):
                continue
        return False

    async def started(self) -> str:
        """An identity of the engine's process: its start time, empty when the engine does not tell."""
        for line in (await self._metrics()).splitlines():
            if line.startswith(_START_METRIC):
                return hashlib.sha256(line.encode()).hexdigest()[:16]
        return ""

    async def lines(self) -> Lines:
        """What runs right now."""
        return parse_lines(await self._metrics())

    async def listed(self) -> Mapping[str, str]:
        """Adapters by name, each with the path it was loaded from. Base models are left out."""
        return {name: served.root for name, served in (await self._adapters()).items()}

    async def served(self, name: str) -> Served:
        """What an adapter's name stands for now; raises EngineUnavailable for one that is not listed, which is seen
        and mended elsewhere.
        """
        served = (await self._adapters()).get(name)
        if served is None:
            raise retryable(Reason.ENGINE_UNAVAILABLE, "the engine does not list it now")
        return served

    async def _adapters(self) -> Mapping[str, Served]:
        status, body = await self._call("GET", "/v1/models", None, _SHORT)
        data = body.get("data")
        if status != 200 or not isinstance(data, list):
            raise retryable(Reason.ENGINE_UNAVAILABLE, f"/v1/models answers {status}")
        return {
            str(item["id"]): Served(str(item.get("root") or ""), str(item["parent"]))
            for item in data
            if isinstance(item, dict) and item.get("parent")
        }

    async def load(self, name: str, path: Path) -> str:
        """Loads an adapter and returns the path the name now stands for: another one if somebody was faster."""
        status, body = await self._call(
            "POST",
            "/v1/load_lora_adapter",
            {"lora_name": name, "lora_path": str(path)},
            aiohttp.ClientTimeout(total=LOAD_TIMEOUT),
        )
        if status == 200:
            return str(path)
        text = _message(body)
        if status == 400 and "already" in text and "loaded" in text:
            return (await self.listed()).get(name, "")
        if status == 404 and "lora" in text.lower():
            raise retryable(
                Reason.NOT_VISIBLE, "the engine does not see the adapter's folder: both must mount it at the same path"
            )
        if status == 404:
            raise refused(
                Reason.ENGINE_REFUSED,
                "the engine loads no adapters: VLLM_ALLOW_RUNTIME_LORA_UPDATING is not True",
            )
        if status in {400, 422}:
            raise refused(Reason.ENGINE_REFUSED, f"HTTP {status}: {text}")
        raise retryable(Reason.LOAD_FAILED, f"HTTP {status}: {text}")

    async def unload(self, name: str) -> None:
        """Takes an adapter's name off the engine; one that is not there is fine."""
        status, body = await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, _SHORT)
        if status not in {200, 404} and "not found" not in _message(body).lower():
            raise retryable(Reason.LOAD_FAILED, f"unload: HTTP {status}: {_message(body)}")

    async def ask(self, name: str, probe: Probe) -> str:
        """The greedy answer of an adapter to the probe; raises ProbeFailed or ProbeTimeout when there is none."""
        request = {
            "model": name,
            "messages": [{"role": "user", "content": probe.prompt}],
            "max_tokens": probe.max_tokens,
            "temperature": 0,
            "stream": False,
        }
        timeout = aiohttp.ClientTimeout(total=probe.timeout_seconds)
        try:
            status, body = await self._call("POST", CHAT_PATH, request, timeout)
        except TimeoutError:
            raise retryable(Reason.PROBE_TIMEOUT, f"no answer to the probe within {probe.timeout_seconds} s") from None
        if status != 200:
            # Without adapter or template the engine says 404 or 400 to every try; the rest is load or weather.
            raise AdapterError(Reason.PROBE_FAILED, f"HTTP {status}: {_message(body)}", permanent=status in {400, 422})
        return _answer(name, body)

    async def first_token(self, model: str, prompt: str, seconds: float) -> FirstToken | None:
        """What a model would say first to a prompt, computed anew; None when the engine was started so that it tells
        no log-probabilities.

        Raises ProbeTimeout after `seconds`, ProbeFailed for any other answer.
        """
        request = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": 0,
            "stream": False,
            "logprobs": True,
            "top_logprobs": TOP,
            # Two tokens can have the same text; numbers differ.
            "return_tokens_as_token_ids": True,
            # What an earlier request left in the prefix cache says nothing of the weights that are there now.
            "cache_salt": uuid.uuid4().hex,
        }
        try:
            status, body = await self._call("POST", CHAT_PATH, request, aiohttp.ClientTimeout(total=seconds))
        except TimeoutError:
            raise retryable(Reason.PROBE_TIMEOUT, f"no first token within {seconds} s") from None
        if status in {400, 422}:
            return None
        if status != 200:
            raise retryable(Reason.PROBE_FAILED, f"HTTP {status}: {_message(body)}")
        return _first_token(body)

    async def _metrics(self) -> str:
        try:
            async with self._session.get(f"{self._url}/metrics", timeout=_SHORT) as answer:
                if answer.status != 200:
                    raise retryable(Reason.ENGINE_UNAVAILABLE, f"/metrics answers {answer.status}")
                return await answer.text()
        except (aiohttp.ClientError, OSError, UnicodeDecodeError) as error:
            raise retryable(Reason.ENGINE_UNAVAILABLE, f"/metrics: {type(error).__name__}") from None

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: aiohttp.ClientTimeout
    ) -> tuple[int, Mapping[str, Any]]:
        """One call with the engine's key. TimeoutError passes through for questions to a model; others see
        EngineUnavailable.
        """
        try:
            for key in self._keys.candidates():
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                async with self._session.request(
                    method, self._url + path, json=body, headers=headers, timeout=timeout
                ) as answer:
                    if answer.status == 401:
                        continue
                    self._keys.accepted(key)
                    return answer.status, await _json_of(answer)
        except TimeoutError:
            if path == CHAT_PATH:
                raise
            raise retryable(Reason.ENGINE_UNAVAILABLE, f"{path} does not answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise retryable(Reason.ENGINE_UNAVAILABLE, f"{path}: {type(error).__name__}") from None
        raise retryable(Reason.ENGINE_UNAUTHORIZED, "the engine accepts none of the keys")


def parse_lines(text: str) -> Lines:
    """What vLLM's metrics say about running requests.

    `vllm:lora_requests_info` keeps one series per combination ever seen, valued with the time it was last true: only
    the newest counts.
    """
    requests = 0.0
    newest, adapters = -1.0, None
    for line in text.splitlines():
        if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{", "vllm:num_requests_waiting ")):
            requests += float(line.rpartition(" ")[2])
        elif line.startswith("vllm:lora_requests_info{"):
            value = float(line.rpartition(" ")[2])
            if value > newest:
                newest, adapters = value, _names(line, "running_lora_adapters") | _names(line, "waiting_lora_adapters")
    return Lines(int(requests), adapters)


def _names(line: str, label: str) -> frozenset[str]:
    _, found, rest = line.partition(f'{label}="')
    return frozenset(name for name in rest.partition('"')[0].split(",") if name) if found else frozenset()


async def _json_of(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    if answer.content_type != "application/json":  # a successful load answers with a sentence
        return {"message": (await answer.text(errors="replace"))[:_MESSAGE]}
    try:
        parsed = await answer.json()
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _message(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    text = error.get("message") if isinstance(error, dict) else body.get("message")
    return str(text or "no message")[:_MESSAGE]


def _first_token(body: Mapping[str, Any]) -> FirstToken | None:
    """The likeliest first tokens; None where the answer has no log-probabilities."""
    try:
        told = body["choices"][0]["logprobs"]
        if not told or not told["content"]:
            return None
        return {str(one["token"]): float(one["logprob"]) for one in told["content"][0]["top_logprobs"]} or None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise retryable(Reason.PROBE_FAILED, "the engine's log-probabilities are not in their usual form") from None


def _answer(name: str, body: Mapping[str, Any]) -> str:
    try:
        message = body["choices"][0]["message"]
        tokens = body.get("usage", {}).get("completion_tokens")
        text = "".join(str(message.get(part) or "") for part in ("reasoning_content", "reasoning", "content"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise retryable(Reason.PROBE_FAILED, "the engine's answer is not a chat completion") from None
    if body.get("model") != name:
        raise refused(Reason.PROBE_FAILED, "the engine answered for another model")
    if not text and not tokens:
        raise refused(Reason.PROBE_FAILED, "the answer to the probe is empty")
    return text
