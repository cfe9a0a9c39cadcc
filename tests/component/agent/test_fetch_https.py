"""Fetching from a TLS web server: resumed, lying, redirecting, guarded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.bench.internal import write_internal
from npc_runtime.agent.digest import digest_of_folder, listing_of, sha256_of
from npc_runtime.agent.errors import Reason
from tests.component.agent.fetching import big_adapter, fetch, reason_of
from tests.component.agent.web import Web, web_server


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
