"""How to reach the API server and who we are there: in a pod by its service account, elsewhere by a kubeconfig.

Read here rather than by the official client library, whose import alone costs 20 MB of memory and a third of a
second, for credentials that are a file or a dozen keys of YAML. Understood are certificates, tokens, token files,
passwords and exec plugins.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

USER_AGENT = "npc-operator"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = "~/.kube/config"
TOKEN_SECONDS = 60.0
"""How long a token is used before its source is asked again; kubelet replaces a service account's long before it
ends."""
EXEC_SECONDS = 60.0
EXEC_TOKEN_SECONDS = 600.0


class NoCredentials(Exception):
    """Neither a service account nor a usable kubeconfig was found; the message says what was looked for."""


@dataclass(slots=True)
class Identity:
    """The Authorization header of this moment. Exactly one source is set, or none (a client certificate speaks
    then)."""

    fixed: str = field(default="", repr=False)
    token_file: Path | None = None
    command: Mapping[str, Any] | None = None
    _header: str = field(default="", repr=False)
    _until: float = 0.0

    async def headers(self) -> dict[str, str]:
        """Raises NoCredentials when the source fails and nothing is known yet."""
        if self.fixed:
            return {"Authorization": self.fixed}
        if self.token_file is None and self.command is None:
            return {}
        if time.monotonic() >= self._until:
            await self._renew()
        return {"Authorization": self._header}

    async def _renew(self) -> None:
        try:
            if self.token_file is not None:
                token, seconds = self.token_file.read_text().strip(), TOKEN_SECONDS
            else:
                token, seconds = await _run_plugin(self.command or {}), EXEC_TOKEN_SECONDS
        except (OSError, ValueError, TimeoutError) as error:
            if not self._header:
                raise NoCredentials(f"no token for the API server: {error}") from error
            self._until = time.monotonic() + 1.0
            return
        self._header = f"Bearer {token}"
        self._until = time.monotonic() + seconds


@dataclass(frozen=True, slots=True)
class Connection:
    """Address, trust and identity."""

    server: str
    ssl: ssl.SSLContext | bool
    identity: Identity
    proxy: str | None = None
    server_hostname: str | None = None

    def session(self, *, limit: int = 0) -> aiohttp.ClientSession:
        """A session of its own, whose every request carries the identity of its moment; at most `limit` connections
        (0: any)."""

        async def authenticate(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.headers.update(await self.identity.headers())
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ssl=self.ssl, keepalive_timeout=75),
            headers={"User-Agent": USER_AGENT},
            middlewares=(authenticate,),
            proxy=self.proxy,
        )


async def connect(
    *, kubeconfig: str = "", context: str = "", in_cluster: str = "", account: Path = SERVICE_ACCOUNT
) -> Connection:
    """Read the credentials; `in_cluster` is host:port of the API server inside a pod, and goes before a kubeconfig.

    Raises NoCredentials; does not talk to the server.
    """
    try:
        if in_cluster:
            return _from_service_account(in_cluster, account)
        return await _from_kubeconfig(kubeconfig or DEFAULT_KUBECONFIG, context)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ssl.SSLError, TimeoutError) as error:
        where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or DEFAULT_KUBECONFIG}"
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NoCredentials(f"no credentials for the API server from {where}: {detail}") from error


def _from_service_account(address: str, account: Path) -> Connection:
    token = account / "token"
    if not token.read_text().strip():
        raise ValueError(f"{token} is empty")
    trust = _relaxed(ssl.create_default_context(cafile=str(account / "ca.crt")))
    return Connection(server=f"https://{address}", ssl=trust, identity=Identity(token_file=token))


async def _from_kubeconfig(paths: str, context: str) -> Connection:
    config = _merge(paths)
    chosen = context or config["current-context"]
    where = _named(config, "contexts", chosen)["context"]
    cluster = _named(config, "clusters", where["cluster"])["cluster"]
    user = _named(config, "users", where["user"])["user"] if where.get("user") else {}
    plugin = user.get("exec")
    if plugin:
        shown = await _ask_plugin(plugin)
        user = {
            **user,
            "client-certificate-data": _encode(shown.get("clientCertificateData")),
            "client-key-data": _encode(shown.get("clientKeyData")),
        }
        plugin = plugin if shown.get("token") else None
    return Connection(
        server=cluster["server"].rstrip("/"),
        ssl=_trust(cluster, user),
        identity=_identify(user, plugin),
        proxy=cluster.get("proxy-url"),
        server_hostname=cluster.get("tls-server-name"),
    )


def _merge(paths: str) -> dict[str, Any]:
    """KUBECONFIG may name several files; the first word on anything wins. Relative paths inside are made absolute."""
    merged: dict[str, Any] = {"contexts": [], "clusters": [], "users": []}
    found = [path for path in (Path(part).expanduser() for part in paths.split(os.pathsep)) if path.is_file()]
    if not found:
        raise FileNotFoundError(f"no such file: {paths}")
    for path in found:
        config = yaml.safe_load(path.read_text()) or {}
        for kind in ("clusters", "users"):
            for entry in config.get(kind) or ():
                _absolute(entry[kind[:-1]] or {}, path.parent)
        for kind in ("contexts", "clusters", "users"):
            merged[kind] += config.get(kind) or ()
        if config.get("current-context"):
            merged.setdefault("current-context", config["current-context"])
    return merged


def _absolute(entry: dict[str, Any], folder: Path) -> None:
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if entry.get(key):
            entry[key] = str(folder / entry[key])


def _named(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for entry in config[kind]:
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry
            return found
    raise ValueError(f"no entry {name!r} in {kind}")


def _identify(user: Mapping[str, Any], plugin: Mapping[str, Any] | None) -> Identity:
    if plugin:
        return Identity(command=plugin)
    if user.get("tokenFile"):
        return Identity(token_file=Path(user["tokenFile"]))
    if user.get("token"):
        return Identity(fixed=f"Bearer {user['token']}")
    if user.get("username"):
        raw = f"{user['username']}:{user.get('password', '')}".encode()
        return Identity(fixed=f"Basic {base64.b64encode(raw).decode()}")
    return Identity()


def _trust(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext | bool:
    if not cluster["server"].startswith("https"):
        return True
    data = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"), cadata=base64.b64decode(data).decode() if data else None
    )
    with contextlib.ExitStack() as stack:
        certificate = stack.enter_context(_as_file(user, "client-certificate"))
        key = stack.enter_context(_as_file(user, "client-key"))
        if certificate:
            context.load_cert_chain(certificate, keyfile=key)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return _relaxed(context)


def _relaxed(context: ssl.SSLContext) -> ssl.SSLContext:
    """Cluster CAs made before key identifiers were customary are common; chain and host name are verified all the
    same."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@contextlib.contextmanager
def _as_file(entry: Mapping[str, Any], key: str) -> Iterator[str | None]:
    """A path for what may be inline data: `ssl` reads files only. Inline data is on disk (mode 0600) while it is
    read."""
    data = entry.get(f"{key}-data")
    if not data:
        yield entry.get(key)
        return
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(base64.b64decode(data))
        yield file.name


def _encode(pem: str | None) -> str | None:
    return base64.b64encode(pem.encode()).decode() if pem else None


async def _run_plugin(plugin: Mapping[str, Any]) -> str:
    shown = await _ask_plugin(plugin)
    if not shown.get("token"):
        raise ValueError(f"{plugin['command']} gave no token")
    return str(shown["token"])


async def _ask_plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """Run a client-go credential plugin; the `status` of its ExecCredential."""
    request = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    process = await asyncio.create_subprocess_exec(
        plugin["command"],
        *(plugin.get("args") or ()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={
            **_inherited(),
            **{entry["name"]: entry["value"] for entry in plugin.get("env") or ()},
            "KUBERNETES_EXEC_INFO": json.dumps(request),
        },
    )
    try:
        async with asyncio.timeout(EXEC_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise ValueError(f"{plugin['command']} ended with code {process.returncode}")
    status: dict[str, Any] = json.loads(output).get("status") or {}
    return status


def _inherited() -> dict[str, str]:
    """A credential plugin is the user's own program: it gets the user's whole environment, as kubectl gives it."""
    return dict(os.environ)  # noqa: TID251
