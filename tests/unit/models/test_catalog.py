"""The test models: the same bytes every time, readable by any uid, with answers that no near-tie can change."""

import hashlib
import itertools
import os
import subprocess
from pathlib import Path

import pytest

from hack.models.adapters import ADAPTERS
from hack.models.catalog import Catalog, make_catalog
from hack.models.digest import digest_of, served_name
from hack.models.forward import Model, encode_text
from hack.models.large import LARGE_RANK, make_large_adapter, make_large_base
from hack.models.margins import MARGIN, MAX_TOKENS, PROMPTS, reference_answers
from npc_runtime.agent.inspect.adapter import Limits, inspect_adapter
from npc_runtime.agent.inspect.base import read_base

FIRST_DIGEST = "ea5686cf434e882ca24422f9d6ceaa747b762d90b8f9856c035b90e96a03c0be"
TELLING_TOKENS = 8


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog(tmp_path_factory.mktemp("models"))


def test_making_the_models_twice_gives_the_same_bytes_also_over_themselves(catalog: Catalog, tmp_path: Path) -> None:
    base = digest_of(catalog.base)
    again = make_catalog(tmp_path)
    assert again.digests == catalog.digests
    assert digest_of(again.base) == base
    assert make_catalog(catalog.directory).digests == catalog.digests
    assert digest_of(catalog.base) == base


def test_the_digest_of_the_first_adapter_is_the_one_it_has_always_had(catalog: Catalog) -> None:
    assert catalog.digests["vampire-v1"] == FIRST_DIGEST


def test_the_digest_is_what_coreutils_say(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z.txt", "b.txt", "B-1_x.txt", "a", ".hidden"):
        (tmp_path / name).write_text(name)
    for folder in (tmp_path, catalog.adapter("zombie-v1")):
        pipeline = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum"
        shell = subprocess.run(["bash", "-c", pipeline], cwd=folder, capture_output=True, text=True, check=True)
        assert digest_of(folder) == shell.stdout.split()[0]


def test_a_name_that_sha256sum_would_escape_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "two\nlines").write_text("")
    with pytest.raises(ValueError, match="two"):
        digest_of(tmp_path)


def test_an_empty_folder_has_the_digest_of_nothing(tmp_path: Path) -> None:
    assert digest_of(tmp_path) == hashlib.sha256(b"").hexdigest()


def test_a_served_name_is_the_archetype_and_twelve_hex(catalog: Catalog) -> None:
    assert catalog.served_name("vampire-v1") == f"vampire--{FIRST_DIGEST[:12]}" == served_name("vampire", FIRST_DIGEST)


def test_every_file_can_be_read_by_another_uid_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        make_catalog(tmp_path / "models")
    finally:
        os.umask(former)
    for path in [tmp_path / "models", *(tmp_path / "models").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("name", ["base", *(adapter.name for adapter in ADAPTERS)])
def test_every_token_of_every_reference_answer_leads_by_the_margin(catalog: Catalog, name: str) -> None:
    model = Model(catalog.base, None if name == "base" else catalog.adapter(name))
    for prompt in PROMPTS:
        answer = reference_answers()[name][prompt]
        assert len(encode_text(answer)) == MAX_TOKENS
        assert model.lead([("user", prompt)], answer) >= MARGIN


def test_an_answer_that_is_not_the_greedy_one_leads_by_less_than_nothing(catalog: Catalog) -> None:
    vampire = Model(catalog.base, catalog.adapter("vampire-v1"))
    assert vampire.lead([("user", PROMPTS[0])], reference_answers()["zombie-v1"][PROMPTS[0]]) < 0


def test_any_two_models_differ_within_the_first_words_of_every_answer() -> None:
    answers = reference_answers()
    for prompt in PROMPTS:
        for one, other in itertools.combinations(answers, 2):
            first, second = (answers[name][prompt].split()[:TELLING_TOKENS] for name in (one, other))
            assert first != second, f"{one} and {other} answer {prompt!r} alike"


def test_the_agent_finds_nothing_wrong_with_any_of_them(catalog: Catalog) -> None:
    base = read_base(catalog.base)
    for name in catalog.digests:
        assert inspect_adapter(catalog.adapter(name), limits=Limits(max_rank=8), base=base).max_rank == 8


@pytest.mark.timeout(60)  # 160 MB take a disk that others use some time
def test_the_large_adapter_has_160_megabytes_and_fits_its_base(tmp_path: Path) -> None:
    base = read_base(make_large_base(tmp_path / "base"))
    adapter = make_large_adapter(tmp_path / "adapter")
    assert inspect_adapter(adapter, limits=Limits(max_rank=LARGE_RANK), base=base).scanned_bytes == 159_907_840
