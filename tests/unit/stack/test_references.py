"""The yardstick: answers belong to what they depend on, and name what they were said by."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hack.models.catalog import Catalog
from hack.stack import references
from hack.stack.references import References

PROMPT = "Who are you?"
KNOWN = References(
    {"vampire-v1": "sha256:1", "vampire-v2": "sha256:2", "zombie-v1": "sha256:3"},
    {("vampire-v1", PROMPT, 8): "blood", ("vampire-v2", PROMPT, 8): "velvet", ("zombie-v1", PROMPT, 8): "brains"},
)


def test_answers_are_known_by_archetype_and_digest() -> None:
    assert KNOWN.expected(PROMPT, 8) == {
        ("vampire", "sha256:1"): "blood",
        ("vampire", "sha256:2"): "velvet",
        ("zombie", "sha256:3"): "brains",
    }


def test_an_answer_nobody_asked_for_is_an_error_and_never_an_empty_text() -> None:
    with pytest.raises(KeyError):
        KNOWN.expected(PROMPT, 9)


def test_a_digest_has_a_name_and_a_foreign_one_shows_as_it_is() -> None:
    assert KNOWN.version("sha256:2") == "vampire-v2"
    assert KNOWN.version("sha256:9") == "sha256:9"
    assert KNOWN.version("") == "(no digest)"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    return Catalog(tmp_path, {"vampire-v1": "1" * 64})


async def test_cached_answers_are_read_without_an_engine(catalog: Catalog) -> None:
    path = references._path(catalog)
    path.parent.mkdir(parents=True)
    rows = [{"adapter": "vampire-v1", "prompt": PROMPT, "max_tokens": 8, "text": "blood"}]
    path.write_text(json.dumps(rows))
    known = await references.references(catalog)
    assert known.expected(PROMPT, 8) == {("vampire", f"sha256:{'1' * 64}"): "blood"}


def test_other_adapters_another_base_or_other_flags_make_the_answers_stale(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [references._path(catalog), references._path(catalog)]
    assert len(set(paths)) == 1
    paths.append(references._path(dataclasses.replace(catalog, digests={"vampire-v1": "2" * 64})))
    (catalog.base / "config.json").write_text('{"other": 1}')
    paths.append(references._path(catalog))
    monkeypatch.setattr(references, "ENGINE_ARGS", ("--dtype=bfloat16",))
    paths.append(references._path(catalog))
    assert len(set(paths)) == 4
