"""A real S3 server (versitygw) on this machine, for tests that must not believe a mock.

with S3Server(tmp_path) as server:
    server.upload(folder, "bucket", "adapters/vampire")
"""

import secrets
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config

from hack.cluster.api import binary
from hack.cluster.ports import pick_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REGION = "us-east-1"

_READY_SECONDS = 120.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05


class S3Server:
    """One server over `folder`, on a free port of `host`, with credentials of its own; `with` starts and ends it."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_urlsafe(30)
        self.endpoint = ""
        """The URL for clients, once the server runs."""
        self._folder = folder
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        buckets, metadata = self._folder / "buckets", self._folder / "metadata"
        for path in (buckets, metadata):
            path.mkdir(parents=True, exist_ok=True)
        port = pick_port(self._host)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # A side-car folder for metadata: extended attributes are not everywhere, tmpfs has none for users.
                [str(binary("versitygw")), "--port", f"{self._host}:{port}", "posix", "--sidecar", metadata, buckets],
                env={"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait(port)
        except BaseException:
            self._stop()
            raise
        self.endpoint = f"http://{self._host}:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def credentials(self) -> dict[str, str]:
        """What a Secret for `secretRef` holds."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
        }

    def client(self) -> "S3Client":
        """A client with these credentials, for whatever else a test wants to do."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> str:
        """Put every regular file of `folder` below `prefix`, making the bucket if need be; returns its s3:// URI."""
        client = self.client()
        if bucket not in {entry["Name"] for entry in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
        client.close()
        return f"s3://{bucket}/{prefix}"

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not _listens(self._host, port):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"versitygw did not start:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
