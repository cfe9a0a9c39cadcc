"""A gateway in this process with scripted engines and agents around it, all on loopback ports chosen by the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import io
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from npc_runtime import wire
from npc_runtime.gateway.app import Gateway
from npc_runtime.gateway.plane import LocalPlane
from npc_runtime.gateway.service import Service
from npc_runtime.gateway.settings import Settings

NAMESPACE = "eu"
KEY = "game-key"
ENGINE_KEY = "engine-key"
AGENT_TOKEN = "agent-token"
ADMIN_TOKEN = "admin-token"
OLD = "sha256:" + "a1" * 32
NEW = "sha256:" + "b2" * 32


# --- certificates


def write_certificate(folder: Path, *, name: str = wire.server_name(NAMESPACE)) -> None:
    """A self-signed certificate for `name` as tls.crt, tls.key and ca.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)


def make_internal(folder: Path) -> Path:
    """The folder a gateway finds its certificate and tokens in."""
    folder.mkdir(parents=True, exist_ok=True)
    write_certificate(folder)
    (folder / "token").write_text(ADMIN_TOKEN)
    return folder


# --- engines


@dataclass
class Asked:
    """One request as an engine received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Reply:
    """What a script may do with one request's connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.kept = True

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, status: int, body: object, *, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(data)}\r\n\r\n"
        await self.send(head.encode() + data)

    async def stream_head(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def event(self, data: object) -> None:
        await self.send(chunk(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"))

    async def end(self) -> None:
        await self.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def reset(self) -> None:
        """Drop the connection on the floor."""
        self.kept = False
        self._writer.transport.abort()


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


Script = Callable[[Asked, Reply], Awaitable[None]]


class Engine:
    """An engine that answers like vLLM unless a script says otherwise."""

    def __init__(self, *loaded: str, words: int = 3) -> None:
        self.loaded = set(loaded)
        self.words = words
        self.pause = 0.0
        self.script: Script | None = None
        self.asked: list[Asked] = []
        self.running = 0
        self.connections = 0
        self.aborted = asyncio.Event()
        self.host = "127.0.0.1"
        self.port = 0
        self.key = ENGINE_KEY
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Engine:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def chats(self) -> int:
        return len(self.asked)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, json.loads(body))
        self.asked.append(asked)
        self.running += 1
        reply = Reply(writer)
        answering = asyncio.ensure_future((self.script or self.answer)(asked, reply))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not gone.result():
                self.aborted.set()
                return False
            await answering
        finally:
            self.running -= 1
            answering.cancel()
            gone.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
        return reply.kept

    async def answer(self, asked: Asked, reply: Reply) -> None:
        """What vLLM would do."""
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            await reply.json(401, {"error": "Unauthorized"})
            return
        model = asked.body["model"]
        if model not in self.loaded:
            text = f"The model `{model}` does not exist."
            await reply.json(404, {"error": {"message": text, "type": "NotFoundError", "param": "model", "code": 404}})
            return
        if asked.body.get("stream"):
            await reply.stream_head()
            for number in range(self.words):
                await asyncio.sleep(self.pause)
                delta = {"content": f"{model} {number} "}
                await reply.event({"object": "chat.completion.chunk", "model": model, "choices": [{"delta": delta}]})
            await reply.end()
            return
        await asyncio.sleep(self.pause * self.words)
        content = "".join(f"{model} {number} " for number in range(self.words))
        message = {"role": "assistant", "content": content}
        await reply.json(200, {"object": "chat.completion", "model": model, "choices": [{"message": message}]})


# --- agents


class Agent:
    """One pod's agent: `say` changes its word, and open long polls answer at once."""

    def __init__(self, internal: Path, *resident: str, host: str = "127.0.0.1") -> None:
        self._internal = internal
        self.host = host
        self.tokens = {AGENT_TOKEN}
        self.uid = ""
        self.meant: list[str] = []
        """The pods that polls said they were meant for."""
        self.word = wire.Routable(boot_id="boot-1", revision=1, accepting=True, resident=resident)
        self.polls = 0
        self.polled = asyncio.Event()
        self.port = 0
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Agent:
        app = web.Application()
        app.router.add_get("/v1/routable", self._routable)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._internal / "tls.crt", self._internal / "tls.key")
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def say(self, *, accepting: bool = True, resident: Iterable[str] = (), boot: str | None = None) -> None:
        revision = self.word.revision + 1 if boot is None else 1
        self.word = wire.Routable(
            boot_id=boot or self.word.boot_id, revision=revision, accepting=accepting, resident=tuple(resident)
        )
        self._changed.set()
        self._changed = asyncio.Event()

    async def _routable(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(status=401, body=wire.Refusal(reason="Unauthorized", message="no").to_bytes())
        self.meant.append(request.headers.get(wire.POD_HEADER, ""))
        if self.uid and self.meant[-1] not in ("", self.uid):
            refusal = wire.Refusal(reason="OtherPod", message=f"this is pod {self.uid}, not {self.meant[-1]}")
            return web.Response(status=421, body=refusal.to_bytes())
        changed = self._changed
        self.polls += 1
        self.polled.set()
        known = (request.query["boot"], int(request.query["after"]))
        if known == (self.word.boot_id, self.word.revision):
            await changed.wait()
        return web.Response(body=self.word.to_bytes(), content_type="application/json")


# --- route tables


class Pod(Protocol):
    """Anything that answers as an engine on a port."""

    port: int
    loaded: set[str]


@dataclass
class World:
    """What a route table is made of; `table()` makes one with the next generation."""

    engines: Mapping[str, Sequence[Pod]] = field(default_factory=dict)
    default_tier: str = "gold"
    aliases: dict[tuple[str, str], list[tuple[str, int]]] = field(
        default_factory=lambda: {("gold", "vampire"): [(OLD, 100)]}
    )
    assignments: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=lambda: {"game": KEY})
    authentication: str = "ApiKey"
    limits: dict[str, int] = field(default_factory=dict)
    agent_tokens: list[str] = field(default_factory=lambda: [AGENT_TOKEN])
    agent_ca: str = ""
    addresses: dict[int, str] = field(default_factory=dict)
    """Address by engine port, where it is not 127.0.0.1."""
    resident: dict[int, tuple[str, ...] | None] = field(default_factory=dict)
    """Residency by engine port, where it is not what the engine has loaded now."""
    engine_keys: dict[str, str] = field(default_factory=lambda: {"k1": ENGINE_KEY})
    engine_key_id: str = "k1"
    epoch: int = 1
    generation: int = 0

    def table(self) -> wire.RouteTable:
        self.generation += 1
        return wire.RouteTable.model_validate(
            {
                "stamp": {"epoch": self.epoch, "generation": self.generation},
                "namespace": NAMESPACE,
                "region": "eu-west",
                "default_tier": self.default_tier,
                "assignments": [{"npc_prefix": prefix, "tier": tier} for prefix, tier in self.assignments.items()],
                "tiers": [
                    {
                        "name": tier,
                        "quality": "Gold",
                        "endpoints": [
                            {
                                "pod": f"{tier}-{engine.port}",
                                "uid": f"uid-{engine.port}",
                                "address": self.addresses.get(engine.port, "127.0.0.1"),
                                "port": engine.port,
                                "engine_key_id": self.engine_key_id,
                                "resident": self.resident.get(engine.port, tuple(sorted(engine.loaded))),
                            }
                            for engine in engines
                        ],
                    }
                    for tier, engines in self.engines.items()
                ],
                "aliases": [
                    {
                        "archetype": archetype,
                        "tier": tier,
                        "targets": [
                            {"served_name": wire.served_name(archetype, digest), "digest": digest, "percent": percent}
                            for digest, percent in targets
                        ],
                    }
                    for (tier, archetype), targets in self.aliases.items()
                ],
                "authentication": self.authentication,
                "api_keys": [
                    {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
                    for name, key in self.keys.items()
                ],
                "engine_keys": [{"id": key_id, "key": key} for key_id, key in self.engine_keys.items()],
                "agent_tokens": self.agent_tokens,
                "agent_ca": self.agent_ca,
                "limits": self.limits,
            }
        )


# --- the gateway


class Rig:
    """A running gateway and what a test asks of it."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession, log: io.BytesIO, internal: Path) -> None:
        self.gateway = gateway
        self.session = session
        self.log = log
        self.internal = internal

    @property
    def port(self) -> int:
        return self.gateway.ports["data"]

    @property
    def service(self) -> Service:
        """The data plane's inside, where there is one process."""
        assert isinstance(self.gateway.plane, LocalPlane)
        return self.gateway.plane.service

    def url(self, path: str, *, port: str = "data") -> str:
        return f"http://127.0.0.1:{self.gateway.ports[port]}{path}"

    def admin_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.internal / "ca.crt"))

    async def admin(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        token: str = ADMIN_TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """A request to the admin port over a connection of its own, verified like the operator does."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.request(
                method,
                f"https://127.0.0.1:{self.gateway.ports['admin']}{path}",
                data=data,
                headers={"Authorization": f"Bearer {token}", **(headers or {})},
                ssl=self.admin_tls(),
                server_hostname=wire.server_name(NAMESPACE),
            ) as answer,
        ):
            return answer.status, await answer.json()

    async def push(self, table: wire.RouteTable) -> wire.Accepted:
        """Put a table in force the way the operator does."""
        status, body = await self.admin("PUT", "/v1/routes", data=table.to_bytes())
        assert status == 200, body
        return wire.Accepted.model_validate(body)

    async def say(
        self,
        archetype: str = "vampire",
        *,
        stream: bool = False,
        npc: str | None = None,
        tier: str | None = None,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        **fields: object,
    ) -> Answer:
        """One chat completion, read to its end."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if npc is not None:
            sent["X-NPC-Id"] = npc
        if tier is not None:
            sent["X-NPC-Tier"] = tier
        body = {"model": archetype, "messages": [{"role": "user", "content": "Hello"}], "stream": stream, **fields}
        async with self.session.post(self.url("/v1/chat/completions"), json=body, headers=sent) as answer:
            return Answer(answer.status, answer.headers, (await answer.read()).decode())

    async def metrics(self) -> str:
        async with self.session.get(self.url("/metrics", port="health")) as answer:
            return await answer.text()

    async def ready(self) -> tuple[int, str]:
        async with self.session.get(self.url("/readyz", port="health")) as answer:
            return answer.status, await answer.text()

    def usable(self, tier: str, served_name: str) -> int:
        """How many pods of a tier may be asked for a served name."""
        return len(self.service.fleet.usable(tier, served_name))

    def access_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.text)["error"]
        assert isinstance(error, dict)
        return error

    @property
    def spoken(self) -> str:
        """The words, streamed or not."""
        if self.text.startswith("data:"):
            events = [part.removeprefix("data: ") for part in self.text.split("\n\n") if part]
            assert events[-1] == "[DONE]", self.text
            return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events[:-1])
        return str(json.loads(self.text)["choices"][0]["message"]["content"])

    @property
    def digest(self) -> str:
        return self.headers["X-NPC-Served-By"]


def settings(tmp_path: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "admin_port": 0,
        "health_port": 0,
        "agent_port": 9,
        "internal_dir": tmp_path / "internal",
        "routes_file": tmp_path / "routes" / "routes.json",
        "state_dir": tmp_path / "state",
        "shutdown_delay": 0.0,
        "drain": 5.0,
        "workers": 1,
        "access_log": True,
        "log_level": "info",
        "pod_uid": "",
    }
    return Settings(**values | changes)


@contextlib.asynccontextmanager
async def running(tmp_path: Path, **changes: Any) -> AsyncIterator[Rig]:
    """A gateway on free ports, without a table unless its folders hold one."""
    if not (tmp_path / "internal").exists():
        make_internal(tmp_path / "internal")
    (tmp_path / "state").mkdir(exist_ok=True)
    log = io.BytesIO()
    gateway = Gateway(settings(tmp_path, **changes), access_log_to=log)
    await gateway.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        try:
            yield Rig(gateway, session, log, tmp_path / "internal")
        finally:
            await gateway.close()


async def raw(port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 5.0) -> bytes:
    """Send bytes as they are and return everything until the other side closes (or TimeoutError)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.transport.abort()


async def eventually(holds: Callable[[], bool], *, seconds: float = 5.0) -> float:
    """Wait until something holds; the seconds it took, or TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)
    return loop.time() - began
