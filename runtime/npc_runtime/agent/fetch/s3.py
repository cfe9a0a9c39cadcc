"""Adapters and models from S3 and what speaks like it: `s3://<bucket>/<prefix>`.

Endpoint, region and credentials come from the pushed Secret (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE as PEM text); what it does not say comes from the pod's
identity. Reads name the listed ETag, so a folder replaced in mid-transfer is noticed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from ..errors import AdapterError, Reason, refused, retryable
from .source import READ_CHUNK, Listing, Piece, RemoteFile

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_LISTING_LIMIT = 10_000
"""Objects below one prefix: more is somebody's whole bucket, not an adapter or a model."""
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})
_DENIED = frozenset(
    {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)


class S3Source:
    """One prefix of one bucket."""

    def __init__(self, *, bucket: str, prefix: str, credentials: Mapping[str, str]) -> None:
        if not bucket:
            raise refused(Reason.UNSUPPORTED_URI, "an s3 URI is s3://bucket/prefix")
        self._bucket = bucket
        stripped = prefix.strip("/")
        self._prefix = f"{stripped}/" if stripped else ""
        self._ca_file: str | None = None
        self._client = self._make_client(credentials)

    def listing(self) -> Listing:
        """All objects below the prefix; folder markers (empty keys that end in a slash) are not files."""
        files: list[RemoteFile] = []
        token: dict[str, Any] = {}
        with _mapped_errors(f"s3://{self._bucket}/{self._prefix}"):
            while True:
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **token)
                for item in page.get("Contents", []):
                    name = item["Key"][len(self._prefix) :]
                    if name and not name.endswith("/"):
                        files.append(RemoteFile(name, item["Size"], item["ETag"]))
                if len(files) > _LISTING_LIMIT:
                    raise refused(
                        Reason.TOO_MANY_FILES,
                        f"more than {_LISTING_LIMIT} objects below s3://{self._bucket}/{self._prefix}",
                    )
                if not page.get("IsTruncated"):
                    break
                token = {"ContinuationToken": page["NextContinuationToken"]}
        if not files:
            raise retryable(Reason.NOT_FOUND, f"nothing is below s3://{self._bucket}/{self._prefix}")
        return Listing(tuple(sorted(files, key=lambda file: (file.size or 0, file.name))))

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Piece]:
        """See Source.read."""
        with _mapped_errors(file.name):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + file.name, IfMatch=file.version, Range=f"bytes={offset}-"
            )
            body = answer["Body"]
            try:
                # A server that ignores Range answers with the whole object.
                begin = offset if answer.get("ContentRange") else 0
                yield Piece(begin, body.iter_chunks(READ_CHUNK))
            finally:
                body.close()

    def close(self) -> None:
        """See Source.close."""
        self._client.close()
        if self._ca_file:
            Path(self._ca_file).unlink(missing_ok=True)

    def _make_client(self, credentials: Mapping[str, str]) -> S3Client:
        bundle = credentials.get("AWS_CA_BUNDLE")
        if bundle:
            with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
                file.write(bundle)
            self._ca_file = file.name
        endpoint = credentials.get("AWS_ENDPOINT_URL") or None
        try:
            session = boto3.session.Session(
                aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID") or None,
                aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY") or None,
                aws_session_token=credentials.get("AWS_SESSION_TOKEN") or None,
                region_name=credentials.get("AWS_REGION") or None,
            )
            # S3 servers beside AWS often have no wildcard DNS; retries with backoff are the planner's, which can say so
            # in status.
            return session.client(
                "s3",
                endpoint_url=endpoint,
                region_name=session.region_name or "us-east-1",
                verify=self._ca_file or None,
                config=Config(
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    s3={"addressing_style": "path" if endpoint else "auto"},
                    response_checksum_validation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise retryable(
                Reason.CREDENTIALS_MISSING, f"the S3 client cannot be set up: {type(error).__name__}"
            ) from None


@contextmanager
def _mapped_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise fault_of(error, what) from None
    except (NoCredentialsError, PartialCredentialsError, TokenRetrievalError):
        raise retryable(
            Reason.CREDENTIALS_MISSING, "no S3 credentials: neither secretRef nor the pod's identity has any"
        ) from None
    except (BotoCoreError, HTTPError, OSError) as error:
        raise retryable(Reason.SOURCE_UNAVAILABLE, f"{what}: {type(error).__name__}") from None


def fault_of(error: ClientError, what: str) -> AdapterError:
    """What an error answer of S3 means. None is permanent: objects, policies and keys are mended elsewhere."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return retryable(Reason.NOT_FOUND, f"{what}: {code}")
    if code in _DENIED or status in {401, 403}:
        return retryable(Reason.ACCESS_DENIED, f"{what}: {code}")
    if code in {"PreconditionFailed", "412", "InvalidRange"}:
        return retryable(Reason.SOURCE_CHANGED, f"{what} changed while it was fetched")
    return retryable(Reason.SOURCE_UNAVAILABLE, f"{what}: {code}")
