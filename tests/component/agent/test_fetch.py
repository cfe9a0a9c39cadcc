"""Fetching from an S3 server, a TLS web server and folders; broken off, resumed, changed, lying."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from hack.bench.internal import write_internal
from npc_runtime.agent.digest import digest_of_folder, listing_of, sha256_of
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.fetch.download import Downloaded, StoppedError, download_adapter
from npc_runtime.agent.fetch.s3 import fault_of as s3_fault
from npc_runtime.agent.fetch.source import Expected, open_source
from tests.unit.agent.makers import make_adapter

LIMIT = 32 << 20
WEIGHTS = "adapter_model.safetensors"


def fetch(
    uri: str,
    staging: Path,
    digest: str,
    *,
    credentials: dict[str, str] | None = None,
    roots: tuple[Path, ...] = (),
    size_limit: int = LIMIT,
    stop_after: int | None = None,
) -> Downloaded:
    seen = 0

    def note(done: int, total: int) -> None:
        nonlocal seen
        seen = done

    source = open_source(uri, credentials=credentials or {}, file_roots=roots, expected=Expected(digest))
    try:
        return download_adapter(
            source,
            staging,
            digest=digest,
            size_limit=size_limit,
            reserve=lambda _: None,
            progress=note,
            stopped=lambda: stop_after is not None and seen > stop_after,
        )
    finally:
        source.close()


def reason_of(*args: object, **options: object) -> Reason:
    with pytest.raises(AdapterError) as caught:
        fetch(*args, **options)  # type: ignore[arg-type]
    return caught.value.reason


def big_adapter(folder: Path) -> Path:
    """An adapter whose weights take several chunks; nobody inspects it here."""
    make_adapter(folder)
    (folder / WEIGHTS).write_bytes(os.urandom(5 << 20))
    return folder


# --- folders ---


def test_a_folder_is_copied_whole(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    (source / "docs").mkdir()
    (source / "docs" / "README.md").write_text("hello")
    digest = digest_of_folder(source)
    fetched = fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,))
    assert digest_of_folder(fetched.folder) == digest
    assert fetched.size == fetched.received == sum(p.stat().st_size for p in source.rglob("*") if p.is_file())


def test_a_fetch_that_was_stopped_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    digest = digest_of_folder(source)
    with pytest.raises(StoppedError):
        fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,), stop_after=2 << 20)
    fetched = fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,))
    assert fetched.received < fetched.size - (2 << 20)
    assert digest_of_folder(fetched.folder) == digest


def test_bytes_of_two_versions_are_never_joined(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    with pytest.raises(StoppedError):
        fetch(f"file://{source}", tmp_path / "staging", "sha256:" + "0" * 64, roots=(tmp_path,), stop_after=2 << 20)
    (source / WEIGHTS).write_bytes(os.urandom(5 << 20))
    digest = digest_of_folder(source)
    assert fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,)).size > 5 << 20


def test_a_damaged_rest_of_an_earlier_fetch_is_not_called_the_sources_fault(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    digest = digest_of_folder(source)
    with pytest.raises(StoppedError):
        fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,), stop_after=2 << 20)
    with (tmp_path / "staging" / "files" / WEIGHTS).open("r+b") as partial:
        partial.write(b"damaged")
    assert digest_of_folder(fetch(f"file://{source}", tmp_path / "staging", digest, roots=(tmp_path,)).folder) == digest


def test_a_wrong_digest_leaves_nothing_behind(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    reason = reason_of(f"file://{source}", tmp_path / "staging", "sha256:" + "0" * 64, roots=(tmp_path,))
    assert reason is Reason.DIGEST_MISMATCH
    assert not (tmp_path / "staging").exists()


def test_too_many_bytes_are_refused_before_one_is_copied(tmp_path: Path) -> None:
    source = big_adapter(tmp_path / "a")
    uri, digest = f"file://{source}", digest_of_folder(source)
    assert reason_of(uri, tmp_path / "staging", digest, roots=(tmp_path,), size_limit=1 << 20) is Reason.TOO_LARGE
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:///etc", Reason.ROOT_NOT_ALLOWED),
        ("file://{root}/../etc", Reason.UNSAFE_PATH),
        ("file://{root}/%2e%2e/etc", Reason.UNSAFE_PATH),
        ("file://host{root}/a", Reason.UNSUPPORTED_URI),
        ("file://{root}/nothing", Reason.NOT_FOUND),
        ("file://{root}/a.txt", Reason.NOT_FOUND),
        ("ftp://host/a", Reason.UNSUPPORTED_URI),
        ("http://host/a", Reason.UNSUPPORTED_URI),
        ("/plain/path", Reason.UNSUPPORTED_URI),
        ("https://user:hunter2@host/a", Reason.UNSUPPORTED_URI),
        ("https://host/a?x=1", Reason.UNSUPPORTED_URI),
        ("https://host/a#x", Reason.UNSUPPORTED_URI),
        ("https:///a", Reason.UNSUPPORTED_URI),
        ("s3:///a", Reason.UNSUPPORTED_URI),
    ],
)
def test_a_uri_that_leads_nowhere_good_is_refused(tmp_path: Path, uri: str, reason: Reason) -> None:
    (tmp_path / "a.txt").write_text("no folder")
    with pytest.raises(AdapterError) as caught:
        fetch(uri.format(root=tmp_path), tmp_path / "staging", "sha256:" + "0" * 64, roots=(tmp_path,))
    assert caught.value.reason is reason
    assert "hunter2" not in str(caught.value)


def test_without_roots_no_folder_is_allowed(tmp_path: Path) -> None:
    assert reason_of(f"file://{tmp_path}", tmp_path / "s", "sha256:" + "0" * 64) is Reason.ROOT_NOT_ALLOWED


# --- S3 ---


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


# --- https ---


@dataclass
class Web:
    """A TLS server over one folder; `cut_at` breaks each body off there, `redirect` sends every GET away."""

    folder: Path
    port: int = 0
    authorization: str = ""
    cut_at: int = 0
    redirect: str = ""
    ranges: bool = True
    head: bool = True
    grow: bytes = b""
    requests: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"https://localhost:{self.port}/adapters/vampire"


@contextmanager
def web_server(folder: Path, internal: Path) -> Iterator[Web]:
    web = Web(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            web.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            if web.authorization and self.headers.get("Authorization") != web.authorization:
                return self.plain(401)
            if not web.head and not body:
                return self.plain(405)
            if web.redirect and body:
                self.send_response(302)
                self.send_header("Location", web.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            path = web.folder / self.path.removeprefix("/adapters/vampire/")
            if not path.is_file():
                return self.plain(404)
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
            begin = 0
            wanted = self.headers.get("Range", "")
            if web.ranges and wanted and self.headers.get("If-Range", tag) == tag:
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            rest = data[begin:] + (web.grow if body else b"")
            self.send_header("Content-Length", str(len(rest)))
            self.send_header("ETag", tag)
            self.end_headers()
            if body:
                self.wfile.write(rest[: web.cut_at] if web.cut_at else rest)
                self.close_connection = bool(web.cut_at)
            return None

        def plain(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(internal / "tls.crt", internal / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(big_adapter(tmp_path / "www"), write_internal(tmp_path / "tls", dns="localhost")) as server:
        yield server


@pytest.fixture
def trust(tmp_path: Path, web: Web) -> dict[str, str]:
    return {"ca.crt": (tmp_path / "tls" / "ca.crt").read_text()}


def test_the_two_files_of_every_adapter_come_by_https(web: Web, trust: dict[str, str], tmp_path: Path) -> None:
    digest = digest_of_folder(web.folder)
    fetched = fetch(web.uri, tmp_path / "staging", digest, credentials=trust)
    assert digest_of_folder(fetched.folder) == digest


def test_a_published_listing_brings_more_files_and_tells_a_wrong_folder_before_a_weight_is_fetched(
    web: Web, trust: dict[str, str], tmp_path: Path
) -> None:
    (web.folder / "README.md").write_text("hello")
    digest = digest_of_folder(web.folder)
    names = [path.name for path in web.folder.iterdir()]
    (web.folder / "SHA256SUMS").write_bytes(listing_of({name: sha256_of(web.folder / name) for name in names}))
    fetched = fetch(web.uri, tmp_path / "staging", digest, credentials=trust)
    assert digest_of_folder(fetched.folder) == digest
    web.requests.clear()
    reason = reason_of(web.uri, tmp_path / "other", "sha256:" + "0" * 64, credentials=trust)
    assert reason is Reason.DIGEST_MISMATCH
    assert web.requests == ["GET /adapters/vampire/SHA256SUMS"]


@pytest.mark.parametrize("name", ["//localhost:{port}/stolen", "../other/stolen", "/stolen"])
def test_no_name_of_a_published_listing_can_lead_the_credentials_elsewhere(
    web: Web, trust: dict[str, str], tmp_path: Path, name: str
) -> None:
    listing = f"{'0' * 64}  {name.format(port=web.port)}\n".encode()
    (web.folder / "SHA256SUMS").write_bytes(listing)
    digest = f"sha256:{hashlib.sha256(listing).hexdigest()}"
    assert reason_of(web.uri, tmp_path / "staging", digest, credentials=trust) is Reason.UNSAFE_PATH
    assert web.requests == ["GET /adapters/vampire/SHA256SUMS"]


def test_https_is_resumed_where_it_broke_off(web: Web, trust: dict[str, str], tmp_path: Path) -> None:
    digest = digest_of_folder(web.folder)
    web.cut_at = 3 << 20
    assert reason_of(web.uri, tmp_path / "staging", digest, credentials=trust) is Reason.SOURCE_UNAVAILABLE
    web.cut_at = 0
    fetched = fetch(web.uri, tmp_path / "staging", digest, credentials=trust)
    assert fetched.received < fetched.size - (2 << 20)
    assert any("bytes=3145728-" in request for request in web.requests)
    assert digest_of_folder(fetched.folder) == digest


@pytest.mark.parametrize("what", ["ranges", "head"])
def test_a_server_without_ranges_or_head_is_good_enough(
    web: Web, trust: dict[str, str], tmp_path: Path, what: str
) -> None:
    setattr(web, what, False)
    digest = digest_of_folder(web.folder)
    web.cut_at = 3 << 20
    assert reason_of(web.uri, tmp_path / "staging", digest, credentials=trust) is Reason.SOURCE_UNAVAILABLE
    web.cut_at = 0
    fetched = fetch(web.uri, tmp_path / "staging", digest, credentials=trust)
    assert digest_of_folder(fetched.folder) == digest


def test_a_server_that_sends_more_than_it_announced_is_stopped(web: Web, trust: dict[str, str], tmp_path: Path) -> None:
    digest = digest_of_folder(web.folder)
    web.grow = b"x" * (2 << 20)
    assert reason_of(web.uri, tmp_path / "s", digest, credentials=trust) is Reason.TOO_LARGE
    web.head = False  # nothing announced: the limit itself must hold
    web.grow = b"x" * (40 << 20)
    assert reason_of(web.uri, tmp_path / "t", digest, credentials=trust, size_limit=16 << 20) is Reason.TOO_LARGE


def test_a_certificate_nobody_vouches_for_is_refused(web: Web, tmp_path: Path) -> None:
    assert reason_of(web.uri, tmp_path / "s", digest_of_folder(web.folder)) is Reason.SOURCE_UNAVAILABLE
    assert web.requests == []


@pytest.mark.parametrize(
    ("secret", "header"),
    [
        ({"token": "t0ken"}, "Bearer t0ken"),
        ({"username": "u", "password": "p"}, f"Basic {base64.b64encode(b'u:p').decode()}"),
    ],
)
def test_a_secret_opens_a_guarded_server(
    web: Web, trust: dict[str, str], tmp_path: Path, secret: dict[str, str], header: str
) -> None:
    web.authorization = header
    digest = digest_of_folder(web.folder)
    assert reason_of(web.uri, tmp_path / "s", digest, credentials=trust) is Reason.ACCESS_DENIED
    fetch(web.uri, tmp_path / "s", digest, credentials={**trust, **secret})


@pytest.mark.parametrize(
    "target", ["http://localhost/x", "https://127.0.0.1:1/x", "https://localhost:1/x", "//other/x"]
)
def test_a_redirect_to_anywhere_else_is_refused(web: Web, trust: dict[str, str], tmp_path: Path, target: str) -> None:
    web.redirect = target
    digest = digest_of_folder(web.folder)
    assert reason_of(web.uri, tmp_path / "s", digest, credentials=trust) is Reason.REDIRECT_REFUSED


def test_a_redirect_in_a_circle_ends(web: Web, trust: dict[str, str], tmp_path: Path) -> None:
    web.redirect = "/adapters/vampire/again"
    digest = digest_of_folder(web.folder)
    assert reason_of(web.uri, tmp_path / "s", digest, credentials=trust) is Reason.REDIRECT_REFUSED
