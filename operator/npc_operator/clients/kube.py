"""The Kube port over HTTP: dict bodies, server-side apply, paged lists, and every failure as a PortError with the
server's own reason.

Thin on purpose: one request per call, a time limit on each, nothing retried here (the queue's backoff decides that,
per key). What is written is counted by verb and kind, because "nothing is written at rest" is a promise that must be
visible.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

from npc_operator.clients.connection import Connection
from npc_operator.clients.kube_errors import error_of
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.resources import Resource, find_resource
from npc_operator.ports import Manifest, NotFound, ObjectRef, PortError

APPLY = "application/apply-patch+yaml"
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

REQUEST_SECONDS = 10.0
"""Longest one request may take; the API server's own limit is 60, which is longer than anybody here can wait."""
LIST_SECONDS = 60.0
PAGE = 200
"""Objects per page of a list: some 10 ms of parsing, and a bound on the memory it takes."""
CONNECTIONS = 16
"""Requests in flight at most; each TLS connection costs a quarter of a megabyte, and the API server answers in
milliseconds. The Lease has one of its own: behind hundreds of writes in a storm it would come too late."""
WATCH_SECONDS = 290
"""The server ends a watch after so long and it is begun anew; below the idle limits of common load balancers."""
SILENCE_SECONDS = 75.0
"""A watch without a word for so long is dead: bookmarks come every minute."""


class KubeClient:
    """Implements ports.Kube, and the few calls that only other clients need. Close it when done."""

    def __init__(self, connection: Connection, *, metrics: Metrics, namespaces: Sequence[str] = ()) -> None:
        self._connection = connection
        self._metrics = metrics
        self._namespaces = tuple(namespaces)
        self._requests: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None
        self._renewals: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        sessions = [one for one in (self._requests, self._watches, self._renewals) if one is not None]
        self._requests = self._watches = self._renewals = None
        for session in sessions:
            await session.close()

    # --- the port ---

    async def get(self, ref: ObjectRef) -> Manifest | None:
        resource = find_resource(ref.api_version, ref.kind)
        try:
            found: Manifest = await self.request("get", resource, resource.path(ref.namespace, ref.name))
        except NotFound:
            return None
        return found

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[Manifest]:
        resource = find_resource(api_version, kind)
        everywhere = namespace is None and resource.namespaced and bool(self._namespaces)
        for where in self._namespaces if everywhere else (namespace,):
            async for item in self._pages(resource, where, selector):
                yield item

    async def apply(self, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        resource = find_resource(manifest["apiVersion"], manifest["kind"])
        meta = manifest["metadata"]
        applied: Manifest = await self.request(
            "apply",
            resource,
            resource.path(meta.get("namespace"), meta["name"], subresource),
            params={"fieldManager": manager, "force": "true"},
            body=manifest,
        )
        return applied

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        resource = find_resource(manifest["apiVersion"], manifest["kind"])
        created: Manifest = await self.request(
            "create",
            resource,
            resource.path(manifest["metadata"].get("namespace")),
            params={"fieldManager": manager},
            body=manifest,
        )
        return created

    async def delete(self, ref: ObjectRef, *, resource_version: str) -> None:
        resource = find_resource(ref.api_version, ref.kind)
        preconditions = {"uid": ref.uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: value for key, value in preconditions.items() if value},
            "propagationPolicy": "Background",
        }
        try:
            await self.request("delete", resource, resource.path(ref.namespace, ref.name), body=body)
        except NotFound:
            return

    async def evict(self, ref: ObjectRef, *, resource_version: str) -> None:
        resource = find_resource(ref.api_version, ref.kind)
        preconditions = {"uid": ref.uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "deleteOptions": {"preconditions": {key: value for key, value in preconditions.items() if value}},
        }
        try:
            await self.request("create", resource, resource.path(ref.namespace, ref.name, "eviction"), body=body)
        except NotFound:
            return

    # --- for other clients ---

    async def list_version(
        self, api_version: str, kind: str, *, namespace: str, name: str, metadata_only: bool = False
    ) -> tuple[Manifest | None, str]:
        """One named object by a list (so that rights limited to names suffice), and the version to watch from."""
        resource = find_resource(api_version, kind)
        found = await self.request(
            "list",
            resource,
            resource.path(namespace),
            params={"fieldSelector": f"metadata.name={name}"},
            accept=METADATA_LIST_ONLY if metadata_only else JSON,
        )
        items = found.get("items") or []
        return (items[0] if items else None), found["metadata"].get("resourceVersion", "")

    async def watch(
        self, api_version: str, kind: str, *, namespace: str, name: str, since: str, metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """(type, object) of every change of one named object after `since`, bookmarks left out; without a name, of all.

        Ends when the server ends it; raises PortError (reason Expired when `since` is too old).
        """
        resource = find_resource(api_version, kind)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if name:
            params["fieldSelector"] = f"metadata.name={name}"
        what = f"watch {kind} {namespace}/{name}"
        headers = {"Accept": METADATA_ONLY if metadata_only else JSON}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=SILENCE_SECONDS)
        url = self._connection.server + resource.path(namespace)
        try:
            async with self._watching().get(url, params=params, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    raise error_of(response.status, await response.read(), what)
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(
                            int(event["object"].get("code") or 500), json.dumps(event["object"]).encode(), what
                        )
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PortError(f"{what}: {type(error).__name__}", reason="Unreachable") from error

    async def request(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = JSON,
        seconds: float = REQUEST_SECONDS,
    ) -> Any:
        """One request, parsed. `verb` is Kubernetes' word (get, list, create, update, apply, delete). Raises
        PortError."""
        what = f"{verb} {resource.kind} {path}"
        headers = {"Accept": accept}
        data: bytes | None = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = APPLY if verb == "apply" else JSON
        try:
            session = self._renewing() if resource.kind == "Lease" else self._asking()
            async with session.request(
                _METHODS[verb],
                self._connection.server + path,
                params=params,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                raw = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.failed(verb, resource.kind, "Unreachable")
            raise PortError(f"{what}: {_describe(error)}", reason="Unreachable") from error
        if verb in _WRITES and resource.kind not in _ASKING:
            self._metrics.wrote(verb, resource.kind)
        if status >= 300:
            problem = error_of(status, raw, what)
            if status != 404:
                self._metrics.failed(verb, resource.kind, problem.reason)
            raise problem
        try:
            return json.loads(raw)
        except ValueError as error:
            # A proxy's own page with status 200, or an answer cut off.
            self._metrics.failed(verb, resource.kind, "NoJSON")
            raise PortError(f"{what}: the answer is no JSON", reason="NoJSON") from error

    async def healthy(self, *, seconds: float = 3.0) -> bool:
        """Whether the API server answers at all (any answer counts: rights are another question)."""
        try:
            async with self._asking().get(
                self._connection.server + "/readyz", timeout=aiohttp.ClientTimeout(total=seconds)
            ) as response:
                return response.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    # --- inside ---

    async def _pages(self, resource: Resource, namespace: str | None, selector: str) -> AsyncIterator[Manifest]:
        params = {"limit": str(PAGE)}
        if selector:
            params["labelSelector"] = selector
        while True:
            page = await self.request("list", resource, resource.path(namespace), params=params, seconds=LIST_SECONDS)
            for item in page.get("items") or ():
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
                yield item
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return
            params["continue"] = following
            await asyncio.sleep(0)

    def _asking(self) -> aiohttp.ClientSession:
        if self._requests is None or self._requests.closed:
            self._requests = self._connection.session(limit=CONNECTIONS)
        return self._requests

    def _renewing(self) -> aiohttp.ClientSession:
        """A leadership must not be lost because its own work has all connections."""
        if self._renewals is None or self._renewals.closed:
            self._renewals = self._connection.session(limit=1)
        return self._renewals

    def _watching(self) -> aiohttp.ClientSession:
        """Watches hold their connections, so they must not come out of the requests' pool."""
        if self._watches is None or self._watches.closed:
            self._watches = self._connection.session()
        return self._watches


_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "apply": "PATCH",
    "delete": "DELETE",
}
_WRITES = frozenset({"create", "update", "apply", "delete"})
# Created in form only: a question that the server answers and forgets.
_ASKING = frozenset({"SelfSubjectAccessReview"})


def _describe(error: BaseException) -> str:
    """What went wrong on the wire; aiohttp's own texts hold addresses, never headers."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
        return f"certificate not trusted: {error}"
    return f"{type(error).__name__}: {error}"


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (aiohttp's own iteration stops at 128 KiB)."""
    rest = b""
    async for chunk in content.iter_any():
        parts = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        rest = parts.pop()
        for part in parts:
            if part:
                yield part
