"""An API server over HTTP that knows lists, single objects, deletions, logs, exec and port-forward: enough for a client
with a kubeconfig. Forwards lead to real ports on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

NAMESPACE = "eu-west"
PROTOCOL = "v4.channel.k8s.io"


@dataclass
class FakeApi:
    """`collections`: path -> objects. `refused`: (verb, resource) without a right. `absent`: paths that answer 404."""

    collections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    forwards: dict[tuple[str, int], int] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    """Path -> status it answers with, whatever is asked."""
    stuck: bool = False
    """Whether what is executed never ends."""
    expires: bool = False
    """Whether the rest of a list is forgotten before it is asked for."""
    mute: set[str] = field(default_factory=set)
    """Paths that take a request and never answer."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    executed: list[tuple[str, list[str]]] = field(default_factory=list)
    patches: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """(path, query, body) of each patch, refused ones included."""
    on_patch: Any = None
    """Called with the FakeApi before a patch is looked at: what somebody faster would do."""
    refusal: tuple[int, str] | None = None
    """(status, message) that every patch meets."""
    on_change: Any = None
    """Called with the FakeApi after an execution or a deletion: what a kubelet would do next."""
    port: int = 0

    def put(self, path: str, *objects: dict[str, Any]) -> None:
        self.collections.setdefault(path, []).extend(objects)

    def kubeconfig(self, folder: Path) -> str:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "caller", "user": {"token": "callers-own-token"}}],
            "contexts": [
                {"name": "fake", "context": {"cluster": "fake", "user": "caller", "namespace": NAMESPACE}},
                {"name": "other", "context": {"cluster": "fake", "user": "caller", "namespace": "us-east"}},
            ],
            "current-context": "fake",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, parts = request.path, request.path.strip("/").split("/")
        self.requests.append((request.method, path))
        # The scheme has no case, and inside a pod the client writes it small.
        if request.headers.get("Authorization", "").casefold() != "bearer callers-own-token":
            return status(401, "Unauthorized")
        if path in self.mute:
            await asyncio.Event().wait()
        if path in self.broken:
            return status(self.broken[path], "etcdserver: request timed out")
        subresource = parts[-1] if parts[-1] in ("log", "exec", "portforward") else ""
        if subresource:
            return await self._pod(request, pod=parts[-2], what=subresource)
        resource = parts[-1] if path in self.collections or path in self.absent else parts[-2]
        listing = path in self.collections and request.method == "GET"
        verb = "list" if listing else request.method.lower()
        if (verb, resource) in self.refused:
            return status(403, f"{resource} is forbidden")
        if path in self.absent:
            return status(404, "the server could not find the requested resource")
        if listing:
            return self._list(request, self.collections[path])
        return await self._one(request, "/".join(path.split("/")[:-1]), parts[-1])

    def _list(self, request: web.Request, objects: list[dict[str, Any]]) -> web.Response:
        wanted = [tuple(one.split("=", 1)) for one in request.query.get("labelSelector", "").split(",") if one]
        found = [
            one
            for one in objects
            if all((one["metadata"].get("labels") or {}).get(key) == value for key, value in wanted)
        ]
        begin = int(request.query.get("continue", "0"))
        if begin and self.expires:
            return status(410, "the provided continue parameter is too old")
        # Pages of two, however many were asked: a client that forgets to go on would miss the third.
        end = begin + 2 if "limit" in request.query else len(found)
        meta = {"continue": str(end)} if end < len(found) else {}
        return web.json_response({"items": found[begin:end], "metadata": meta})

    async def _one(self, request: web.Request, collection: str, name: str) -> web.Response:
        found = next((one for one in self.collections.get(collection, ()) if one["metadata"]["name"] == name), None)
        if found is None:
            return status(404, f"{name} not found")
        if request.method == "GET":
            return web.json_response(found)
        if request.method == "PATCH":
            return await self._patch(request, found)
        wanted = (await request.json())["preconditions"]["uid"]
        if wanted != found["metadata"]["uid"]:
            return status(409, "the UID in the precondition does not match")
        self.collections[collection].remove(found)
        if self.on_change is not None:
            self.on_change(self)
        return web.json_response({"status": "Success"})

    async def _patch(self, request: web.Request, found: dict[str, Any]) -> web.Response:
        """A merge patch with the precondition of the real one."""
        body = await request.json()
        self.patches.append((request.path, dict(request.query), body))
        if request.content_type != "application/merge-patch+json":
            return status(415, f"no {request.content_type}")
        if self.on_patch is not None:
            self.on_patch(self)
        if self.refusal is not None:
            return status(*self.refusal)
        if body["metadata"].get("resourceVersion") not in (None, found["metadata"].get("resourceVersion")):
            return status(409, "the object has been modified; please apply your changes to the latest version")
        if request.query.get("dryRun") != "All":
            _merge(found["spec"], body["spec"])
            found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 1)
        return web.json_response(found)

    async def _pod(self, request: web.Request, *, pod: str, what: str) -> web.StreamResponse:
        if ("create" if what != "log" else "get", f"pods/{what}") in self.refused:
            return status(403, f"pods/{what} is forbidden")
        if what == "log":
            key = (pod, request.query["container"])
            return web.Response(text=self.logs[key]) if key in self.logs else status(400, "container never ran")
        if what == "exec":
            return await self._execute(request, pod)
        return await self._forward(request, pod, int(request.query["ports"]))

    async def _execute(self, request: web.Request, pod: str) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        self.executed.append((pod, request.query.getall("command")))
        if self.stuck:
            await asyncio.Event().wait()
        await socket.send_bytes(b"\x03" + json.dumps({"status": "Success"}).encode())
        await socket.close()
        if self.on_change is not None:
            self.on_change(self)
        return socket

    async def _forward(self, request: web.Request, pod: str, port: int) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        target = self.forwards.get((pod, port))
        if target is None:
            await socket.send_bytes(b"\x01connection refused")
            await socket.close()
            return socket
        reader, writer = await asyncio.open_connection("127.0.0.1", target)

        async def back() -> None:
            while data := await reader.read(65536):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        task = asyncio.create_task(back())
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
                writer.write(message.data[1:])
                await writer.drain()
        writer.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await task
        return socket


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)


@contextlib.asynccontextmanager
async def serving(api: FakeApi, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeApi]:
    """The server on a free port."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    api.port = runner.addresses[0][1]
    try:
        yield api
    finally:
        await runner.cleanup()
