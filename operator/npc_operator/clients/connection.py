"""How to reach the API server and who we are there: in a pod by its service account, elsewhere by a kubeconfig.

The official client library reads the credentials and keeps them fresh (service account tokens, exec plugins, OIDC);
requests then go over sessions of our own, because dict bodies over plain HTTP need none of its generated models.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from npc_operator.clients.sockets import keepalive_socket

USER_AGENT = "npc-operator"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_SECONDS = 60.0
"""How often a kubeconfig's token is asked for again; a plugin answers from its own memory until the token ends."""
LOAD_SECONDS = 60.0
"""Longest an exec plugin may take."""

Renew = Callable[[], Awaitable[object]]


class NoCredentials(Exception):
    """Neither a service account nor a usable kubeconfig was found; the message says what was looked for."""


@dataclass(slots=True)
class Identity:
    """The Authorization header of this moment; no header where a client certificate speaks."""

    settings: Any = field(repr=False)
    """The library's Configuration, whose own hook re-reads a service account's token."""
    renew: Renew | None = None
    """Loads a kubeconfig's short-lived token again."""
    _renewed: float = field(default_factory=time.monotonic)

    async def headers(self) -> dict[str, str]:
        if self.renew is not None and time.monotonic() - self._renewed >= REFRESH_SECONDS:
            self._renewed = time.monotonic()
            await self.renew()
        token = await self.settings.get_api_key_with_prefix("BearerToken")
        if not token and self.settings.username:
            token = self.settings.get_basic_auth_token()
        return {"Authorization": token} if token else {}


@dataclass(frozen=True, slots=True)
class Connection:
    """Address, trust and identity."""

    server: str
    ssl: ssl.SSLContext | bool
    identity: Identity
    proxy: str | None = None
    server_hostname: str | None = None
    """The name to verify instead of the server's (`tls-server-name`)."""

    def session(self, *, limit: int = 0) -> aiohttp.ClientSession:
        """A session of its own, whose every request carries the identity of its moment; at most `limit` connections
        (0: any)."""

        async def authenticate(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.headers.update(await self.identity.headers())
            if self.server_hostname:
                # Here, because whoever is given a session (kopf, too) names no server of its own.
                request.server_hostname = self.server_hostname
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limit, ssl=self.ssl, keepalive_timeout=75, socket_factory=keepalive_socket
            ),
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
    where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or '(default)'}"
    settings = Configuration()
    try:
        if in_cluster:
            _load_service_account(settings, in_cluster, account)
            renew = None
        else:
            renew = await _load_kubeconfig(settings, kubeconfig, context)
        if settings.proxy and settings.tls_server_name:
            raise NoCredentials(
                f"{where} has both proxy-url and tls-server-name, and through a proxy only the server's own"
                " name can be verified: remove one of the two"
            )
        return Connection(
            server=str(settings.host).rstrip("/"),
            ssl=_trust(settings),
            identity=Identity(settings, renew),
            proxy=settings.proxy,
            server_hostname=settings.tls_server_name,
        )
    except (config.ConfigException, OSError, ValueError, TypeError, yaml.YAMLError, TimeoutError) as error:
        raise NoCredentials(f"no credentials for the API server from {where}: {error}") from error


def _load_service_account(settings: Any, address: str, account: Path) -> None:
    host, _, port = address.rpartition(":")
    config.incluster_config.InClusterConfigLoader(
        token_filename=str(account / "token"),
        cert_filename=str(account / "ca.crt"),
        environ={"KUBERNETES_SERVICE_HOST": host.strip("[]"), "KUBERNETES_SERVICE_PORT": port},
    ).load_and_set(settings)


async def _load_kubeconfig(settings: Any, kubeconfig: str, context: str) -> Renew | None:
    async def load() -> None:
        async with asyncio.timeout(LOAD_SECONDS):
            await config.load_kube_config(
                config_file=kubeconfig or None,
                context=context or None,
                client_configuration=settings,
                persist_config=False,
            )

    await load()
    # Without a token a certificate or a password speaks, which nothing renews.
    return load if settings.api_key else None


def _trust(settings: Any) -> ssl.SSLContext | bool:
    if not str(settings.host).startswith("https"):
        return True
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    # Cluster CAs made before key identifiers were customary are common; chain and host name are verified all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
