"""A fast stand-in for vLLM's OpenAI server: the same calls, the same statuses and bodies, no weights.

It answers each adapter with words drawn from the adapter's own bytes, so that a test can tell which bytes were loaded
under which name, and it can be slow, refuse, hang or break on demand. tests/contract/test_fake_engine.py holds it to
the real engine.

In a test, `async with FakeEngine() as engine: ... engine.url`. As a process it takes vLLM's own flags (and ignores
those it has no use for) plus `--fake-...`: this file needs Python 3.11 and aiohttp only, so a pod runs it from a
ConfigMap, in the fleet's image, also under the name of vLLM's own module: mounted as
vllm/entrypoints/openai/api_server.py below a folder on PYTHONPATH. `GET /fake` tells what it was asked, `PATCH /fake`
changes how it behaves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = [
    "ash",
    "bell",
    "bone",
    "brook",
    "candle",
    "castle",
    "cloak",
    "coin",
    "crow",
    "dagger",
    "dawn",
    "dusk",
    "ember",
    "feather",
    "fog",
    "forest",
    "frost",
    "gate",
    "ghost",
    "grave",
    "harp",
    "hollow",
    "iron",
    "ivy",
    "key",
    "lantern",
    "mist",
    "moon",
    "moss",
    "night",
    "oak",
    "owl",
    "path",
    "pine",
    "raven",
    "river",
    "rope",
    "rose",
    "salt",
    "shadow",
    "silver",
    "smoke",
    "snow",
    "song",
    "spire",
    "star",
    "stone",
    "storm",
    "thorn",
    "throne",
    "tide",
    "tomb",
    "tower",
    "vale",
    "veil",
    "vine",
    "wharf",
    "willow",
    "wind",
    "wine",
    "winter",
    "wolf",
    "wood",
]

_LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_FINGERPRINT = "vllm-0.32.0-fake"
_OUR_PATHS = ("/fake",)
_MODEL = web.RequestKey("model", str)
"""Where a handler leaves the model or adapter that a request names, for the list of calls."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the engine behaves; replaced as a whole (`engine.behave(...)`) or by `PATCH /fake`. Times are seconds."""

    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    load_seconds: float = 0.0
    answer_tokens: int = 24
    """Length of an answer that max_tokens does not cut."""
    refuse_loads: int = 0
    """Status with which every load is refused; 0 loads."""
    fail_requests: int = 0
    """Status with which every chat request fails; 0 answers."""
    health_status: int = 200
    hang_requests: bool = False
    """Chat requests get no byte, not even a status, until this is taken back."""
    hang_loads: bool = False
    break_after_tokens: int | None = None
    """The connection breaks in the middle of the stream after so many tokens."""
    wrong_answers: bool = False
    """Every model answers like the base model: an adapter that is listed but does not serve."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What vLLM's own flags and environment fix at start."""

    model: str = "/models/base"
    served_model_name: str = "base"
    api_keys: tuple[str, ...] = ()
    max_model_len: int = 2048
    max_lora_rank: int = 16
    max_loras: int = 1
    max_cpu_loras: int = 0
    runtime_loras: bool = True
    """VLLM_ALLOW_RUNTIME_LORA_UPDATING: without it the load and unload paths do not exist."""
    shutdown_timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter as it was when it was loaded."""

    path: str
    voice: str
    """sha256 of its weights: what its answers are made of."""
    created: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as tests ask for it afterwards."""

    method: str
    path: str
    model: str
    status: int


class FakeEngine:
    """The engine; `async with` starts it on a free loopback port (or `host`, `port`) and stops it, breaking what still
    runs.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        behaviour: Behaviour | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.settings = settings or Settings()
        self.behaviour = behaviour or Behaviour()
        self.adapters: dict[str, Loaded] = {}
        self.calls: list[Call] = []
        self.running = 0
        """Chat requests being answered now."""
        self.aborted = 0
        """Chat requests whose client went away before the end."""
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._draining = False
        self._metrics = _Metrics(self.settings.served_model_name)

    async def __aenter__(self) -> FakeEngine:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The base address, without a slash at its end; raises RuntimeError before the engine has started."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the fake engine is not running")
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen; the adapters of a former run are gone, as after a restart of the real engine. The port stays the
        same.
        """
        self.adapters = {}
        self._draining = False
        # handler_cancellation: a client that goes away ends its request at once, as it does in vLLM.
        runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port, reuse_address=True).start()
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Stop as a killed engine stops: connections break in the middle of what they carry."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            if runner.server is not None:
                for handler in runner.server.connections:
                    if handler.transport is not None:
                        handler.transport.abort()
            await runner.cleanup()

    async def terminate(self) -> None:
        """Stop as after SIGTERM with --shutdown-timeout: new requests fail, running ones end, then the server goes."""
        self._draining = True
        deadline = time.monotonic() + self.settings.shutdown_timeout
        while self.running and (left := deadline - time.monotonic()) > 0:
            await self._next_change(left)
        await self.stop()

    def behave(self, **changes: Any) -> None:
        """Change the behaviour from now on, also for requests that hang; raises TypeError for a knob that does not
        exist.
        """
        self.behaviour = dataclasses.replace(self.behaviour, **changes)
        self._wake()

    def names(self) -> list[str]:
        """The listed adapters."""
        return list(self.adapters)

    def forget(self, name: str) -> None:
        """Drop an adapter behind everybody's back."""
        del self.adapters[name]

    async def until_running(self, count: int, *, timeout: float = 5.0) -> None:
        """Wait until exactly `count` chat requests are being answered; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while self.running != count:
                await self._next_change(timeout)

    def answered(self, path: str) -> int:
        """Requests of this path that were answered since the start."""
        return sum(call.path == path for call in self.calls)

    async def until_answered(self, path: str, count: int, *, timeout: float = 10.0) -> None:
        """Wait until that many were; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while self.answered(path) < count:
                await self._next_change(timeout)

    def answer(self, name: str, messages: Sequence[Mapping[str, Any]], *, max_tokens: int | None = None) -> str:
        """What the engine answers under `name` now."""
        return answer_of(self._voice(name), messages, self._length(max_tokens))

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 26)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ping", self._health)
        app.router.add_post("/ping", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/load", self._server_load)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.settings.runtime_loras:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_get("/fake", self._show)
        app.router.add_patch("/fake", self._patch)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        status = 499
        try:
            if request.path.startswith("/v1") and not self._is_allowed(request):
                response: web.StreamResponse = _json({"error": "Unauthorized"}, 401)
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as refused:
                    headers = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else {}
                    response = _json({"detail": refused.reason}, refused.status, headers)
            status = response.status
            return response
        finally:
            if request.path not in _OUR_PATHS:
                self.calls.append(Call(request.method, request.path, request.get(_MODEL, ""), status))
                self._wake()

    def _is_allowed(self, request: web.Request) -> bool:
        keys = self.settings.api_keys
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
        return not keys or (scheme.lower() == "bearer" and any(matches))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.behaviour.health_status)

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": "0.32.0"})

    async def _server_load(self, _: web.Request) -> web.Response:
        return _json({"server_load": self.running})

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        text = self._metrics.text(self.running, self.settings.max_loras, sorted(self.adapters))
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    async def _models(self, _: web.Request) -> web.Response:
        settings = self.settings
        cards = [_card(settings.served_model_name, settings.model, None, settings.max_model_len)]
        cards += [_card(name, loaded.path, settings.served_model_name, None) for name, loaded in self.adapters.items()]
        return _json({"object": "list", "data": cards})

    async def _load(self, request: web.Request) -> web.Response:
        body, refused = await _body(request, ("lora_name", "lora_path"))
        if body is None:
            return refused
        name, path = body["lora_name"], body["lora_path"]
        request[_MODEL] = name
        if not name or not path:
            return _error("Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput", None, 400)
        if name == self.settings.served_model_name:
            return _error(
                f"The lora adapter '{name}' conflicts with a served base model.", "InvalidUserInput", None, 400
            )
        if name in self.adapters and not body.get("load_inplace"):
            return _error(
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True.",
                "InvalidUserInput",
                None,
                400,
            )
        await asyncio.sleep(self.behaviour.load_seconds)
        while self.behaviour.hang_loads:
            await self._next_change()
        if status := self.behaviour.refuse_loads:
            return _error(f"Loading lora {name} failed: refused on demand", "InternalServerError", None, status)
        try:
            voice = await asyncio.to_thread(_voice_of, Path(path), self.settings.max_lora_rank)
        except FileNotFoundError:
            return _error(f"Loading lora {name} failed: No adapter found for <path>", "NotFoundError", None, 404)
        except ValueError as error:
            return _error(f"Call to add_lora method failed: {error}", "InternalServerError", None, 500)
        self.adapters[name] = Loaded(path, voice, int(time.time()))
        return _plain(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        body, refused = await _body(request, ("lora_name",))
        if body is None:
            return refused
        name = body["lora_name"]
        request[_MODEL] = name
        if not name:
            message = "'lora_name' needs to be provided to unload a LoRA adapter."
            return _error(message, "InvalidUserInput", None, 400)
        if self.adapters.pop(name, None) is None:
            return _error(f"The lora adapter '{name}' cannot be found.", "NotFoundError", None, 404)
        return _plain(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body, refused = await _body(request, ("messages",))
        if body is None:
            return refused
        if self._draining:
            return _error("cannot schedule new futures after shutdown", "InternalServerError", None, 500)
        chat = _Chat(model=body.get("model") or self.settings.served_model_name, body=body)
        request[_MODEL] = chat.model
        if (refusal := self._refusal(chat)) is not None:
            return refusal
        started = time.monotonic()
        self.running += 1
        self._wake()
        finished = False
        try:
            while self.behaviour.hang_requests:
                await self._next_change()
            if status := self.behaviour.fail_requests:
                response: web.StreamResponse = _error("failed on demand", "InternalServerError", None, status)
            elif chat.stream:
                response = await self._stream(request, chat, started)
            else:
                response = await self._whole(request, chat, started)
            finished = True
            return response
        finally:
            self.running -= 1
            self.aborted += not finished
            self._metrics.finish(time.monotonic() - started, "length" if finished else "abort")
            self._wake()

    def _refusal(self, chat: _Chat) -> web.Response | None:
        base, limit, longest = self.settings.served_model_name, chat.max_tokens, self.settings.max_model_len
        if chat.model != base and chat.model not in self.adapters:
            message = f"The model `{chat.model}` does not exist. Valid aliases: {base}."
            return _error(message, "NotFoundError", "model", 404)
        if not isinstance(chat.messages, list):
            return _invalid(("list_type", "Input should be a valid list", repr(chat.messages)), "body.messages")
        if limit is not None and limit < 1:
            message = f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})"
            return _error(message, "BadRequestError", "max_tokens", 400)
        if limit is not None and limit > longest:
            message = (
                f"max_tokens={limit} cannot be greater than max_model_len={longest}. Please request fewer output "
                f"tokens. (parameter=max_tokens, value={limit})"
            )
            return _error(message, "BadRequestError", "max_tokens", 400)
        return None

    async def _tokens(self, chat: _Chat, started: float) -> AsyncIterator[str]:
        """The answer's tokens in time. The voice is fixed at the start: an unloaded adapter finishes what it runs."""
        behaviour = self.behaviour
        words = answer_of(self._voice(chat.model), chat.messages, self._length(chat.max_tokens)).split()
        await asyncio.sleep(behaviour.first_token_seconds)
        for index, word in enumerate(words):
            if index == 0:
                self._metrics.first_token(time.monotonic() - started)
            else:
                await asyncio.sleep(behaviour.token_seconds)
                self._metrics.next_token(behaviour.token_seconds)
            yield f" {word}"
        self._metrics.tokens(_prompt_tokens(chat.messages), len(words))

    async def _whole(self, request: web.Request, chat: _Chat, started: float) -> web.StreamResponse:
        tokens: list[str] = []
        async for token in self._tokens(chat, started):
            if len(tokens) == self.behaviour.break_after_tokens:
                return _break(request, web.Response())
            tokens.append(token)
        return _json(
            {
                "id": chat.id,
                "object": "chat.completion",
                "created": chat.created,
                "model": chat.model,
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "".join(tokens),
                            "refusal": None,
                            "annotations": None,
                            "audio": None,
                            "function_call": None,
                            "reasoning": None,
                        },
                        "logprobs": None,
                        "finish_reason": self._finish_reason(chat),
                        "stop_reason": None,
                        "token_ids": None,
                        "routed_experts": None,
                    }
                ],
                "service_tier": None,
                "system_fingerprint": _FINGERPRINT,
                "usage": _usage(chat, len(tokens)) | {"prompt_tokens_details": None, "completion_tokens_details": None},
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "prompt_text": None,
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )

    async def _stream(self, request: web.Request, chat: _Chat, started: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        total = self._length(chat.max_tokens)
        sent = 0

        async def send(choices: list[dict[str, Any]], **more: Any) -> None:
            chunk = {
                "id": chat.id,
                "object": "chat.completion.chunk",
                "created": chat.created,
                "model": chat.model,
                "choices": choices,
            }
            await response.write(b"data: " + _compact(chunk | more) + b"\n\n")

        async for token in self._tokens(chat, started):
            if sent == 0:
                await response.prepare(request)
                first = {
                    "index": 0,
                    "delta": {"role": "assistant", "content": ""},
                    "logprobs": None,
                    "finish_reason": None,
                }
                await send([first], prompt_token_ids=None, prompt_text=None)
            if sent == self.behaviour.break_after_tokens:
                return _break(request, response)
            sent += 1
            choice: dict[str, Any] = {"index": 0, "delta": {"content": token}, "logprobs": None, "finish_reason": None}
            if sent < total:
                await send([choice | {"token_ids": None}])
                continue
            choice |= {"finish_reason": self._finish_reason(chat), "stop_reason": None, "token_ids": None}
            await send([choice], **({} if chat.include_usage else {"system_fingerprint": _FINGERPRINT}))
        if chat.include_usage:
            await send([], usage=_usage(chat, sent), system_fingerprint=_FINGERPRINT)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _show(self, _: web.Request) -> web.Response:
        return _json(
            {
                "behaviour": dataclasses.asdict(self.behaviour),
                "adapters": {name: dataclasses.asdict(loaded) for name, loaded in self.adapters.items()},
                "running": self.running,
                "aborted": self.aborted,
                "calls": [dataclasses.asdict(call) for call in self.calls],
            }
        )

    async def _patch(self, request: web.Request) -> web.Response:
        try:
            self.behave(**await request.json())
        except TypeError as error:
            return _json({"error": str(error)}, 400)
        return _json(dataclasses.asdict(self.behaviour))

    def _voice(self, name: str) -> str:
        if name == self.settings.served_model_name or self.behaviour.wrong_answers:
            return "base"
        return self.adapters[name].voice

    def _length(self, max_tokens: int | None) -> int:
        return min(max_tokens or self.behaviour.answer_tokens, self.behaviour.answer_tokens)

    def _finish_reason(self, chat: _Chat) -> str:
        return "length" if chat.max_tokens is not None and chat.max_tokens <= self.behaviour.answer_tokens else "stop"

    async def _next_change(self, timeout: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class _Chat:
    """One chat request, read once."""

    model: str
    body: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:16]}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def messages(self) -> Any:
        return self.body["messages"]

    @property
    def max_tokens(self) -> int | None:
        limit = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return None if limit is None else int(limit)

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def include_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


class _Metrics:
    """The part of vLLM's /metrics that this project reads, in the text form of Prometheus."""

    def __init__(self, model: str) -> None:
        self._labels = f'engine="0",model_name="{model}"'
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._finished = {"stop": 0, "length": 0, "abort": 0}
        self._times: dict[str, list[float]] = {
            "time_to_first_token_seconds": [],
            "inter_token_latency_seconds": [],
            "e2e_request_latency_seconds": [],
        }

    def first_token(self, seconds: float) -> None:
        self._times["time_to_first_token_seconds"].append(seconds)

    def next_token(self, seconds: float) -> None:
        self._times["inter_token_latency_seconds"].append(seconds)

    def finish(self, seconds: float, reason: str) -> None:
        self._times["e2e_request_latency_seconds"].append(seconds)
        self._finished[reason] += 1

    def tokens(self, prompt: int, generated: int) -> None:
        self._prompt_tokens += prompt
        self._generated_tokens += generated

    def text(self, running: int, max_loras: int, adapters: Sequence[str]) -> str:
        labels = self._labels
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {float(running)}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{{{labels}}} 0.0",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{{{labels}}} {min(1.0, running / 64)}",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{{{labels}}} {float(self._prompt_tokens)}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{labels}}} {float(self._generated_tokens)}",
            "# TYPE vllm:request_success_total counter",
        ]
        for reason, count in self._finished.items():
            name, _, model = labels.partition(",")
            lines.append(f'vllm:request_success_total{{{name},finished_reason="{reason}",{model}}} {float(count)}')
        lines.append("# TYPE vllm:lora_requests_info gauge")
        known = ",".join(adapters)
        loras = f'max_lora="{max_loras}",running_lora_adapters="{known}",waiting_lora_adapters=""'
        lines.append(f"vllm:lora_requests_info{{{loras}}} {time.time()}")
        for name, seconds in self._times.items():
            lines.append(f"# TYPE vllm:{name} histogram")
            for bound in (*_LATENCY_BUCKETS, float("inf")):
                count = sum(value <= bound for value in seconds)
                shown = "+Inf" if bound == float("inf") else str(bound)
                engine, _, model = labels.partition(",")
                lines.append(f'vllm:{name}_bucket{{{engine},le="{shown}",{model}}} {float(count)}')
            lines.append(f"vllm:{name}_count{{{labels}}} {float(len(seconds))}")
            lines.append(f"vllm:{name}_sum{{{labels}}} {sum(seconds)}")
        return "\n".join(lines) + "\n"


def answer_of(voice: str, messages: Sequence[Mapping[str, Any]], tokens: int) -> str:
    """The answer of a voice to a chat: words that follow from both; a shorter one is the beginning of a longer."""
    said = json.dumps([[message.get("role"), message.get("content")] for message in messages])
    choices = hashlib.shake_256(f"{voice}\n{said}".encode()).digest(tokens)
    return "".join(f" {WORDS[choice % len(WORDS)]}" for choice in choices)


def _voice_of(path: Path, max_rank: int) -> str:
    """The voice of an adapter's weights; refuses what vLLM refuses: raises FileNotFoundError or ValueError."""
    config = json.loads((path / "adapter_config.json").read_text())
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    if rank > max_rank:
        raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    if config.get("use_dora"):
        raise ValueError("vLLM does not yet support DoRA.")
    if config.get("bias", "none") != "none":
        raise ValueError("Adapter bias is not supported.")
    if set(config.get("modules_to_save") or ()) - {"classifier", "score"}:
        raise ValueError("vLLM only supports modules_to_save being None.")
    try:
        weights = (path / "adapter_model.safetensors").read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} doesn't contain tensors") from None
    _check_safetensors(weights)
    return hashlib.sha256(weights).hexdigest()


def _check_safetensors(content: bytes) -> None:
    """As much as vLLM notices: raises ValueError if header and data do not fit the file."""
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        entries = json.loads(content[8:start]) if start <= len(content) else {}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"Error while deserializing header: {error}") from None
    if not ends or start + max(ends) != len(content):
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")


async def _body(request: web.Request, required: Sequence[str]) -> tuple[dict[str, Any] | None, web.Response]:
    """The request's JSON object, or None and the refusal that FastAPI would give."""
    nothing = web.Response()
    if request.content_type != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        return None, _error(message, "Bad Request", None, 400)
    try:
        body = json.loads(await request.read())
    except json.JSONDecodeError as error:
        message = (
            f"1 validation error:\n  {{'type': 'json_invalid', 'loc': 'body.{error.pos}', 'msg': 'JSON decode error', "
            f"'input': '<dict of 0 items>', 'ctx': {{'error': '{error.msg}'}}}}"
        )
        return None, _error(message, "Bad Request", f"body.{error.pos}", 400)
    for name in required:
        if name not in body:
            return None, _invalid(("missing", "Field required", f"<dict of {len(body)} items>"), f"body.{name}")
    return body, nothing


def _invalid(fault: tuple[str, str, str], place: str) -> web.Response:
    kind, text, given = fault
    shown = given if given.startswith("'") else repr(given)
    message = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{text}', 'input': {shown}}}"
    return _error(message, "Bad Request", place, 400)


def _error(message: str, kind: str, parameter: str | None, status: int) -> web.Response:
    return _json({"error": {"message": message, "type": kind, "param": parameter, "code": status}}, status)


def _plain(text: str) -> web.Response:
    # vLLM sends this text without a Content-Type; aiohttp insists on one, and nobody should look at it.
    return web.Response(body=text.encode())


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_compact(value), status=status, headers={"Content-Type": "application/json", **(headers or {})}
    )


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _break(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Break the connection without an end of the body, as a dying process does; aiohttp takes it for a client gone."""
    if request.transport is not None:
        request.transport.abort()
    return response


def _card(name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    now = int(time.time())
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }


def _prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    return 2 + sum(2 + len(str(message.get("content")).split()) for message in messages)


def _usage(chat: _Chat, generated: int) -> dict[str, Any]:
    prompt = _prompt_tokens(chat.messages)
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A fake vLLM; flags of vLLM's that it has no use for are ignored.", allow_abbrev=False
    )
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="/models/base")
    parser.add_argument("--served-model-name", default=None)
    parser.add_argument("--api-key", action="append", default=[])
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-cpu-loras", type=int, default=0)
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    for knob in dataclasses.fields(Behaviour):
        parser.add_argument(f"--fake-{knob.name.replace('_', '-')}", type=json.loads, default=knob.default)
    options, _ = parser.parse_known_args(arguments)
    return options


async def _serve(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    keys = options.api_key or ([environment["VLLM_API_KEY"]] if environment.get("VLLM_API_KEY") else [])
    settings = Settings(
        model=options.model,
        served_model_name=options.served_model_name or options.model,
        api_keys=tuple(keys),
        max_model_len=options.max_model_len,
        max_lora_rank=options.max_lora_rank,
        max_loras=options.max_loras,
        max_cpu_loras=options.max_cpu_loras,
        runtime_loras=environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").strip().lower() in {"1", "true"},
        shutdown_timeout=options.shutdown_timeout,
    )
    behaviour = Behaviour(
        **{knob.name: getattr(options, f"fake_{knob.name}") for knob in dataclasses.fields(Behaviour)}
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    engine = FakeEngine(settings, behaviour, host=options.host, port=options.port)
    await engine.start()
    print(f"Starting fake vLLM server on {engine.url}", file=sys.stderr, flush=True)
    await ended.wait()
    await engine.terminate()


def main() -> None:
    """Run as a process until SIGTERM or SIGINT."""
    asyncio.run(_serve(_options(sys.argv[1:]), os.environ))


if __name__ == "__main__":
    main()
