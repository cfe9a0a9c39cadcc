"""The few calls the tool itself makes to the API server: quicker than starting kubectl for each."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

from hack.cluster.errors import ClusterError


class ApiError(ClusterError):
    """The API server answered with an error. ``status`` is its HTTP status, 0 when it could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def credentials(*, ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """A client certificate, and the authority whose servers are trusted."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(str(cert), str(key))
    return context


class KubeApi:
    """A client with one certificate. Every call is a connection of its own, so a restarted server is no matter."""

    def __init__(self, server: str, *, context: ssl.SSLContext, timeout: float = 30.0) -> None:
        address = urllib.parse.urlsplit(server)
        self._host, self._port = address.hostname or "", address.port or 443
        self._context, self._timeout = context, timeout

    def at(self, server: str) -> KubeApi:
        """The same credentials for another server: a kubelet."""
        return KubeApi(server, context=self._context, timeout=self._timeout)

    def connection(self) -> http.client.HTTPSConnection:
        """A connection with these credentials, for many calls; the caller closes it."""
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The decoded answer (text where it is no JSON).

        :raises ApiError: when the server cannot be reached or answers 400 and above.
        """
        connection = self.connection()
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, body=payload, headers={"Content-Type": content_type})
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"{method} {path}: the API server cannot be reached: {error}") from error
        finally:
            connection.close()
        text = raw.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except ValueError:
            data = text
        if answer.status >= 400:
            message = data.get("message", text) if isinstance(data, dict) else text
            raise ApiError(answer.status, f"{method} {path}: {answer.status} {message}")
        return data

    def get(self, path: str) -> Any:
        """:raises ApiError: see :meth:`call`."""
        return self.call("GET", path)

    def apply(self, path: str, manifest: dict[str, Any]) -> Any:
        """Server-side apply under this tool's field manager.

        :raises ApiError: see :meth:`call`.
        """
        return self.call(
            "PATCH", f"{path}?fieldManager=npc-fleet-cluster&force=true", manifest, "application/apply-patch+yaml"
        )

    def delete(self, path: str) -> None:
        """Delete; an object that is not there is fine.

        :raises ApiError: see :meth:`call`.
        """
        try:
            self.call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def answers(self, path: str = "/readyz") -> bool:
        """Whether the server answers this path without an error."""
        try:
            self.get(path)
        except ApiError:
            return False
        return True
