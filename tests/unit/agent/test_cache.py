from __future__ import annotations

import json
import shutil
from pathlib import Path

from npc_runtime.agent.cache import Bytes, Cache, Eviction, Folder, choose_evictions, previous_of
from npc_runtime.agent.digest import digest_of_folder
from tests.unit.agent.makers import make_adapter


def folder(letter: str, *, archetype: str = "vampire", size: int = 10, last_used: float = 0.0) -> Folder:
    return Folder(f"sha256:{letter * 64}", archetype, size, 8, "context", last_used)


def test_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    folders = [folder("a", last_used=3), folder("b", last_used=1), folder("c", last_used=2)]
    assert choose_evictions(folders, needed=10, limit=30, pinned=(), previous=()) == Eviction(
        (folders[1].digest,), True
    )
    assert choose_evictions(folders, needed=0, limit=30, pinned=(), previous=()) == Eviction((), True)


def test_what_is_pinned_never_goes_even_if_there_is_no_room() -> None:
    folders = [folder("a"), folder("b")]
    pinned = {item.digest for item in folders}
    assert choose_evictions(folders, needed=10, limit=20, pinned=pinned, previous=()) == Eviction((), False)


def test_the_way_back_goes_last() -> None:
    stable = folder("a", last_used=1)
    older, newer = folder("b", archetype="zombie", last_used=8), folder("c", archetype="zombie", last_used=9)
    previous = previous_of([stable, older, newer], pinned=())
    assert previous == {stable.digest, newer.digest}
    chosen = choose_evictions([stable, older, newer], needed=20, limit=30, pinned=(), previous=previous)
    assert chosen == Eviction((older.digest, stable.digest), True)


def test_what_is_pinned_is_nobodys_way_back() -> None:
    stable, candidate = folder("a", last_used=1), folder("b", last_used=2)
    assert previous_of([stable, candidate], pinned={candidate.digest}) == {stable.digest}


def commit(cache: Cache, source: Path) -> str:
    digest = digest_of_folder(source)
    staged = cache.staging(digest) / "files"
    staged.parent.mkdir(parents=True)
    source.rename(staged)
    cache.commit(staged, Folder(digest, "vampire", 100, 8, "context", 1.0, "a note"))
    return digest


def test_a_committed_folder_is_found_again_as_it_was(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    digest = commit(cache, make_adapter(tmp_path / "a"))
    assert digest_of_folder(cache.path(digest)) == digest
    assert (cache.path(digest) / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o644
    assert Cache(tmp_path / "cache").load() == (Folder(digest, "vampire", 100, 8, "context", 1.0, "a note"),)
    assert not cache.staging(digest).exists()


def test_touched_files_are_hashed_again_and_kept_if_they_are_the_same(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    digest = commit(cache, make_adapter(tmp_path / "a"))
    config = cache.path(digest) / "adapter_config.json"
    config.write_bytes(config.read_bytes())
    assert [item.digest for item in cache.load()] == [digest]


def test_changed_incomplete_or_unknown_folders_are_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    changed = commit(cache, make_adapter(tmp_path / "a", seed=1))
    weights = cache.path(changed) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    cut = commit(cache, make_adapter(tmp_path / "b", seed=2))
    (cache.path(cut) / "adapter_config.json").unlink()
    unknown = cache.root / f"sha256-{'0' * 64}"
    make_adapter(unknown)
    forged = commit(cache, make_adapter(tmp_path / "c", seed=3))
    (cache.root / ".meta" / f"{forged.removeprefix('sha256:')}.json").write_text(json.dumps({"version": 1}))
    assert cache.load() == ()
    assert not [path for path in cache.root.iterdir() if path.name.startswith("sha256-")]


def test_removal_leaves_nothing_and_staging_keeps_only_what_is_wanted(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    digest = commit(cache, make_adapter(tmp_path / "a"))
    cache.remove(digest)
    assert cache.load() == ()
    for letter in "ab":
        cache.staging(f"sha256:{letter * 64}").mkdir()
    cache.remove_staging(keep=[f"sha256:{'a' * 64}"])
    assert [path.name for path in (cache.root / ".staging").iterdir()] == ["a" * 64]


def test_the_location_engines_are_told_is_the_path_of_the_folder(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    digest = f"sha256:{'a' * 64}"
    assert cache.location(digest) == str(cache.path(digest))
    assert cache.location(digest).startswith(cache.owned)


def test_the_bytes_of_a_folder_are_as_wanted_gone_or_others(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    whole, gone, cut, changed, more, linked = (
        commit(cache, make_adapter(tmp_path / str(seed), seed=seed)) for seed in range(6)
    )
    shutil.rmtree(cache.path(gone))
    (cache.path(cut) / "adapter_config.json").unlink()
    weights = cache.path(changed) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    (cache.path(more) / "notes.txt").write_text("more")
    (cache.path(linked) / "README.md").symlink_to("/etc/hostname")
    found = [cache.bytes_of(digest) for digest in (whole, gone, cut, changed, more, linked)]
    assert found == [Bytes.AS_WANTED, Bytes.GONE, Bytes.GONE, Bytes.OTHERS, Bytes.OTHERS, Bytes.OTHERS]
    # Without a record of its files a folder that lacks some is not told from one with others.
    (cache.root / ".meta" / f"{cut.removeprefix('sha256:')}.json").unlink()
    assert cache.bytes_of(cut) is Bytes.OTHERS
