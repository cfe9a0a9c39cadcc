"""The few requests a benchmark makes to its API server, on connections that stay open: what is timed must not hold a
handshake."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

MERGE = "application/merge-patch+json"
GROUP_PATH = "/apis/npcfleet.dev/v1alpha1"
Object = dict[str, Any]


class KubeFault(Exception):
    """The API server refused; the message is its own. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kube:
    """A client with the administrator's certificate. `async with`."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self._server = server
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of_kubeconfig(cls, path: Path) -> Kube:
        """A client for the current context, which must use a client certificate (the local cluster's does)."""
        config = yaml.safe_load(path.read_text())

        def named(section: str, name: str) -> Mapping[str, Any]:
            kind = section.removesuffix("s")
            return next(entry[kind] for entry in config[section] if entry["name"] == name)

        context = named("contexts", config["current-context"])
        cluster, user = named("clusters", context["cluster"]), named("users", context["user"])
        tls = ssl.create_default_context(cadata=_inline(cluster, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(_inline(user, "client-certificate") + b"\n" + _inline(user, "client-key"))
            pair.flush()
            tls.load_cert_chain(pair.name)
        return cls(str(cluster["server"]), tls)

    async def __aenter__(self) -> Kube:
        connector = aiohttp.TCPConnector(limit=32, ssl=self._tls, keepalive_timeout=600)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Any:
        """The decoded answer. Raises KubeFault."""
        assert self._session is not None, "used outside of its block"
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self._server + path, data=data, headers=headers) as answer:
            raw = await answer.read()
        if answer.status >= 400:
            raise KubeFault(answer.status, f"{method} {path}: {answer.status} {raw[:500].decode(errors='replace')}")
        return orjson.loads(raw)

    async def find(self, path: str) -> Object | None:
        """An object, or None where there is none. Raises KubeFault."""
        try:
            found: Object = await self.call("GET", path)
        except KubeFault as fault:
            if fault.status == 404:
                return None
            raise
        return found

    async def merge(self, path: str, patch: object) -> Object:
        """A merge patch. Raises KubeFault."""
        merged: Object = await self.call("PATCH", path, patch, content_type=MERGE)
        return merged

    async def watch(self, path: str, *, version: str) -> AsyncIterator[Object]:
        """Every object below `path` as it changes after `version`, until the reader stops. Raises KubeFault."""
        assert self._session is not None, "used outside of its block"
        timeout = aiohttp.ClientTimeout(total=None)
        params = {"watch": "true", "resourceVersion": version}
        async with self._session.get(self._server + path, params=params, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise KubeFault(int(event["object"].get("code", 0)), str(event["object"].get("message")))
                    yield event["object"]


def collection(plural: str, namespace: str) -> str:
    """Path of our kind's objects in a namespace."""
    return f"{GROUP_PATH}/namespaces/{namespace}/{plural}"


def core(plural: str, namespace: str, name: str = "") -> str:
    """Path of a core object, or of all of them."""
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def deployment_path(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def _inline(section: Mapping[str, str], key: str) -> bytes:
    """Inline data of a kubeconfig, or the file that is named instead."""
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return Path(section[key]).read_bytes()
