"""The API server through the official client, with the caller's kubeconfig and the caller's rights.

Objects stay the JSON they are: the client's typed models would drop what is newer than they are.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..ports import CliError, Cluster, Conflict, Forbidden, NoCluster, NotFound, NotReached, Object, Refused
from .tunnel import tunnel

PAGE = 500
PROTOCOL = "v4.channel.k8s.io"
STATUS = 3
"""The channel of exec that says how it ended."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
KILLED = ("exit code 137", "exit code 143")
"""How a command ends whose container goes away under it."""
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_VERBS = {"GET": "get", "DELETE": "delete", "POST": "create", "PATCH": "patch"}
MERGE_PATCH = "application/merge-patch+json"


def connect(*, kubeconfig: str = "", context: str = "") -> Cluster:
    """A client for the given, the usual or, inside a pod, the pod's own credentials. Raises NoCluster."""
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration

    settings = Configuration()
    # One attempt each: a tool that is watched should say at once that nobody answers.
    settings.retries = False
    try:
        client = config.new_client_from_config(
            config_file=kubeconfig or None, context=context or None, client_configuration=settings
        )
        return KubeCluster(client, namespace=_context_namespace(kubeconfig, context))
    except config.ConfigException as error:
        if kubeconfig or context:
            raise NoCluster(f"the kubeconfig cannot be used: {error}", step="kubectl config get-contexts") from None
    except (OSError, TypeError, ValueError) as error:
        raise NoCluster(f"the kubeconfig cannot be read: {error}", step="kubectl config view") from None
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        raise NoCluster("there is no kubeconfig", step="name one with --kubeconfig or KUBECONFIG") from None
    here = _POD_NAMESPACE.read_text(encoding="utf-8").strip() if _POD_NAMESPACE.exists() else "default"
    return KubeCluster(ApiClient(configuration=settings), namespace=here)


def _context_namespace(kubeconfig: str, context: str) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(config_file=kubeconfig or None)
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str((chosen or {}).get("context", {}).get("namespace") or "default")


class KubeCluster:
    """ports.Cluster on the real thing."""

    def __init__(self, client: Any, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

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
            page = self._json("GET", path, query=query, listing=True)
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
        from websocket import WebSocketException

        words = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", w) for w in command)]
        websocket = self._stream(namespace, pod, "exec", words)
        told = ""
        try:
            while frame := websocket.recv():
                raw = frame if isinstance(frame, bytes) else str(frame).encode()
                if raw[0] == STATUS:
                    told = _failure(raw[1:])
                    break
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
            connection.settimeout(READ_SECONDS)
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
        try:
            return ws_client.create_websocket(self._client.configuration, ws_client.get_websocket_url(url), headers)
        except (WebSocketException, OSError) as error:
            raise _stream_fault(str(error), f"create pods/{what}", namespace, pod) from None

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
                method, url, headers, body, _request_timeout=(CONNECT_SECONDS, READ_SECONDS)
            )
            data = bytes(response.read() or b"")
        except ApiException as error:
            if not error.status:
                raise _unreached(self._client, error.reason) from None
            raise _fault(int(error.status), str(error.reason), method, path, listing=listing) from None
        except (HTTPError, OSError) as error:
            raise _unreached(self._client, error) from None
        if response.status >= 400:
            raise _fault(response.status, _message(data), method, path, listing=listing)
        return data


def _unreached(client: Any, error: object) -> NoCluster:
    return NoCluster(
        f"the API server at {client.configuration.host} does not answer: {error}", step="kubectl cluster-info"
    )


def _message(data: bytes) -> str:
    """What a Status object says."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return ""
    return str(parsed.get("message", "")) if isinstance(parsed, dict) else ""


def _fault(status: int, message: str, method: str, path: str, *, listing: bool) -> CliError:
    """The API server's refusal as one of ours."""
    resource, namespace, name = split_path(path)
    if status == 401:
        return NoCluster(f"the API server does not know you: {message}", step="kubectl auth whoami")
    if method == "PATCH" and (status in (400, 422) or (status == 403 and "admission" in message)):
        return Refused(f"the API server refuses the change: {message}")
    if method == "PATCH" and status == 409:
        return Conflict(f"{resource}/{name} was changed by somebody else meanwhile")
    if status == 403:
        verb = "list" if listing else _VERBS.get(method, method.lower())
        return Forbidden(f"{verb} {resource}", namespace)
    if status == 404:
        what = f"{resource}/{name}" if name else resource
        return NotFound(f"there is no {what}" + (f" in namespace {namespace}" if namespace else ""))
    if status == 409:
        return NotFound(f"{resource}/{name} is not the one that was looked at any more")
    return NoCluster(f"the API server answered {status} for {resource}: {message}")


def split_path(path: str) -> tuple[str, str, str]:
    """(resource as `kubectl auth can-i` names it, namespace, name) of an API path."""
    parts = path.strip("/").split("/")
    group = ""
    if parts[0] == "apis":
        group, parts = parts[1], parts[3:]
    else:
        parts = parts[2:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    resource = f"{parts[0]}/{parts[2]}" if len(parts) > 2 else parts[0]
    dotted = resource if not group or group == "apps" else f"{resource}.{group}"
    return dotted, namespace, name


def _failure(status: bytes) -> str:
    """What exec says went wrong, empty where it did not or where the container ended under it."""
    try:
        parsed = json.loads(status)
    except ValueError:
        return ""
    if not isinstance(parsed, dict) or parsed.get("status") == "Success":
        return ""
    message = str(parsed.get("message", ""))
    return "" if message.endswith(KILLED) else message


def _stream_fault(told: str, right: str, namespace: str, pod: str) -> CliError:
    """Opening a stream failed: the library has the HTTP status only in its words."""
    if "403" in told:
        # A stream is opened by GET; some versions ask for the right to get it, others to create it.
        verb = re.search(r"cannot (get|create) resource", told)
        return Forbidden(f"{verb.group(1)} {right.partition(' ')[2]}" if verb is not None else right, namespace)
    if "404" in told:
        return NotFound(f"there is no pod {pod} in namespace {namespace}")
    return NotReached(f"pod {pod} cannot be reached: {told.splitlines()[0][:200]}")
