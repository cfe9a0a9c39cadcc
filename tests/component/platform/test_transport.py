"""Talking to pods over real TLS: whose certificate counts, which token is tried, and how each answer is understood."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from npc_operator.clients.agents import AgentClient
from npc_operator.clients.gateways import GatewayClient
from npc_operator.clients.metrics import Metrics
from npc_operator.clients.transport import PodTransport, Trust
from npc_operator.ports import PortError, StaleLeader
from npc_operator.reconcilers.material import Certificate, make_certificate
from npc_runtime.wire import (
    POD_HEADER,
    Accepted,
    AgentReport,
    DesiredAdapter,
    DesiredSet,
    EngineReport,
    EngineState,
    GatewayReport,
    Refusal,
    RouteTable,
    Stamp,
    Wire,
)

NAMESPACE = "eu-west"
POD = "uid-of-the-pod"
STAMP = Stamp(epoch=7, generation=3)
DESIRED = DesiredSet(
    stamp=STAMP,
    adapters=(
        DesiredAdapter.model_validate(
            {
                "servedName": "vampire--aaaaaaaaaaaa",
                "archetype": "vampire",
                "digest": "sha256:" + "a" * 64,
                "uri": "s3://bucket/vampire",
                "rank": 16,
                "credentials": {"AWS_SECRET_ACCESS_KEY": "hush"},
            }
        ),
    ),
)
ACCEPTED = Accepted(boot_id="boot", stamp=STAMP, revision=4)
REPORT = AgentReport(
    boot_id="boot",
    revision=5,
    stamp=STAMP,
    full=True,
    ready=True,
    draining=False,
    engine=EngineReport(state=EngineState.READY),
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return make_certificate(NAMESPACE, time.time())


@contextlib.asynccontextmanager
async def pod(certificate: Certificate, folder: Path, handler: Handler) -> AsyncIterator[int]:
    """A pod's admin port with the namespace's certificate; its port."""
    (folder / "crt").write_text(certificate.certificate)
    (folder / "key").write_text(certificate.private_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "crt", folder / "key")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def connections_end() -> None:
    """TLS connections end some turns of the loop after their session."""
    for _ in range(20):
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def agents(port: int, trust: Callable[[str], Trust | None]) -> AsyncIterator[AgentClient]:
    client = AgentClient(trust=trust, metrics=Metrics(), port=port)
    try:
        yield client
    finally:
        await client.close()
        await connections_end()


def trusting(certificate: Certificate, *tokens: str) -> Callable[[str], Trust | None]:
    return lambda _: Trust(ca=certificate.authority, tokens=tokens or ("token",))


def say(message: Wire, status: int = 200) -> web.Response:
    return web.Response(body=message.to_bytes(), status=status, content_type="application/json")


async def test_a_push_carries_the_whole_set_and_its_secrets_and_returns_what_was_accepted(
    certificate: Certificate, tmp_path: Path
) -> None:
    heard: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        heard.update(method=request.method, path=request.path, token=request.headers["Authorization"])
        heard["message"] = DesiredSet.model_validate_json(await request.read())
        return say(ACCEPTED)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        assert await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD) == ACCEPTED
    assert (heard["method"], heard["path"], heard["token"]) == ("PUT", "/v1/desired", "Bearer token")
    assert heard["message"].adapters[0].credentials["AWS_SECRET_ACCESS_KEY"].get_secret_value() == "hush"


async def test_a_long_poll_says_what_it_knows_and_how_long_it_waits(certificate: Certificate, tmp_path: Path) -> None:
    asked: dict[str, str] = {}

    async def handler(request: web.Request) -> web.Response:
        asked.update(request.query)
        return say(REPORT)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        assert (
            await client.watch(NAMESPACE, "127.0.0.1", pod_uid=POD, after=4, boot_id="boot", wait_seconds=50) == REPORT
        )
    assert asked == {"after": "4", "boot": "boot", "wait": "50"}


async def test_each_call_names_the_pod_it_means(certificate: Certificate, tmp_path: Path) -> None:
    meant: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        meant.append(f"{request.method} {request.headers[POD_HEADER]}")
        return say(ACCEPTED if request.method == "PUT" else REPORT)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid="one")
        await client.watch(NAMESPACE, "127.0.0.1", pod_uid="two", after=0, boot_id="", wait_seconds=1)
    assert meant == ["PUT one", "GET two"]


async def test_another_pod_at_the_address_is_an_error_that_may_pass(certificate: Certificate, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(Refusal(reason="OtherPod", message="this is pod b, not a"), 421)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(PortError, match="this is pod b, not a") as pushed:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid="a")
        with pytest.raises(PortError) as polled:
            await client.watch(NAMESPACE, "127.0.0.1", pod_uid="a", after=0, boot_id="", wait_seconds=1)
    assert not isinstance(pushed.value, StaleLeader)
    assert [(error.reason, error.retryable) for error in (pushed.value, polled.value)] == [("OtherPod", True)] * 2


async def test_connections_are_kept_between_calls(certificate: Certificate, tmp_path: Path) -> None:
    peers: set[Any] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return say(ACCEPTED)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        for _ in range(5):
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert len(peers) == 1


async def test_a_refused_token_is_tried_again_with_the_previous_one(certificate: Certificate, tmp_path: Path) -> None:
    tried: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        tried.append(request.headers["Authorization"])
        if request.headers["Authorization"] != "Bearer old":
            return say(Refusal(reason="Unauthorized", message="no"), 401)
        return say(ACCEPTED)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate, "new", "old")) as client:
        await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert tried == ["Bearer new", "Bearer old"]


async def test_tokens_that_are_all_refused_are_an_error_without_the_tokens(
    certificate: Certificate, tmp_path: Path
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(Refusal(reason="Unauthorized", message="no"), 401)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate, "s3cr3t")) as client:
        with pytest.raises(PortError) as caught:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert caught.value.reason == "Unauthorized"
    assert "s3cr3t" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "hush" not in f"{caught.value!r}"


async def test_an_older_order_is_refused_with_the_newer_one(certificate: Certificate, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(Refusal(reason="StaleOrder", message="too late", current=Stamp(epoch=9, generation=1)), 409)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(StaleLeader) as caught:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert caught.value.current.order() == (9, 1)


@pytest.mark.parametrize(
    ("reason", "retryable"),
    [("BadMessage", False), ("UnsupportedProtocol", False), ("TooLarge", False), ("Internal", True)],
)
async def test_a_refusal_says_whether_trying_again_can_help(
    certificate: Certificate, tmp_path: Path, reason: Any, retryable: bool
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(Refusal(reason=reason, message="because"), 400)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(PortError, match="because") as caught:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


async def test_an_answer_that_makes_no_sense_is_an_error_and_no_crash(certificate: Certificate, tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>", status=502 if request.method == "GET" else 200)

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(PortError) as caught:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
        assert caught.value.reason == "BadMessage"
        with pytest.raises(PortError, match="HTTP 502"):
            await client.watch(NAMESPACE, "127.0.0.1", pod_uid=POD, after=0, boot_id="", wait_seconds=1)


async def test_a_pod_of_another_namespace_is_not_believed(certificate: Certificate, tmp_path: Path) -> None:
    """Same authority, another name: what a reused address would show."""

    async def handler(_: web.Request) -> web.Response:
        raise AssertionError("the token must not be sent")

    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(PortError, match="its certificate is not the namespace's"):
            await client.push("us-east", "127.0.0.1", DESIRED, pod_uid=POD)


async def test_a_certificate_of_another_authority_is_not_believed(certificate: Certificate, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise AssertionError("the token must not be sent")

    stranger = make_certificate(NAMESPACE, time.time())
    async with pod(stranger, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        with pytest.raises(PortError, match="its certificate is not the namespace's"):
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)


async def test_a_rotated_authority_is_believed_from_the_next_call_on(certificate: Certificate, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(ACCEPTED)

    new = make_certificate(NAMESPACE, time.time())
    trust = {"ca": certificate.authority}
    async with (
        pod(new, tmp_path, handler) as port,
        agents(port, lambda _: Trust(ca=trust["ca"], tokens=("token",))) as client,
    ):
        with pytest.raises(PortError):
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
        trust["ca"] = new.authority + certificate.authority
        assert await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD) == ACCEPTED


async def test_before_the_namespace_has_credentials_nothing_is_sent() -> None:
    async with agents(1, lambda _: None) as client:
        with pytest.raises(PortError) as caught:
            await client.push(NAMESPACE, "127.0.0.1", DESIRED, pod_uid=POD)
    assert (caught.value.reason, caught.value.retryable) == ("NoCredentials", True)


async def test_a_pod_that_is_not_there_is_unreachable(certificate: Certificate) -> None:
    async with agents(1, trusting(certificate)) as client:
        with pytest.raises(PortError) as caught:
            await client.watch(NAMESPACE, "127.0.0.1", pod_uid=POD, after=0, boot_id="", wait_seconds=1)
    assert (caught.value.reason, caught.value.retryable) == ("Unreachable", True)


async def test_a_gateway_is_told_its_routes_and_asked_what_it_applied(certificate: Certificate, tmp_path: Path) -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(f"{request.method} {request.path}")
        if request.method == "PUT":
            return say(ACCEPTED)
        return say(GatewayReport(boot_id="boot", revision=2, stamp=STAMP))

    table = RouteTable(stamp=STAMP, namespace=NAMESPACE, region="eu-west", default_tier="gold")
    async with pod(certificate, tmp_path, handler) as port:
        client = GatewayClient(trust=trusting(certificate), metrics=Metrics(), port=port)
        assert await client.push(NAMESPACE, "127.0.0.1", table, pod_uid=POD) == ACCEPTED
        assert (
            await client.watch(NAMESPACE, "127.0.0.1", pod_uid=POD, after=0, boot_id="", wait_seconds=1)
        ).revision == 2
        await client.close()
        await connections_end()
    assert paths == ["PUT /v1/routes", "GET /v1/status"]


async def test_one_message_for_many_pods_is_written_out_once(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Stamp] = []
    real = DesiredSet.to_bytes

    def counting(message: DesiredSet) -> bytes:
        written.append(message.stamp)
        return real(message)

    async def handler(request: web.Request) -> web.Response:
        heard.append(DesiredSet.model_validate_json(await request.read()).stamp.generation)
        return say(ACCEPTED)

    heard: list[int] = []
    monkeypatch.setattr(DesiredSet, "to_bytes", counting)
    async with pod(certificate, tmp_path, handler) as port, agents(port, trusting(certificate)) as client:
        for generation in (1, 2):
            message = DESIRED.model_copy(update={"stamp": Stamp(epoch=7, generation=generation)})
            for _ in range(3):
                await client.push(NAMESPACE, "127.0.0.1", message, pod_uid=POD)
    assert heard == [1, 1, 1, 2, 2, 2]
    assert len(written) == 2


async def test_sessions_of_rotated_authorities_end_with_their_last_poll(
    certificate: Certificate, tmp_path: Path
) -> None:
    polled, answer = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if request.method == "GET":
            polled.set()
            await answer.wait()
            return say(REPORT)
        return say(ACCEPTED)

    trust = {"ca": certificate.authority}
    async with pod(certificate, tmp_path, handler) as port:
        transport = PodTransport(port=port, trust=lambda _: Trust(ca=trust["ca"], tokens=("token",)))
        try:
            poll = asyncio.create_task(
                transport.poll(
                    NAMESPACE, "127.0.0.1", "/", AgentReport, pod_uid=POD, after=0, boot_id="", wait_seconds=50
                )
            )
            await polled.wait()
            for number in range(5):
                trust["ca"] = certificate.authority + "\n" * number
                await transport.put(NAMESPACE, "127.0.0.1", "/", DESIRED, Accepted, pod_uid=POD)
            assert transport.open_sessions() == 2, "the present one, and the one of the poll that goes on"
            answer.set()
            assert (await poll).revision == REPORT.revision
            assert transport.open_sessions() == 1
        finally:
            await transport.close()
            await connections_end()


async def test_sessions_of_namespaces_that_are_gone_are_closed(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return say(ACCEPTED)

    monkeypatch.setattr("npc_operator.clients.transport.SWEEP_SECONDS", 0.0)
    there = {NAMESPACE, "gone-1", "gone-2"}
    async with pod(certificate, tmp_path, handler) as port:
        transport = PodTransport(
            port=port,
            trust=lambda name: Trust(ca=certificate.authority, tokens=("token",)) if name in there else None,
        )
        try:
            for namespace in ("gone-1", "gone-2"):
                with pytest.raises(PortError):  # its certificate has another name, which is no matter here
                    await transport.put(namespace, "127.0.0.1", "/", DESIRED, Accepted, pod_uid=POD)
            assert transport.open_sessions() == 2
            there -= {"gone-1", "gone-2"}
            await transport.put(NAMESPACE, "127.0.0.1", "/", DESIRED, Accepted, pod_uid=POD)
            assert transport.open_sessions() == 1
        finally:
            await transport.close()
            await connections_end()
