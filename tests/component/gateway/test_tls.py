"""HTTPS on the data port, and certificates that change under it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import statistics
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from npc_runtime import wire
from npc_runtime.gateway.app import Gateway
from npc_runtime.gateway.tls import BadCertificate, ServerTls
from tests.component.gateway.certificates import make_internal, write_certificate
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, completion, eventually, running, settings
from tests.component.gateway.regions import World
from tests.component.gateway.words import KEY, OLD

FIRST, SECOND = "first.example", "second.example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tls"
    made.mkdir()
    write_certificate(made, name=FIRST)
    return made


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, folder: Path, engine: Engine, *, workers: int = 1) -> AsyncIterator[Rig]:
    async with running(tmp_path, tls_dir=folder, workers=workers) as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        yield rig


async def presented(port: int, *, name: str | None = None) -> bytes:
    """The certificate (DER) that a new connection is shown, with or without asking for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        return certificate
    finally:
        writer.transport.abort()


def der(folder: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder / "tls.crt").read_text())


async def until_shown(port: int, wanted: bytes) -> None:
    """Wait until new connections are shown a certificate, on every event loop: they come to either by chance."""
    in_a_row = 0
    async with asyncio.timeout(60):
        while in_a_row < 16:
            in_a_row = in_a_row + 1 if await presented(port) == wanted else 0


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.crt"))


async def say(rig: Rig, tls: ssl.SSLContext, *, name: str = FIRST, stream: bool = True) -> str:
    """One line over a connection of its own, its certificate verified."""
    body = {"model": "vampire", "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.post(
            f"https://127.0.0.1:{rig.port}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {KEY}"},
            ssl=tls,
            server_hostname=name,
        ) as answer,
    ):
        assert answer.status == 200
        return await answer.text()


@pytest.mark.parametrize("workers", [1, 2])
async def test_lines_are_spoken_over_tls(tmp_path: Path, folder: Path, engine: Engine, workers: int) -> None:
    async with serving(tmp_path, folder, engine, workers=workers) as rig:
        tls = trusting(folder)
        for _ in range(4):
            assert (await say(rig, tls)).endswith("data: [DONE]\n\n")
        assert "vampire--" in await say(rig, tls, stream=False)


async def test_plain_http_and_old_versions_get_no_answer(tmp_path: Path, folder: Path, engine: Engine) -> None:
    async with serving(tmp_path, folder, engine) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(completion(stream=False))
        async with asyncio.timeout(60):
            assert b"HTTP" not in await reader.read()
        writer.transport.abort()
        old = trusting(folder)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", rig.port, ssl=old, server_hostname=FIRST)
        recent = trusting(folder)
        recent.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await say(rig, recent)).endswith("data: [DONE]\n\n")
        assert engine.chats == 1


async def test_a_connection_that_never_shakes_hands_is_closed(
    tmp_path: Path, folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npc_runtime.gateway.http.limits.HANDSHAKE_SECONDS", 0.2)
    async with serving(tmp_path, folder, engine) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.transport.abort()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_new_certificate_is_shown_without_a_restart_and_open_connections_go_on(
    tmp_path: Path, folder: Path, workers: int
) -> None:
    go_on = asyncio.Event()

    async def speak(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "one"}}]})
        await go_on.wait()
        await reply.event({"choices": [{"delta": {"content": "two"}}]})
        await reply.end()

    async with (
        Engine(wire.served_name("vampire", OLD)) as engine,
        serving(tmp_path, folder, engine, workers=workers) as rig,
    ):
        engine.script = speak
        open_line = asyncio.create_task(say(rig, trusting(folder)))
        await eventually(lambda: engine.running == 1)
        before = der(folder)
        assert await presented(rig.port) == await presented(rig.port, name=FIRST) == before
        write_certificate(folder, name=SECOND)
        after = der(folder)
        assert after != before
        await until_shown(rig.port, after)
        go_on.set()
        assert "two" in await open_line
        assert "two" in await say(rig, trusting(folder), name=SECOND)


async def test_a_broken_pair_keeps_the_last_good_one_and_is_said_once(
    tmp_path: Path, folder: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = tmp_path / "other"
    other.mkdir()
    write_certificate(other, name=SECOND)
    async with serving(tmp_path, folder, engine) as rig:
        good, tls = der(folder), trusting(folder)
        # A certificate whose key is another one, as between two writes that are not atomic.
        (folder / "tls.crt").write_bytes((other / "tls.crt").read_bytes())
        await eventually(lambda: "cannot be used" in caplog.text)
        assert await presented(rig.port) == good
        assert (await say(rig, tls)).endswith("data: [DONE]\n\n")
        (folder / "tls.key").write_bytes((other / "tls.key").read_bytes())
        await until_shown(rig.port, der(other))
        (folder / "tls.key").unlink()
        await eventually(lambda: caplog.text.count("cannot be used") == 2)
        assert await presented(rig.port) == der(other)
        assert caplog.text.count("cannot be used") == 2
        assert "PRIVATE" not in caplog.text


def test_following_says_a_broken_pair_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = ServerTls(folder)
    (folder / "tls.key").write_text("no key")
    for _ in range(5):
        tls.refresh()
    assert caplog.text.count("cannot be used") == 1


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key", "both", "mixed"])
async def test_without_a_certificate_to_begin_with_nothing_starts(tmp_path: Path, folder: Path, broken: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_certificate(other)
    match broken:
        case "mixed":
            (folder / "tls.key").write_bytes((other / "tls.key").read_bytes())
        case "both":
            (folder / "tls.crt").write_text("x")
            (folder / "tls.key").write_text("x")
        case name:
            (folder / name).unlink()
    with pytest.raises(BadCertificate, match="tls"):
        ServerTls(folder)


async def test_a_gateway_with_a_folder_that_holds_none_says_so(tmp_path: Path) -> None:
    make_internal(tmp_path / "internal")
    with pytest.raises(BadCertificate):
        Gateway(settings(tmp_path, tls_dir=tmp_path))


async def test_a_refusal_over_tls_arrives_and_the_connection_ends_in_order(
    tmp_path: Path, folder: Path, engine: Engine
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with serving(tmp_path, folder, engine) as rig:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", rig.port, ssl=trusting(folder), server_hostname=FIRST
        )
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(60):
            text = await reader.read()
        assert text.startswith(b"HTTP/1.1 505 ")
        assert json.loads(text.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
        writer.close()
        await eventually(lambda: rig.service.connections == 0)
    assert faults == []


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_hangs_up_over_tls_frees_the_engine(tmp_path: Path, folder: Path, politely: bool) -> None:
    async def stall(asked: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "one"}}]})
        await reply.silence()

    loop = asyncio.get_running_loop()
    took = []
    async with Engine(wire.served_name("vampire", OLD)) as engine, serving(tmp_path, folder, engine) as rig:
        engine.script = stall
        for _ in range(3):
            engine.aborted.clear()
            _, writer = await asyncio.open_connection(
                "127.0.0.1", rig.port, ssl=trusting(folder), server_hostname=FIRST
            )
            writer.write(completion(stream=True))
            await eventually(lambda: engine.running == 1)
            if politely:
                writer.close()
            else:
                writer.transport.abort()
            left = loop.time()
            await asyncio.wait_for(engine.aborted.wait(), 15)  # the engine ends by nothing else
            took.append(loop.time() - left)
            await eventually(lambda: engine.running == 0)
    # A machine that stands still for a moment does so once, not twice.
    assert statistics.median(took) < 1.0
