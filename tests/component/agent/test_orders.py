"""Pushes, polls, tokens and certificates, as operator and gateways see them."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from pathlib import Path

import aiohttp
import pytest

from hack.bench.internal import NAMESPACE, TOKEN, write_internal
from npc_runtime.wire import Accepted, DesiredSet, Refusal, Stamp, server_name
from tests.component.agent.harness import Harness, make_settings, phase_of, running
from tests.support.fake_engine import FakeEngine
from tests.unit.agent.makers import desired_of, make_adapter


async def test_an_older_order_is_refused_with_what_is_there(agent: Harness, world: Path) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    code, body = await agent.push(vampire, stamp=Stamp(epoch=5, generation=3))
    assert code == 200
    accepted = Accepted.model_validate_json(body)
    assert accepted.stamp == Stamp(epoch=5, generation=3)
    assert accepted.boot_id == (await agent.status()).boot_id
    for stale in (Stamp(epoch=5, generation=2), Stamp(epoch=4, generation=99)):
        code, body = await agent.push(stamp=stale)
        assert code == 409
        refusal = Refusal.model_validate_json(body)
        assert (refusal.reason, refusal.current) == ("StaleOrder", Stamp(epoch=5, generation=3))
    await agent.until_phase(vampire.served_name, "Resident")
    code, _ = await agent.push(vampire, stamp=Stamp(epoch=5, generation=3))
    assert code == 200
    report = await agent.status()
    assert report.stamp == Stamp(epoch=5, generation=3)
    assert phase_of(report, vampire.served_name) == "Resident"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": 99}, "UnsupportedProtocol"),
        ({"stamp": {"epoch": -1, "generation": 1}}, "BadMessage"),
        ({"adapters": [{"servedName": "x"}]}, "BadMessage"),
    ],
)
async def test_a_message_that_is_wrong_is_refused_and_nothing_of_it_is_quoted(
    agent: Harness, change: dict[str, object], reason: str
) -> None:
    message = {"protocol": 1, "stamp": {"epoch": 1, "generation": 1}, "adapters": [], "secret": "hunter2", **change}
    code, body = await agent.call("PUT", "/v1/desired", json.dumps(message).encode())
    assert code == 400
    assert Refusal.model_validate_json(body).reason == reason
    assert b"hunter2" not in body
    assert (await agent.status()).stamp == Stamp(epoch=0, generation=0)


async def test_a_secret_in_a_broken_message_is_not_echoed(agent: Harness) -> None:
    entry = {
        "servedName": "v",
        "archetype": "v",
        "digest": "bad",
        "uri": "s3://b/v",
        "credentials": {"token": ["hunter2"]},
    }
    message = {"stamp": {"epoch": 1, "generation": 1}, "adapters": [entry]}
    code, body = await agent.call("PUT", "/v1/desired", json.dumps(message).encode())
    assert code == 400
    assert b"hunter2" not in body


async def test_served_names_must_be_their_digests_and_unique(agent: Harness, world: Path) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    for adapters in ((vampire.model_copy(update={"served_name": "vampire--0"}),), (vampire, vampire)):
        code, body = await agent.push(*adapters)
        assert (code, Refusal.model_validate_json(body).reason) == (400, "BadMessage")


async def test_unknown_fields_of_a_newer_sender_are_ignored(agent: Harness) -> None:
    body = {"protocol": 1, "stamp": {"epoch": 1, "generation": 1}, "adapters": [], "newer": {"deep": 1}}
    assert (await agent.call("PUT", "/v1/desired", json.dumps(body).encode()))[0] == 200


@pytest.mark.parametrize("path", ["/v1/status", "/v1/routable", "/v1/desired", "/metrics", "/"])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
async def test_without_the_token_nothing_is_told(agent: Harness, path: str, token: str) -> None:
    agent.token = token
    code, body = await agent.call("GET", path)
    assert code == 401
    assert Refusal.model_validate_json(body).reason == "Unauthorized"


async def test_what_is_meant_for_another_pod_is_refused_whatever_it_is(world: Path, engine: FakeEngine) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"))
    async with running(make_settings(world, engine.url, pod_uid="uid-of-mine")) as agent:
        agent.meant_for = "uid-of-another"
        pushed = await agent.push(vampire)
        for code, body in (
            pushed,
            await agent.call("PUT", "/v1/desired", io.BytesIO(b" " * ((16 << 20) + 1))),  # its body is not looked at
            await agent.call("GET", "/v1/status"),
            await agent.call("GET", "/v1/routable"),
        ):
            refusal = Refusal.model_validate_json(body)
            assert (code, refusal.reason) == (421, "OtherPod")
            assert refusal.message == "this is pod uid-of-mine, not uid-of-another"
        agent.meant_for = "uid-of-mine"
        assert (await agent.status()).stamp == Stamp(epoch=0, generation=0)
        assert (await agent.push(vampire))[0] == 200
        await agent.routable()


@pytest.mark.parametrize(("own", "meant"), [("uid-of-mine", None), ("uid-of-mine", ""), ("", "uid-of-any")])
async def test_where_one_side_names_no_pod_nothing_is_refused_for_it(
    world: Path, engine: FakeEngine, own: str, meant: str | None
) -> None:
    async with running(make_settings(world, engine.url, pod_uid=own)) as agent:
        agent.meant_for = meant
        assert (await agent.push())[0] == 200
        assert (await agent.status()).stamp == Stamp(epoch=1, generation=1)


async def test_a_stranger_is_not_told_which_pod_this_is(world: Path, engine: FakeEngine) -> None:
    async with running(make_settings(world, engine.url, pod_uid="uid-of-mine")) as agent:
        agent.token, agent.meant_for = "wrong", "uid-of-another"
        code, body = await agent.call("GET", "/v1/status")
        assert code == 401
        assert b"uid-of-mine" not in body


async def test_unknown_paths_and_polls_that_make_no_sense_are_refused(agent: Harness) -> None:
    code, body = await agent.call("GET", "/v1/nothing")
    assert (code, Refusal.model_validate_json(body).reason) == (404, "NotFound")
    code, body = await agent.call("GET", "/v1/status", after="x")
    assert (code, Refusal.model_validate_json(body).reason) == (400, "BadMessage")


async def test_an_oversized_message_is_refused(agent: Harness) -> None:
    code, body = await agent.call("PUT", "/v1/desired", io.BytesIO(b" " * ((16 << 20) + 1)))
    assert (code, Refusal.model_validate_json(body).reason) == (413, "TooLarge")


async def test_both_tokens_are_accepted_and_a_rotation_at_once(agent: Harness, world: Path) -> None:
    (world / "internal" / "token").write_text("the next token")
    (world / "internal" / "token-previous").write_text(TOKEN)
    assert (await agent.call("GET", "/v1/status"))[0] == 200
    agent.token = "the next token"
    assert (await agent.call("GET", "/v1/status"))[0] == 200
    (world / "internal" / "token-previous").write_text("")
    agent.token = "something else"  # a wrong token makes it look at the files at once
    assert (await agent.call("GET", "/v1/status"))[0] == 401
    agent.token = TOKEN
    assert (await agent.call("GET", "/v1/status"))[0] == 401


async def certificate_of(agent: Harness) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", agent.agent.port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(certificate, bytes)
    return certificate


async def test_a_new_certificate_serves_new_connections_without_a_restart(agent: Harness, world: Path) -> None:
    before = await certificate_of(agent)
    write_internal(world / "internal")
    async with asyncio.timeout(30):
        while await certificate_of(agent) == before:
            pass
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{agent.url}/v1/status",
            ssl=ssl.create_default_context(cafile=str(world / "internal" / "ca.crt")),
            server_hostname=server_name(NAMESPACE),
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as answer,
    ):
        assert answer.status == 200


async def test_a_broken_rotation_keeps_what_works(
    agent: Harness, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await certificate_of(agent)
    (world / "internal" / "tls.key").write_text("no key")
    (world / "internal" / "token").write_text("")
    agent.token = "wrong"  # makes it look at the files at once
    assert (await agent.call("GET", "/v1/status"))[0] == 401
    assert "cannot be used" in caplog.text
    agent.token = TOKEN
    assert await certificate_of(agent) == before
    assert (await agent.call("GET", "/v1/status"))[0] == 200


async def test_a_poll_answers_the_moment_something_changes(agent: Harness, world: Path) -> None:
    await agent.until(lambda r: r.engine.state == "Ready")
    report = await agent.status()
    poll = asyncio.create_task(agent.status(after=report.revision, boot=report.boot_id, wait=30))
    vampire = desired_of(make_adapter(world / "source" / "v"))
    await agent.push(vampire)
    news = await asyncio.wait_for(poll, 30)
    assert not news.full
    assert [adapter.served_name for adapter in news.adapters] == [vampire.served_name]


async def test_credentials_are_never_written_to_disk(world: Path, engine: FakeEngine) -> None:
    vampire = desired_of(make_adapter(world / "source" / "v"), credentials={"AWS_SECRET_ACCESS_KEY": "hunter2"})
    async with running(make_settings(world, engine.url)) as agent:
        await agent.prove(vampire)
    written = [path for path in (world / "cache").rglob("*") if path.is_file()]
    assert any(path.name == ".order.json" for path in written)
    assert not [path for path in written if b"hunter2" in path.read_bytes()]


async def test_after_a_restart_credentials_are_waited_for_and_the_same_stamp_brings_them(
    world: Path, engine: FakeEngine
) -> None:
    secret = desired_of(
        world / "x", digest=f"sha256:{'1' * 64}", uri="https://127.0.0.1:1/x", credentials={"token": "t"}
    )
    async with running(make_settings(world, engine.url)) as agent:
        await agent.push(secret, stamp=Stamp(epoch=3, generation=7))
    async with running(make_settings(world, engine.url)) as agent:
        waiting = await agent.until_phase(secret.served_name, "Retrying")
        assert waiting.reason == "CredentialsMissing"
        assert (await agent.status()).stamp == Stamp(epoch=3, generation=7)
        assert (await agent.push(secret, stamp=Stamp(epoch=3, generation=6)))[0] == 409
        assert (await agent.push(secret, stamp=Stamp(epoch=3, generation=7)))[0] == 200
        await agent.until(lambda r: r.adapters[0].reason == "SourceUnavailable")


def test_an_order_never_shows_its_secrets_in_repr() -> None:
    secret = DesiredSet(
        stamp=Stamp(epoch=1, generation=1),
        adapters=(desired_of(Path("/x"), digest=f"sha256:{'1' * 64}", credentials={"token": "hunter2"}),),
    )
    assert "hunter2" not in repr(secret)
