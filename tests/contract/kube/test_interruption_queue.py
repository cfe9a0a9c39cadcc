"""The operator's own queue, from the flag to what is told and counted, on a real API server and moto's SQS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from npc_operator.clients.kube import KubeClient
from npc_operator.domain.interruption.queues import OWN, QueueFact
from tests.contract.kube.test_platform import running
from tests.support.kube_env import KubeEnv
from tests.unit.domain.interruption.samples import load

REGION = "eu-west-1"
SECRET = "a-very-secret-key/+of-40-characters-x"


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """moto, found as a VPC endpoint without private DNS would be; keys as `extraEnv` brings them."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    client = boto3.client("sqs", region_name=REGION)
    yield client
    client.close()
    server.stop()


def left(sqs: Any, url: str) -> int:
    kinds = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=kinds)["Attributes"]
    return sum(int(found[kind]) for kind in kinds)


async def test_the_leader_reads_the_queue_it_was_given_and_nobody_after_it(
    env: KubeEnv, client: KubeClient, namespace: str, sqs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = sqs.create_queue(QueueName=namespace)["QueueUrl"]
    # As AWS would name it; the endpoint says where it really is.
    url = f"https://sqs.{REGION}.amazonaws.com/{made.rsplit('/', 2)[-2]}/{namespace}"
    body = json.dumps(load("eventbridge-spot-interruption")["input"])
    sqs.send_message(QueueUrl=made, MessageBody=body)
    async with running(env, namespace, f"--interruption-queue={url}") as run:
        await run.until(lambda: bool(run.decisions.heard))
        assert run.decisions.heard[0].kind.value == "Interruption"
        await run.until(lambda: left(sqs, made) == 0)
        fact = run.store.get(QueueFact, "", OWN)
        assert fact is not None
        await run.until(lambda: run.store.get(QueueFact, "", OWN).trouble == "")  # type: ignore[union-attr]
        _, metrics = await run.get("/metrics")
        assert 'npc_operator_interruption_queues{reason="QueueRead"} 1.0' in metrics
        counted = 'npc_operator_interruption_messages_total{kind="Interruption",outcome="Acted",reason=""} 1.0'
        assert counted in metrics
        assert re.search(r'message_age_seconds_count\{kind="Interruption"\} 1\.0', metrics)
    assert run.store.get(QueueFact, "", OWN) is None
    sqs.send_message(QueueUrl=made, MessageBody=body)
    assert left(sqs, made) == 1
    assert len(run.decisions.heard) == 1
    said = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert SECRET not in said


async def test_a_queue_that_is_not_there_keeps_nobody_from_leading(
    env: KubeEnv, client: KubeClient, namespace: str, sqs: Any
) -> None:
    url = f"https://sqs.{REGION}.amazonaws.com/123456789012/missing"
    async with running(env, namespace, f"--interruption-queue={url}") as run:
        await run.until(lambda: (fact := run.store.get(QueueFact, "", OWN)) is not None and bool(fact.trouble))
        assert run.store.get(QueueFact, "", OWN).trouble == "QueueMissing"  # type: ignore[union-attr]
        status, _ = await run.get("/readyz")
        assert status == 200
        _, metrics = await run.get("/metrics")
        assert 'npc_operator_interruption_queues{reason="QueueMissing"} 1.0' in metrics
