"""Who may push: tokens and certificates, also while they rotate."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.component.gateway.certificates import write_certificate
from tests.component.gateway.harness import Rig, eventually
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN


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
    async with asyncio.timeout(5):
        while (await rig.admin("GET", "/v1/status", token=ADMIN_TOKEN))[0] != 401:
            pass
    assert (await rig.admin("GET", "/v1/status", token="new-token"))[0] == 200


async def test_the_certificate_rotates_without_restart(rig: Rig) -> None:
    assert (await rig.admin("GET", "/v1/status"))[0] == 200
    write_certificate(rig.internal)
    async with asyncio.timeout(5):
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
