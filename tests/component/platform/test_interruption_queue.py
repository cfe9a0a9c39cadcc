"""The reader of the interruption queue, with real boto3 over HTTP against moto's SQS."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from npc_operator.clients.interruption_queue import REFUSALS, SqsQueue
from npc_operator.clients.interruption_reader import InterruptionReader
from npc_operator.domain.interruption.notices import Notice
from npc_operator.ports import PortError, QueueMessage
from tests.support.fake_clock import FakeClock
from tests.unit.domain.interruption.samples import load, names

REGION = "eu-west-1"
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIAVERYSECRETACCESS", "a-very-secret-key/+of-40-characters-x", "session-token-secret"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod's own, as boto3 finds it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@dataclass
class Acts:
    """What a leader does with notices."""

    seen: list[Notice] = field(default_factory=list)
    failures: int = 0
    hold: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, notices: tuple[Notice, ...]) -> None:
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            self.failures -= 1
            raise ValueError("no")
        self.seen += notices


class Sqs:
    """A queue, seen from both sides."""

    def __init__(self, endpoint: str, name: str, attributes: dict[str, str] | None = None) -> None:
        self.endpoint = endpoint
        self.client: Any = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint)
        self.url: str = self.client.create_queue(QueueName=name, Attributes=attributes or {})["QueueUrl"]
        self.queues: list[SqsQueue] = []
        self.troubles: asyncio.Queue[str] = asyncio.Queue()

    def send(self, *bodies: str) -> None:
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])]
            assert not self.client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def left(self) -> tuple[int, int]:
        """Messages that are visible, and that are in somebody's hands."""
        kinds = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(kinds))["Attributes"]
        return int(found[kinds[0]]), int(found[kinds[1]])

    def reader(self, acts: Acts, *, visibility_seconds: int = 20) -> InterruptionReader:
        queue = SqsQueue(self.url, REGION, endpoint=self.endpoint, visibility_seconds=visibility_seconds)
        self.queues.append(queue)
        return InterruptionReader(queue, clock=FakeClock(), act=acts, trouble=self.troubles.put_nowait)

    def close(self) -> None:
        for queue in self.queues:
            queue.close()
        self.client.close()


@pytest.fixture
async def sqs(endpoint: str, request: pytest.FixtureRequest) -> AsyncIterator[Sqs]:
    made = Sqs(endpoint, f"npc-{abs(hash(request.node.name)) % 10**9}")
    yield made
    made.close()


def samples() -> list[str]:
    return [json.dumps(load(name)["input"]) for name in names("eventbridge")]


def two_notices() -> list[str]:
    return [json.dumps(load(f"eventbridge-{name}")["input"]) for name in ("spot-interruption", "rebalance")]


async def test_mixed_messages_are_acted_on_counted_and_gone(sqs: Sqs) -> None:
    sqs.send(*samples(), "no json", *samples())
    acts = Acts()
    reader = sqs.reader(acts, visibility_seconds=0)
    while reader.seen.set_aside["Deleted"] == 0:
        await reader.read(1)
    kinds = Counter(notice.kind.value for notice in acts.seen)
    expected = Counter(item["kind"] for name in names("eventbridge") for item in load(name)["expect"] if "kind" in item)
    assert kinds == Counter({kind: 2 * count for kind, count in expected.items()})
    assert reader.seen.notices == kinds
    assert reader.seen.ignored["OtherEvent"] == reader.seen.ignored["StaysUp"] == 2
    assert reader.seen.ignored["NotJson"] == REFUSALS
    assert sqs.left() == (0, 0)


async def test_nothing_is_deleted_before_it_was_acted_on(sqs: Sqs) -> None:
    sqs.send(*two_notices())
    acts = Acts(hold=asyncio.Event())
    reading = asyncio.create_task(sqs.reader(acts).read(1))
    await acts.entered.wait()
    assert sum(sqs.left()) == 2
    assert acts.hold is not None
    acts.hold.set()
    assert await reading == 2
    assert sqs.left() == (0, 0)


async def test_what_could_not_be_acted_on_comes_again(sqs: Sqs) -> None:
    sqs.send(two_notices()[0])
    acts = Acts(failures=1)
    reader = sqs.reader(acts, visibility_seconds=1)
    assert await reader.read(1) == 1
    assert reader.seen.failed == 1
    assert sum(sqs.left()) == 1
    while not acts.seen:
        await reader.read(5)
    assert len(acts.seen) == 1
    assert sqs.left() == (0, 0)


async def test_a_message_that_is_put_off_is_nobodys_until_then_and_is_not_lost(sqs: Sqs) -> None:
    sqs.send(*two_notices())
    queue = SqsQueue(sqs.url, REGION, endpoint=sqs.endpoint, visibility_seconds=600)
    sqs.queues.append(queue)
    messages: list[QueueMessage] = []
    while len(messages) < 2:
        messages += await queue.receive(10, 1)
    await queue.postpone({messages[0].handle: 1})
    assert sqs.left() == (0, 2)
    (again,) = await queue.receive(10, 5)
    assert (again.id, again.receptions) == (messages[0].id, 2)
    await queue.postpone({})


async def test_one_message_that_cannot_be_acted_on_holds_up_no_other(sqs: Sqs) -> None:
    sqs.send(*two_notices())
    acts = Acts(failures=1)
    reader = sqs.reader(acts, visibility_seconds=600)
    while reader.seen.messages < 2:
        await reader.read(1)
    assert (reader.seen.failed, len(acts.seen)) == (1, 1)
    assert sqs.left() == (0, 1)


async def test_a_leader_that_goes_while_it_acts_leaves_its_messages_to_the_next(sqs: Sqs) -> None:
    sqs.send(*two_notices())
    old, new = Acts(hold=asyncio.Event()), Acts()
    leading = asyncio.create_task(sqs.reader(old, visibility_seconds=1).run())
    await old.entered.wait()
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    reader = sqs.reader(new)
    while reader.seen.messages < 2:
        await reader.read(5)
    assert (len(old.seen), len(new.seen)) == (0, 2)
    assert sqs.left() == (0, 0)


async def test_a_poll_that_leadership_left_behind_keeps_nothing_from_the_next_leader(sqs: Sqs) -> None:
    """With a visibility of ten minutes: what the old poll got is given back, not waited for."""
    old, new = Acts(), Acts()
    leading = asyncio.create_task(sqs.reader(old, visibility_seconds=600).run())
    await asyncio.sleep(0)  # the poll has begun: its thread was started
    await asyncio.to_thread(sqs.left)
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    sqs.send(two_notices()[0])
    reader = sqs.reader(new)
    async with asyncio.timeout(30):
        while not new.seen:
            await reader.read(2)
    assert old.seen == []


async def test_a_poisoned_message_goes_to_the_dead_letter_queue_where_there_is_one(endpoint: str) -> None:
    dead = Sqs(endpoint, "dead")
    arn = dead.client.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    sqs = Sqs(endpoint, "with-dead-letters", {"RedrivePolicy": policy})
    acts = Acts()
    sqs.send("{}", two_notices()[0])
    reader = sqs.reader(acts, visibility_seconds=0)
    while dead.left()[0] == 0:
        await reader.read(1)
    assert reader.seen.set_aside == {"Redrive": 2}
    assert dead.left() == (1, 0)
    assert sqs.left() == (0, 0)
    assert len(acts.seen) == 1
    sqs.close()
    dead.close()


async def test_a_queue_that_is_not_there_or_not_reachable_is_told_once_and_without_secrets(
    sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="npc_operator")
    missing = SqsQueue(f"{sqs.url}-missing", REGION, endpoint=sqs.endpoint)
    away = SqsQueue(sqs.url, REGION, endpoint="http://127.0.0.1:1")
    for queue, reason, retryable in ((missing, "QueueMissing", False), (away, "QueueUnreachable", True)):
        with pytest.raises(PortError) as caught:
            await queue.receive(10, 0)
        assert (caught.value.reason, caught.value.retryable) == (reason, retryable)
        troubles: list[str] = []
        told = asyncio.Event()

        def tell(reason: str, troubles: list[str] = troubles, told: asyncio.Event = told) -> None:
            troubles.append(reason)
            told.set()

        reading = asyncio.create_task(InterruptionReader(queue, clock=FakeClock(), act=Acts(), trouble=tell).run())
        await told.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert troubles == [caught.value.reason]
        words = f"{caught.value!r} {caught.value} {queue!r} {vars(queue)!r} {caplog.text}" + "".join(
            repr(record.__dict__) for record in caplog.records
        )
        for secret in (ACCESS_KEY, SECRET_KEY, TOKEN):
            assert secret not in words
        queue.close()


async def test_trouble_is_over_when_the_queue_answers_again(sqs: Sqs) -> None:
    sqs.send(two_notices()[0])
    acts = Acts(failures=1)
    reader = sqs.reader(acts, visibility_seconds=1)
    leading = asyncio.create_task(reader.run())
    assert [await sqs.troubles.get(), await sqs.troubles.get()] == ["NoticesNotKept", ""]
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading


async def test_words_of_a_message_that_nobody_understands_are_not_logged(
    sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="npc_operator")
    sqs.send("password=hunter2")
    await sqs.reader(Acts()).read(1)
    assert "a message cannot be understood" in caplog.text
    assert "hunter2" not in caplog.text + "".join(repr(record.__dict__) for record in caplog.records)


async def test_files_and_the_nodes_role_are_nobodys_identity(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    keys = tmp_path / "credentials"
    keys.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    # The node's metadata service would be asked here, if it were.
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", sqs.endpoint)
    queue = SqsQueue(sqs.url, REGION, endpoint=sqs.endpoint)
    with pytest.raises(PortError) as caught:
        await queue.receive(10, 0)
    assert (caught.value.reason, caught.value.retryable) == ("CloudCredentials", False)
    queue.close()


async def test_a_web_identity_that_is_refused_is_told_as_no_identity(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    token = tmp_path / "token"
    token.write_text("a-token-of-nobody")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/npc")
    monkeypatch.setenv("AWS_REGION", REGION)
    with Answering(403, "text/xml", NO_ROLE) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
        queue = SqsQueue(sqs.url, REGION, endpoint=sqs.endpoint)
        with pytest.raises(PortError) as caught:
            await queue.receive(10, 0)
    assert (caught.value.reason, caught.value.retryable) == ("CloudCredentials", False)
    assert "a-token-of-nobody" not in repr(caught.value)
    queue.close()


@pytest.mark.parametrize("page", ["<html>log in</html>", "", "{}"])
async def test_a_page_of_a_proxy_is_no_empty_queue(page: str) -> None:
    with Answering(200, "text/html", page) as proxy:
        queue = SqsQueue("https://sqs.eu-west-1.amazonaws.com/123456789012/npc", REGION, endpoint=proxy)
        with pytest.raises(PortError) as caught:
            await queue.receive(10, 0)
        queue.close()
    assert (caught.value.reason, caught.value.retryable) == ("QueueUnreachable", True)


NO_ROLE = (
    '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
    "<Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>"
)
"""What STS says to whom it gives no role."""


class Answering:
    """A server that says the same to everybody."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
