"""A plain HTTPS client for the API server: its own words (status causes with field and message), no library's reading
of them."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]
PLURALS = {"NPCRegion": "npcregions", "GpuTier": "gputiers", "ArchetypeAdapter": "archetypeadapters"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an object, or a Status with causes."""

    code: int
    body: Object

    @property
    def causes(self) -> list[tuple[str, str]]:
        """(field, message) of every fault the server found."""
        details = self.body.get("details") or {}
        return [(cause.get("field", ""), cause.get("message", "")) for cause in details.get("causes", ())]


class ApiServer:
    """The API server of one kubeconfig's context, which must use client certificates (the local cluster does)."""

    def __init__(self, kubeconfig: Path, context: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        chosen = next(item["context"] for item in config["contexts"] if item["name"] == context)
        cluster = next(item["cluster"] for item in config["clusters"] if item["name"] == chosen["cluster"])
        user = next(item["user"] for item in config["users"] if item["name"] == chosen["user"])
        address = urlsplit(cluster["server"])
        self._host, self._port = str(address.hostname), address.port or 443
        self._tls = ssl.create_default_context(cadata=_data(cluster, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(_data(user, "client-certificate") + b"\n" + _data(user, "client-key"))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json", **query: str
    ) -> Answer:
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=120)
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, f"{path}?{urlencode(query)}", text, {"Content-Type": content_type})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read() or b"{}"))
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Namespace:
    """Objects of our kinds in one namespace."""

    server: ApiServer
    name: str

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        parts = (f"/apis/npcfleet.dev/v1alpha1/namespaces/{self.name}/{PLURALS[kind]}", name, subresource)
        return "/".join(part for part in parts if part)

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.server.request("POST", self.path(manifest["kind"]), manifest, **query)

    def get(self, kind: str, name: str) -> Object:
        return self.server.request("GET", self.path(kind, name)).body

    def merge(
        self, kind: str, name: str, patch: Mapping[str, Any], *, subresource: str = "", dry_run: bool = False
    ) -> Answer:
        query = {"dryRun": "All"} if dry_run else {}
        path = self.path(kind, name, subresource)
        return self.server.request("PATCH", path, patch, content_type="application/merge-patch+json", **query)

    def apply(self, manifest: Mapping[str, Any], *, manager: str, subresource: str = "", force: bool = True) -> Answer:
        path = self.path(manifest["kind"], manifest["metadata"]["name"], subresource)
        return self.server.request(
            "PATCH",
            path,
            manifest,
            content_type="application/apply-patch+yaml",
            fieldManager=manager,
            force=str(force).lower(),
        )


def _data(section: Mapping[str, str], key: str) -> bytes:
    """Inline data, or the file that is named instead."""
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return Path(section[key]).read_bytes()
