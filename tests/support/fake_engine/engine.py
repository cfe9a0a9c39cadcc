"""The server: vLLM's calls, the adapters it holds, and what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.support.fake_engine.answering import Answering
from tests.support.fake_engine.behaviour import Behaviour, Settings, behaviour_for, fails
from tests.support.fake_engine.bodies import card, error_response, is_allowed, json_response, plain_response, read_body
from tests.support.fake_engine.chat import Chat, refusal_of
from tests.support.fake_engine.loading import Loaded, load_adapter, refusal_of_load
from tests.support.fake_engine.metrics import Metrics
from tests.support.fake_engine.slots import Slots
from tests.support.fake_engine.words import BASE_VOICE, answer_of

_OUR_PATHS = ("/fake",)
_MODEL = web.RequestKey("model", str)
"""Where a handler leaves the model or adapter that a request names, for the list of calls."""
_PRIORITY = web.RequestKey("priority", int)
_LOGPROBS = web.RequestKey("logprobs", bool)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as tests ask for it afterwards."""

    method: str
    path: str
    model: str
    status: int
    priority: int = 0
    logprobs: bool = False
    """Whether log-probabilities were asked for."""


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
        """Chat requests that are here now, those that wait for a place included."""
        self.aborted = 0
        """Chat requests whose client went away before the end."""
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._draining = False
        self._metrics = Metrics(self.settings.served_model_name)
        self._slots = Slots(self.settings.max_num_seqs, by_priority=self.settings.scheduling_policy == "priority")
        self._asked: Counter[str] = Counter()

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

    async def until_running(self, count: int, *, timeout: float = 60.0) -> None:
        """Wait until exactly `count` chat requests are being answered; raises TimeoutError."""
        await self.until(lambda: self.running == count, timeout=timeout)

    async def until(self, wanted: Callable[[], bool], *, timeout: float = 60.0) -> None:
        """Wait until something that follows from the requests so far is so; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not wanted():
                await self._next_change(timeout)

    def answered(self, path: str) -> int:
        """Requests of this path that were answered since the start."""
        return sum(call.path == path for call in self.calls)

    async def until_answered(self, path: str, count: int, *, timeout: float = 60.0) -> None:
        """Wait until that many were; raises TimeoutError."""
        await self.until(lambda: self.answered(path) >= count, timeout=timeout)

    def answer(self, name: str, messages: Sequence[Mapping[str, Any]], *, max_tokens: int | None = None) -> str:
        """What the engine answers under `name` now, were it a good engine with good adapters."""
        loaded = self.adapters.get(name)
        if loaded is None and name != self.settings.served_model_name:
            raise KeyError(name)
        voice = BASE_VOICE if loaded is None or self.behaviour.wrong_answers else loaded.voice
        whole = self.behaviour.answer_tokens
        return answer_of(voice, messages, min(max_tokens or whole, whole))

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
            if request.path.startswith("/v1") and not is_allowed(request, self.settings.api_keys):
                response: web.StreamResponse = json_response({"error": "Unauthorized"}, 401)
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as refused:
                    headers = {"Allow": refused.headers["Allow"]} if "Allow" in refused.headers else {}
                    response = json_response({"detail": refused.reason}, refused.status, headers)
            status = response.status
            return response
        finally:
            if request.path not in _OUR_PATHS:
                call = Call(
                    request.method,
                    request.path,
                    request.get(_MODEL, ""),
                    status,
                    request.get(_PRIORITY, 0),
                    request.get(_LOGPROBS, False),
                )
                self.calls.append(call)
                self._wake()

    async def _health(self, request: web.Request) -> web.Response:
        if (left := self.behaviour.health_resets) and request.transport is not None:
            self.behave(health_resets=left - 1)
            request.transport.abort()
        return web.Response(status=self.behaviour.health_status)

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"version": "0.32.0"})

    async def _server_load(self, _: web.Request) -> web.Response:
        return json_response({"server_load": self.running})

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        text = self._metrics.text(
            running=self.running - self._slots.waiting,
            waiting=self._slots.waiting,
            max_loras=self.settings.max_loras,
            adapters=sorted(self.adapters),
        )
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    async def _models(self, _: web.Request) -> web.Response:
        settings = self.settings
        cards = [card(settings.served_model_name, settings.model, None, settings.max_model_len)]
        cards += [card(name, loaded.path, settings.served_model_name, None) for name, loaded in self.adapters.items()]
        return json_response({"object": "list", "data": cards})

    async def _load(self, request: web.Request) -> web.Response:
        body, refused = await read_body(request, ("lora_name", "lora_path"))
        if body is None:
            return refused
        name, path = body["lora_name"], body["lora_path"]
        request[_MODEL] = name
        if (refusal := refusal_of_load(body, self.settings.served_model_name, self.adapters)) is not None:
            return refusal
        await asyncio.sleep(self.behaviour.load_seconds)
        while self.behaviour.hang_loads:
            await self._next_change()
        if status := self.behaviour.refuse_loads:
            return error_response(f"Loading lora {name} failed: refused on demand", "InternalServerError", None, status)
        loaded = await asyncio.to_thread(load_adapter, name, path, self.settings.max_lora_rank, int(time.time()))
        if isinstance(loaded, web.Response):
            return loaded
        self.adapters[name] = loaded
        return plain_response(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        body, refused = await read_body(request, ("lora_name",))
        if body is None:
            return refused
        name = body["lora_name"]
        request[_MODEL] = name
        if not name:
            message = "'lora_name' needs to be provided to unload a LoRA adapter."
            return error_response(message, "InvalidUserInput", None, 400)
        if self.adapters.pop(name, None) is None:
            return error_response(f"The lora adapter '{name}' cannot be found.", "NotFoundError", None, 404)
        return plain_response(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body, refused = await read_body(request, ("messages",))
        if body is None:
            return refused
        if self._draining:
            return error_response("cannot schedule new futures after shutdown", "InternalServerError", None, 500)
        chat = Chat(model=body.get("model") or self.settings.served_model_name, body=body)
        request[_MODEL], request[_PRIORITY], request[_LOGPROBS] = chat.model, chat.priority, chat.logprobs is not None
        if not self._serves(chat.model):
            message = f"The model `{chat.model}` does not exist. Valid aliases: {self.settings.served_model_name}."
            return error_response(message, "NotFoundError", "model", 404)
        if (refusal := refusal_of(chat, self.settings)) is not None:
            return refusal
        started = time.monotonic()
        self.running += 1
        self._wake()
        finished = False
        try:
            async with self._slots.place(chat.priority):
                response = await self._answer(request, chat, started)
            finished = True
            return response
        finally:
            self.running -= 1
            self.aborted += not finished
            self._metrics.finish(time.monotonic() - started, "length" if finished else "abort")
            self._wake()

    async def _answer(self, request: web.Request, chat: Chat, started: float) -> web.StreamResponse:
        loaded = self.adapters.get(chat.model)
        changes = loaded.changes if loaded is not None else {}

        def behaviour() -> Behaviour:
            return behaviour_for(self.behaviour, changes, chat.last_message)

        self._asked[chat.model] += 1
        number = self._asked[chat.model]
        while behaviour().hang_requests:
            await self._next_change()
        status = behaviour().fail_requests or (500 if fails(behaviour().fail_percent, number) else 0)
        if status:
            return error_response("failed on demand", "InternalServerError", None, status)
        voice = BASE_VOICE if loaded is None or behaviour().wrong_answers else loaded.voice
        return await Answering(chat, voice, behaviour, self._next_change, self._metrics, started).respond(request)

    async def _show(self, _: web.Request) -> web.Response:
        return json_response(
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
            return json_response({"error": str(error)}, 400)
        return json_response(dataclasses.asdict(self.behaviour))

    def _serves(self, name: str) -> bool:
        return name == self.settings.served_model_name or name in self.adapters

    async def _next_change(self, timeout: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
