"""How to reach the API server and who we are there: in a pod by its service account, elsewhere by a kubeconfig.

The client library reads the credentials (kubeconfigs have many forms, and exec plugins); requests are our own, over
plain aiohttp, because its generated models cost a parse and a copy per call and its dynamic client a discovery.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import client, config

USER_AGENT = "npc-operator"


class NoCredentials(Exception):
    """Neither a service account nor a usable kubeconfig was found; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Address, trust and identity. `headers` is asked before every request, because service account tokens rotate."""

    server: str
    ssl: ssl.SSLContext | bool
    proxy: str | None
    server_hostname: str | None
    configuration: Any

    async def headers(self) -> dict[str, str]:
        """The Authorization header, if this identity uses one (client certificates do not)."""
        settings = await self.configuration.auth_settings()
        bearer = settings.get("BearerToken")
        return {"Authorization": bearer["value"].strip()} if bearer is not None and bearer["value"] else {}

    def session(self) -> aiohttp.ClientSession:
        """A session of its own, whose every request carries the identity of its moment."""

        async def authenticate(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.headers.update(await self.headers())
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.ssl, keepalive_timeout=75),
            headers={"User-Agent": USER_AGENT},
            middlewares=(authenticate,),
            proxy=self.proxy,
            auto_decompress=True,
        )


def _trust(configuration: Any) -> ssl.SSLContext | bool:
    if not configuration.host.startswith("https"):
        return True
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Cluster CAs made before key identifiers were customary are common; the chain and the host name are still verified.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def connect(*, kubeconfig: str = "", context: str = "", in_cluster: bool = False) -> Connection:
    """Read the credentials. Raises NoCredentials; does not talk to the server."""
    configuration = client.Configuration()
    configuration.proxy = None
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig or None,
                context=context or None,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, OSError, ValueError) as error:
        where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or '~/.kube/config'}"
        raise NoCredentials(f"no credentials for the API server from {where}: {error}") from error
    return Connection(
        server=configuration.host.rstrip("/"),
        ssl=_trust(configuration),
        proxy=configuration.proxy,
        server_hostname=configuration.tls_server_name,
        configuration=configuration,
    )
