"""say: a line of a real gateway, through port-forward, with the key of a Secret that never shows."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from npc_runtime import wire
from npc_runtime.cli.answers import Code
from npc_runtime.cli.clients.lines import NoLine, Question, speak
from tests.component.cli.conftest import CORE, OWN, Run
from tests.component.cli.fake_api import NAMESPACE, FakeApi
from tests.component.cli.test_dump import read
from tests.component.gateway.certificates import make_internal, write_certificate
from tests.component.gateway.engines import Asked, Engine, Reply
from tests.component.gateway.harness import Rig, running
from tests.component.gateway.regions import World
from tests.component.gateway.words import ADMIN_TOKEN, KEY, OLD
from tests.unit.cli import objects as o

GATEWAY = "eu-west-gateway-7c6f-b2k9d"
NAME = wire.served_name("vampire", OLD)


def secret(name: str, **entries: str) -> dict[str, object]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    return {"kind": "Secret", "metadata": {"name": name}, "data": data}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(NAME) as started:
        yield started


@pytest.fixture
async def gateway(tmp_path: Path, api: FakeApi, engine: Engine) -> AsyncIterator[Rig]:
    """The region's gateway, which asks for a key that is in the region's Secret."""
    api.collections[f"{OWN}/npcregions"][:] = [o.region(auth="game-keys")]
    api.put(f"{CORE}/secrets", secret("game-keys", game=KEY))
    async with running(tmp_path / "gateway") as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        api.forwards[GATEWAY, wire.GATEWAY_PORT] = rig.port
        yield rig


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()


async def test_a_line_is_shown_with_tier_and_digest(run: Run, gateway: Rig) -> None:
    ran = await run("say", "vampire", "Who are you?")
    assert ran.code == Code.FINE, ran.err
    assert ran.out == f"{NAME} 0 {NAME} 1 {NAME} 2 \n"
    assert re.match(rf"-- tier gold, digest {OLD[7:19]}, first token after [0-9]+\.[0-9]", ran.err), ran.err
    assert GATEWAY in ran.err
    assert KEY not in ran.out + ran.err


async def test_as_data_the_whole_line_comes_at_once(run: Run, gateway: Rig) -> None:
    ran = await run("say", "vampire", "Who are you?", "-o", "json")
    told = json.loads(ran.out)
    assert told["text"] == f"{NAME} 0 {NAME} 1 {NAME} 2 "
    assert (told["tier"], told["digest"], told["degraded"]) == ("gold", OLD, False)
    assert told["requestId"]


async def test_what_is_said_and_for_whom_reaches_the_engine(run: Run, gateway: Rig, engine: Engine) -> None:
    await run("say", "vampire", "Käse?", "--tier", "gold", "--npc", "quest-1", "--max-tokens", "7")
    (asked,) = engine.asked
    assert asked.body["messages"] == [{"role": "user", "content": "Käse?"}]
    assert asked.body["max_tokens"] == 7


async def test_a_named_key_is_used_instead_of_the_regions(run: Run, gateway: Rig, api: FakeApi) -> None:
    api.put(f"{CORE}/secrets", secret("mine", old="no-such-key", new=KEY))
    assert (await run("say", "vampire", "hi", "--key-secret", "mine/new")).code == Code.FINE
    ran = await run("say", "vampire", "hi", "--key-secret", "mine/old")
    assert ran.code == Code.NO_LINE
    assert "the gateway answered 401" in ran.err
    assert "no-such-key" not in ran.err
    ran = await run("say", "vampire", "hi", "--key-secret", "mine/none")
    assert ran.code == Code.NOT_FOUND
    assert "it has new, old" in ran.err


async def test_a_dump_has_what_the_gateway_says(run: Run, api: FakeApi, tmp_path: Path) -> None:
    make_internal(tmp_path / "gateway" / "internal")
    write_certificate(tmp_path / "gateway" / "internal", name=wire.server_name(NAMESPACE))
    authority = (tmp_path / "gateway" / "internal" / "ca.crt").read_text()
    api.put(f"{CORE}/secrets", secret("npc-fleet-internal", **{"ca.crt": authority, "token": ADMIN_TOKEN}))
    async with running(tmp_path / "gateway") as rig:
        api.forwards[GATEWAY, wire.GATEWAY_ADMIN_PORT] = rig.gateway.ports["admin"]
        ran = await run("dump", "--file", str(tmp_path / "d.tar.gz"))
    assert ran.code == Code.FINE, ran.err
    files = read(tmp_path / "d.tar.gz")
    report = wire.GatewayReport.model_validate_json(files[f"gateways/{GATEWAY}.json"])
    assert report.boot_id
    assert all(ADMIN_TOKEN not in body for body in files.values())


@pytest.mark.parametrize(
    ("header", "degraded", "said"),
    [
        ("X-NPC-Served-By: base\r\nX-NPC-Degraded: BaseModel\r\n", "BaseModel", "by base, degraded to the base"),
        ("X-NPC-Served-By: scripted\r\nX-NPC-Degraded: Scripted\r\n", "Scripted", "degraded to a scripted line"),
        (f"X-NPC-Served-By: {OLD}\r\nX-NPC-Degraded: Tier\r\n", "Tier", f"{OLD[7:19]}, degraded to a tier that was"),
        (f"X-NPC-Served-By: {OLD}\r\n", "", f"digest {OLD[7:19]}, first token"),
    ],
)
async def test_what_stood_in_is_told(
    run: Run, gateway: Rig, api: FakeApi, header: str, degraded: str, said: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = b'data: {"choices": [{"delta": {"content": "I am"}}]}\n\ndata: [DONE]\n\n'
        writer.write(f"HTTP/1.1 200 OK\r\n{header}content-length: {len(event)}\r\n\r\n".encode() + event)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        api.forwards[GATEWAY, wire.GATEWAY_PORT] = server.sockets[0].getsockname()[1]
        told = json.loads((await run("say", "vampire", "hi", "-o", "json")).out)
        assert (told["degraded"], told["degradedTo"]) == (bool(degraded), degraded)
        assert told["digest"] == (OLD if OLD in header else "")
        assert said in (await run("say", "vampire", "hi")).err


def test_what_a_gateway_says_before_it_was_asked_to_the_end_is_heard() -> None:
    near, far = socket.socketpair()
    with near, far:
        body = b'{"error": {"code": "InvalidKey", "message": "nobody knows it"}}'
        far.sendall(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        far.shutdown(socket.SHUT_RDWR)
        question = Question(archetype="vampire", text="hi", tier="", npc="", max_tokens=8)
        with pytest.raises(NoLine, match="401: InvalidKey: nobody knows it"):
            speak(near, question, key="k", timeout=5, heard=lambda _: None)


def test_a_gateway_that_goes_without_a_word_is_one_that_broke_off() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.shutdown(socket.SHUT_RDWR)
        question = Question(archetype="vampire", text="hi", tier="", npc="", max_tokens=8)
        with pytest.raises(OSError, match="closed connection without response"):
            speak(near, question, key="k", timeout=5, heard=lambda _: None)


async def test_a_gateway_that_speaks_https_is_asked_in_https(
    run: Run, api: FakeApi, engine: Engine, tmp_path: Path
) -> None:
    region = o.region(auth="game-keys")
    region["spec"]["gateway"]["tls"] = {"secretName": "public-certificate"}
    api.collections[f"{OWN}/npcregions"][:] = [region]
    api.put(f"{CORE}/secrets", secret("game-keys", game=KEY))
    (tmp_path / "public").mkdir()
    write_certificate(tmp_path / "public", name="voices.example.com")
    async with running(tmp_path / "gateway", tls_dir=tmp_path / "public") as rig:
        await rig.push(World(engines={"gold": [engine]}).table())
        api.forwards[GATEWAY, wire.GATEWAY_PORT] = rig.port
        ran = await run("say", "vampire", "Who are you?")
    assert ran.code == Code.FINE, ran.err
    assert ran.out == f"{NAME} 0 {NAME} 1 {NAME} 2 \n"


async def test_an_archetype_that_nobody_speaks_for_is_refused_by_the_gateway(run: Run, gateway: Rig) -> None:
    ran = await run("say", "ghost", "hi")
    assert ran.code == Code.NO_LINE
    assert "the gateway answered 404" in ran.err


async def test_a_line_that_breaks_off_does_not_count(run: Run, gateway: Rig, engine: Engine) -> None:
    async def broken(_: Asked, reply: Reply) -> None:
        await reply.stream_head()
        await reply.event({"choices": [{"delta": {"content": "I am"}}]})
        reply.reset()

    engine.script = broken
    ran = await run("say", "vampire", "hi")
    assert ran.code == Code.NO_LINE
    assert "ended with an error" in ran.err


async def test_a_stream_without_its_end_mark_does_not_count_however_well_it_ends(
    run: Run, gateway: Rig, api: FakeApi
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = b'data: {"choices": [{"delta": {"content": "I am"}}]}\n\n'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(event), event))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        api.forwards[GATEWAY, wire.GATEWAY_PORT] = server.sockets[0].getsockname()[1]
        ran = await run("say", "vampire", "hi")
    assert ran.code == Code.NO_LINE
    assert "broke off before its end" in ran.err


async def test_without_a_ready_gateway_nobody_is_asked(run: Run, gateway: Rig, api: FakeApi) -> None:
    api.collections[f"{CORE}/pods"][1]["status"]["conditions"][0]["status"] = "False"
    ran = await run("say", "vampire", "hi")
    assert ran.code == Code.NOT_REACHED
    assert "next: kubectl npc why region/eu-west -n eu-west" in ran.err


@pytest.mark.parametrize(("verb", "resource"), [("get", "secrets"), ("create", "pods/portforward")])
async def test_a_missing_right_is_named(run: Run, gateway: Rig, api: FakeApi, verb: str, resource: str) -> None:
    api.refused.add((verb, resource))
    ran = await run("say", "vampire", "hi")
    assert ran.code == Code.FORBIDDEN
    assert f"you may not {verb} {resource} in namespace eu-west" in ran.err


async def test_a_namespace_without_a_region_has_nobody_to_ask(run: Run, api: FakeApi) -> None:
    api.collections[f"{OWN}/npcregions"].clear()
    assert (await run("say", "vampire", "hi")).code == Code.NOT_FOUND


async def test_a_port_that_nobody_listens_on_is_said_in_the_api_servers_words(run: Run, api: FakeApi) -> None:
    api.collections[f"{OWN}/npcregions"][:] = [o.region()]
    ran = await run("say", "vampire", "hi")
    assert ran.code == Code.NOT_REACHED
    assert f"pod {GATEWAY} does not answer on port {wire.GATEWAY_PORT}: connection refused" in ran.err
