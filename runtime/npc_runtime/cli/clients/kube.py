"""The API server through the official client, with the caller's kubeconfig and the caller's rights.

Objects stay the JSON they are: the client's typed models would drop what is newer than they are.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from ..ports import NoCluster, NotReached, Object
from .faults import Expired, failure, fault, message_of, stream_fault, unreached
from .tunnel import tunnel

PAGE = 500
PROTOCOL = "v4.channel.k8s.io"
STATUS = 3
"""The channel of exec that says how it ended."""
CONNECT_SECONDS = 5.0
"""How long the way to the API server may take; what it does then has the caller's own limit."""
MERGE_PATCH = "application/merge-patch+json"


class KubeCluster:
    """ports.Cluster on the real thing."""

    def __init__(self, client: Any, *, namespace: str, timeout: float) -> None:
        """`timeout` is in seconds: the longest silence of the API server, or of a pod behind it."""
        self._client = client
        self._namespace = namespace
        self._timeout = timeout

    @property
    def namespace(self) -> str:
        return self._namespace

    def close(self) -> None:
        self._client.rest_client.pool_manager.clear()

    def get(self, path: str) -> Object:
        return self._json("GET", path)

    def list(self, path: str, *, selector: str = "") -> Sequence[Object]:
        found: list[Object] = []
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            try:
                page = self._json("GET", path, query=query, listing=True)
            except Expired:
                if "continue" not in query:
                    raise
                # What came after the pages that were read is forgotten; without pages there is nothing to forget.
                found.clear()
                query = {key: value for key, value in query.items() if key == "labelSelector"}
                continue
            found += [one for one in page.get("items") or () if isinstance(one, Mapping)]
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return found
            query["continue"] = more

    def delete(self, path: str, *, uid: str) -> None:
        self._json("DELETE", path, body={"preconditions": {"uid": uid}})

    def patch(self, path: str, body: Object, *, manager: str, dry_run: bool) -> Object:
        query = {"fieldManager": manager, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._json("PATCH", path, query=query, body=body)

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        query = {"container": container, "tailLines": str(lines), "timestamps": "true"}
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return self._request("GET", path, query=query).decode(errors="replace")

    def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> None:
        from websocket import WebSocketException, WebSocketTimeoutException

        words = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", w) for w in command)]
        websocket = self._stream(namespace, pod, "exec", words)
        websocket.settimeout(self._timeout)
        told = ""
        try:
            while frame := websocket.recv():
                raw = frame if isinstance(frame, bytes) else str(frame).encode()
                if raw[0] == STATUS:
                    told = failure(raw[1:])
                    break
        except (WebSocketTimeoutException, TimeoutError):
            told = f"it did not end within {self._timeout:g} s"
        except (WebSocketException, OSError):
            # What was run may have ended the container, and this connection with it.
            told = ""
        finally:
            websocket.shutdown()
        if told:
            raise NotReached(f"container {container} of pod {pod} could not run it: {told}")

    @contextlib.contextmanager
    def forward(self, namespace: str, pod: str, port: int) -> Iterator[socket.socket]:
        websocket = self._stream(namespace, pod, "portforward", [("ports", str(port))])
        with tunnel(websocket) as (connection, told):
            connection.settimeout(self._timeout)
            try:
                yield connection
            except (OSError, HTTPException) as error:
                raise NotReached(f"pod {pod} does not answer on port {port}: {str(told) or error}") from None

    def _stream(self, namespace: str, pod: str, what: str, query: Sequence[tuple[str, str]]) -> Any:
        """An open websocket to a subresource of a pod. Whoever gets it closes it."""
        from kubernetes.stream import ws_client
        from websocket import WebSocketException

        _, url, headers, _, _ = self._client.param_serialize(
            method="GET",
            resource_path=f"/api/v1/namespaces/{namespace}/pods/{pod}/{what}?{urlencode(query)}",
            header_params={"sec-websocket-protocol": PROTOCOL},
            auth_settings=["BearerToken"],
        )
        target = ws_client.get_websocket_url(url)
        try:
            return _within(
                self._timeout, lambda: ws_client.create_websocket(self._client.configuration, target, headers)
            )
        except (WebSocketException, OSError) as error:
            raise stream_fault(str(error), f"create pods/{what}", namespace, pod) from None

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        listing: bool = False,
    ) -> Mapping[str, Any]:
        data = self._request(method, path, query=query, body=body, listing=listing)
        try:
            parsed = json.loads(data)
        except ValueError:
            raise NoCluster(f"the API server answered {path} with something that is no JSON") from None
        return parsed if isinstance(parsed, Mapping) else {}

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        listing: bool = False,
    ) -> bytes:
        from kubernetes.client.rest import ApiException
        from urllib3.exceptions import HTTPError

        asked = f"{path}?{urlencode(query)}" if query else path
        sent = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            _, url, headers, _, _ = self._client.param_serialize(
                method=method,
                resource_path=asked,
                header_params={"Accept": "application/json, */*", "Content-Type": sent},
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(
                method, url, headers, body, _request_timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout)
            )
            data = bytes(response.read() or b"")
        except ApiException as error:
            if not error.status:
                raise unreached(self._client, error.reason) from None
            raise fault(int(error.status), str(error.reason), method, path, listing=listing) from None
        except (HTTPError, OSError) as error:
            raise unreached(self._client, error) from None
        if response.status >= 400:
            raise fault(response.status, message_of(data), method, path, listing=listing)
        return data


def _within(seconds: float, open_one: Callable[[], Any]) -> Any:
    """An open websocket, or TimeoutError: the library waits for one for ever, as where a node is lost and nobody has
    noticed yet. One that opens too late is closed by whoever opened it.
    """
    outcome: queue.Queue[Any] = queue.Queue()
    late = threading.Event()

    def work() -> None:
        try:
            opened = open_one()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.put(error)
            return
        outcome.put(opened)
        if late.is_set():
            opened.shutdown()

    threading.Thread(target=work, daemon=True).start()
    try:
        found = outcome.get(timeout=seconds)
    except queue.Empty:
        late.set()
        raise TimeoutError(f"nobody answered within {seconds:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found
