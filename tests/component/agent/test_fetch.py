"""Fetching from folders: broken off, resumed, changed, leading elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npc_runtime.agent.digest import digest_of_folder
from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.fetch.download import StoppedError
from tests.component.agent.fetching import WEIGHTS, big_adapter, fetch, reason_of


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
