"""Who we are to the API server: read from a service account or a kubeconfig, or refused with what was looked for."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from npc_operator.clients.connection import NoCredentials, connect
from npc_operator.reconcilers.material import make_certificate
from npc_runtime.wire import server_name


def authority() -> str:
    """Some certificate authority's certificate, as this Python trusts it."""
    path = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    certificate, end = Path(path).read_text().partition("-----END CERTIFICATE-----")[:2]
    return certificate + end + "\n"


def service_account(folder: Path, token: str = "abc") -> Path:
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text(authority())
    return folder


def kubeconfig(folder: Path, user: dict[str, object], **cluster: object) -> str:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443/", **cluster}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return str(path)


async def test_a_pod_speaks_with_the_token_of_its_service_account(tmp_path: Path) -> None:
    connection = await connect(in_cluster="10.0.0.1:443", account=service_account(tmp_path))
    assert connection.server == "https://10.0.0.1:443"
    assert (await connection.identity.headers())["Authorization"].lower() == "bearer abc"


async def test_an_ipv6_address_of_the_api_server_keeps_its_brackets(tmp_path: Path) -> None:
    connection = await connect(in_cluster="[fd00::1]:443", account=service_account(tmp_path))
    assert connection.server == "https://[fd00::1]:443"


async def test_a_service_account_without_a_token_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="service account"):
        await connect(in_cluster="10.0.0.1:443", account=service_account(tmp_path, token=""))


async def test_a_kubeconfig_with_a_token_sends_it(tmp_path: Path) -> None:
    connection = await connect(kubeconfig=kubeconfig(tmp_path, {"token": "xyz"}))
    assert connection.server == "https://api.example:6443"
    assert await connection.identity.headers() == {"Authorization": "Bearer xyz"}


async def test_a_kubeconfig_with_a_plugin_asks_it_for_the_token(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        '#!/bin/sh\necho \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        ' "status": {"token": "fresh"}}\'\n'
    )
    plugin.chmod(0o755)
    user: dict[str, object] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    connection = await connect(kubeconfig=kubeconfig(tmp_path, user))
    assert await connection.identity.headers() == {"Authorization": "Bearer fresh"}


async def test_a_missing_kubeconfig_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="nowhere"):
        await connect(kubeconfig=str(tmp_path / "nowhere"))


async def test_a_secret_never_shows_in_the_connections_text(tmp_path: Path) -> None:
    connection = await connect(kubeconfig=kubeconfig(tmp_path, {"token": "very-secret"}))
    assert "very-secret" not in repr(connection)


async def test_another_name_of_the_server_is_verified_by_every_session(tmp_path: Path) -> None:
    """`tls-server-name`: the address is a tunnel's end, the certificate speaks for another name."""
    made = make_certificate("eu-west", time.time())
    for name, text in (("crt", made.certificate), ("key", made.private_key), ("ca", made.authority)):
        (tmp_path / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        cluster = {"server": server, "certificate-authority": str(tmp_path / "ca")}
        named = {**cluster, "tls-server-name": server_name("eu-west")}
        connection = await connect(kubeconfig=kubeconfig(tmp_path, {"token": "xyz"}, **named))
        async with connection.session() as session, session.get(server) as response:
            assert await response.text() == "hello"
        connection = await connect(kubeconfig=kubeconfig(tmp_path, {"token": "xyz"}, **cluster))
        async with connection.session() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(server)
    finally:
        await asyncio.sleep(0.05)
        await runner.cleanup()


async def test_a_proxy_and_another_name_of_the_server_are_refused_together(tmp_path: Path) -> None:
    cluster = {"proxy-url": "http://proxy:3128", "tls-server-name": "kube.example"}
    with pytest.raises(NoCredentials, match="proxy-url and tls-server-name"):
        await connect(kubeconfig=kubeconfig(tmp_path, {"token": "xyz"}, **cluster))
