"""Opening a queue of SQS: an identity that cannot be had now is a word about the identity, and ends nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from npc_operator.clients.interruption_queues import open_sqs
from npc_operator.domain import reasons
from npc_operator.domain.interruption.queues import QueueRef
from npc_operator.ports import PortError

QUEUE = QueueRef(url="https://sqs.eu-west-1.amazonaws.com/123456789012/npc", region="eu-west-1")


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A pod whose identity is EKS Pod Identity's, and nobody hands it out."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.RETRY_ATTEMPTS", 1)
    return monkeypatch


async def test_a_token_that_is_not_there_is_a_fault_of_the_identity(pod: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pod.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/credentials")
    pod.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(PortError) as failure:
        await open_sqs(QUEUE)
    assert failure.value.reason == reasons.CLOUD_CREDENTIALS


async def test_nobody_who_hands_out_the_identity_is_a_fault_of_the_identity(
    pod: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    pod.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{unused_tcp_port}/credentials")
    with pytest.raises(PortError) as failure:
        await open_sqs(QUEUE)
    assert failure.value.reason == reasons.CLOUD_CREDENTIALS


async def test_a_region_in_whose_name_no_endpoint_can_be_is_a_queue_that_is_not_there() -> None:
    with pytest.raises(PortError) as failure:
        await open_sqs(QueueRef(url=QUEUE.url, region="no such region"))
    assert failure.value.reason == reasons.QUEUE_MISSING
