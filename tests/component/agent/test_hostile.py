"""Every hostile adapter there is a maker for is refused with its own reason on the way from its source to the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.models.base import DEFAULT_BASE
from hack.models.catalog import make_catalog
from hack.models.hostile import HOSTILE
from npc_runtime.agent.digest import digest_of_listing, sha256_of
from npc_runtime.agent.errors import AdapterError
from npc_runtime.agent.fetch.download import download_adapter
from npc_runtime.agent.fetch.uri import open_source
from npc_runtime.agent.inspect.adapter import Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base

SIZE_LIMIT = 64 << 20
NO_DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("catalog")).base


def honest_digest(folder: Path) -> str:
    """What a hostile author would declare: the hashes of whatever files are there, by coreutils' listing."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in files) > SIZE_LIMIT:
        return NO_DIGEST  # hashing it would take minutes; it must be refused before anybody does
    return digest_of_listing({path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def take_in(folder: Path, digest: str, base: Path, staging: Path) -> None:
    source = open_source(f"file://{folder}", credentials={}, file_roots=[folder.parent])
    fetched = download_adapter(
        source,
        staging,
        digest=digest,
        size_limit=SIZE_LIMIT,
        reserve=lambda _: None,
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    inspect_adapter(fetched.folder, limits=Limits(16), base=read_base(base))


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_adapter_is_refused_with_its_reason(name: str, tmp_path: Path, catalog: Path) -> None:
    hostile = HOSTILE[name]
    folder = hostile.make(tmp_path / "adapter", DEFAULT_BASE)
    digest = NO_DIGEST if hostile.wrong_digest else honest_digest(folder)
    with pytest.raises(AdapterError) as caught:
        take_in(folder, digest, catalog, tmp_path / "staging")
    assert caught.value.reason == hostile.reason
    assert caught.value.permanent


def test_the_sound_adapters_of_the_same_makers_pass(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path / "catalog")
    for name, digest in catalog.digests.items():
        take_in(catalog.adapter(name), f"sha256:{digest.removeprefix('sha256:')}", catalog.base, tmp_path / name)
