"""Fetching from an S3 server: resumed, refused, away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from npc_runtime.agent.digest import digest_of_folder
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.fetch.download import StoppedError
from npc_runtime.agent.fetch.s3 import fault_of as s3_fault
from tests.component.agent.fetching import big_adapter, fetch, reason_of


@dataclass(frozen=True)
class Bucket:
    endpoint: str
    source: Path
    digest: str

    @property
    def credentials(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    source = big_adapter(tmp_path_factory.mktemp("s3") / "source")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = Bucket(f"http://{host}:{port}", source, digest_of_folder(source))
    client = boto3.client(
        "s3",
        endpoint_url=made.endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="npc")
    client.put_object(Bucket="npc", Key="adapters/vampire/", Body=b"")  # what consoles make of a folder
    for path in source.iterdir():
        client.put_object(Bucket="npc", Key=f"adapters/vampire/{path.name}", Body=path.read_bytes())
    yield made
    client.close()
    server.stop()


def test_an_adapter_comes_from_s3(bucket: Bucket, tmp_path: Path) -> None:
    uri = "s3://npc/adapters/vampire/"
    fetched = fetch(uri, tmp_path / "staging", bucket.digest, credentials=bucket.credentials)
    assert digest_of_folder(fetched.folder) == bucket.digest


def test_s3_is_resumed_where_it_broke_off(bucket: Bucket, tmp_path: Path) -> None:
    uri = "s3://npc/adapters/vampire"
    with pytest.raises(StoppedError):
        fetch(uri, tmp_path / "staging", bucket.digest, credentials=bucket.credentials, stop_after=2 << 20)
    fetched = fetch(uri, tmp_path / "staging", bucket.digest, credentials=bucket.credentials)
    assert fetched.received < fetched.size - (2 << 20)
    assert digest_of_folder(fetched.folder) == bucket.digest


def test_what_is_not_in_the_bucket_is_not_found(bucket: Bucket, tmp_path: Path) -> None:
    for uri in ("s3://npc/adapters/nobody", "s3://no-such-bucket/x"):
        assert reason_of(uri, tmp_path / "s", bucket.digest, credentials=bucket.credentials) is Reason.NOT_FOUND


def test_without_any_credentials_that_is_said(bucket: Bucket, tmp_path: Path) -> None:
    none = {key: bucket.credentials[key] for key in ("AWS_ENDPOINT_URL", "AWS_REGION")}
    reason = reason_of("s3://npc/adapters/vampire", tmp_path / "s", bucket.digest, credentials=none)
    assert reason is Reason.CREDENTIALS_MISSING


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("AccessDenied", 403, Reason.ACCESS_DENIED),
        ("InvalidAccessKeyId", 403, Reason.ACCESS_DENIED),
        ("SignatureDoesNotMatch", 403, Reason.ACCESS_DENIED),
        ("NoSuchBucket", 404, Reason.NOT_FOUND),
        ("PreconditionFailed", 412, Reason.SOURCE_CHANGED),
        ("SlowDown", 503, Reason.SOURCE_UNAVAILABLE),
    ],
)
def test_what_s3_says_has_its_reason(code: str, status: int, reason: Reason) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = s3_fault(ClientError(answer, "GetObject"), "x")  # type: ignore[arg-type]
    assert (error.reason, error.permanent) == (reason, False)


def test_a_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    credentials = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with pytest.raises(AdapterError) as caught:
        fetch("s3://npc/x", tmp_path / "s", "sha256:" + "0" * 64, credentials=credentials)
    assert (caught.value.reason, caught.value.permanent) == (Reason.SOURCE_UNAVAILABLE, False)
