"""The S3 server of the tests keeps what one uploads, and keeps out whoever has not its credentials."""

from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.support.s3 import S3Server


def test_what_was_uploaded_is_listed_and_read_back(tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    (source / "docs").mkdir(parents=True)
    (source / "weights").write_bytes(bytes(range(256)) * 100)
    (source / "docs" / "README.md").write_text("hello")
    (source / "link").symlink_to("weights")
    with S3Server(tmp_path / "s3") as server:
        assert server.upload(source, "npc", "adapters/one") == "s3://npc/adapters/one"
        assert server.upload(source, "npc", "adapters/two") == "s3://npc/adapters/two"
        client = server.client()
        listed = {entry["Key"] for entry in client.list_objects_v2(Bucket="npc")["Contents"]}
        assert listed == {f"adapters/{name}/{key}" for name in ("one", "two") for key in ("weights", "docs/README.md")}
        body = client.get_object(Bucket="npc", Key="adapters/one/weights")["Body"].read()
        assert body == (source / "weights").read_bytes()
        client.close()


def test_other_credentials_are_refused_and_a_stopped_server_is_gone(tmp_path: Path) -> None:
    with S3Server(tmp_path / "s3") as server:
        stranger = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key="not the secret",
            config=Config(retries={"max_attempts": 0}),
        )
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            stranger.list_buckets()
        assert server.client().list_buckets()["Buckets"] == []
    with pytest.raises(EndpointConnectionError):
        stranger.list_buckets()
    stranger.close()
