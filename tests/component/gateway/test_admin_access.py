"""Who may push: tokens and certificates, also while they rotate."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from npc_runtime import wire
from tests.component.gateway.certificates import write_certificate
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN, NAMESPACE


async def test_the_admin_port_wants_a_token(rig: Rig, world: World) -> None:
    for token in ("", "wrong", ADMIN_TOKEN + "x"):
        status, body = await rig.admin("GET", "/v1/status", token=token)
        assert (status, body["reason"]) == (401, "Unauthorized")
    assert (await rig.admin("GET", "/v1/nothing"))[0] == 404
    assert (await rig.admin("DELETE", "/v1/routes"))[0] == 405


async def test_the_admin_port_speaks_tls_only(rig: Rig) -> None:
    with pytest.raises(aiohttp.ClientError):
        await rig.session.get(rig.url("/v1/status", port="admin"))


async def test_tokens_rotate_without_restart(rig: Rig) -> None:
    folder = rig.internal
    (folder / "token-previous").write_text(ADMIN_TOKEN)
    (folder / "token").write_text("new-token")
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200
    assert (await rig.admin("GET", "/v1/status", token=ADMIN_TOKEN))[0] == 200
    (folder / "token-previous").write_text("")
    async with asyncio.timeout(30):
        while (await rig.admin("GET", "/v1/status", token=ADMIN_TOKEN))[0] != 401:
            pass
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200


async def test_the_certificate_rotates_without_restart(rig: Rig) -> None:
    assert (await rig.admin("GET", "/v1/status"))[0] == 200
    write_certificate(rig.internal)
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await rig.admin("GET", "/v1/status"))[0] == 200
                break
            except aiohttp.ClientConnectorCertificateError:
                await asyncio.sleep(0.05)


async def test_a_broken_certificate_leaves_the_old_one_in_force(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    old = {name: (rig.internal / name).read_bytes() for name in ("tls.crt", "tls.key")}
    (rig.internal / "tls.crt").write_text("nonsense")
    (rig.internal / "token").write_text("new-token")
    await eventually(lambda: "cannot read the internal folder" in caplog.text)
    assert (await rig.admin("GET", "/v1/status"))[0] == 200
    for name, data in old.items():
        (rig.internal / name).write_bytes(data)
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200


async def test_a_token_in_odd_bytes_is_a_wrong_token(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.gateway.ports["admin"], ssl=rig.admin_tls(), server_hostname=wire.server_name(NAMESPACE)
    )
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: g\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 401 ")
    writer.transport.abort()


@pytest.mark.parametrize("query", ["wait=nan", "after=x", "wait=x", "after=1.5", "after=" + "9" * 5000])
async def test_a_poll_that_makes_no_sense_is_400(rig: Rig, query: str) -> None:
    status, body = await rig.admin("GET", f"/v1/status?{query}")
    assert (status, body["reason"]) == (400, "BadMessage")


async def test_a_poll_for_ever_is_one_of_the_longest(rig: Rig) -> None:
    assert (await rig.admin("GET", "/v1/status?after=-1&wait=inf"))[0] == 200


async def test_a_fault_of_the_admin_port_is_a_refusal_and_is_logged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> wire.GatewayReport:
        raise RuntimeError("odd")

    monkeypatch.setattr(rig.gateway.routes, "report", broken)
    status, body = await rig.admin("GET", "/v1/status")
    assert (status, wire.Refusal.model_validate(body).reason) == (500, "Internal")
    assert "odd" not in body["message"]
    assert "RuntimeError: odd" in caplog.text
