"""docs/conventions.md names the test that holds each convention; a test that is renamed or removed takes the page with
it.
"""

from __future__ import annotations

import re

import pytest

from tests.unit.conventions.pages import ROOT, codes, named_tests, read, tables

PAGE = "docs/conventions.md"
ROWS = next(tables(read(PAGE)))
NUMBERS = [str(number) for number in range(1, 41)]


def test_every_convention_has_a_row() -> None:
    assert [row["#"] for row in ROWS] == NUMBERS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["#"])
def test_a_row_names_tests_that_exist_or_says_what_comes_later(row: dict[str, str]) -> None:
    named = [name for name in codes(row["held by"]) if "::" in name]
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).is_file(), path
        assert function in named_tests(ROOT / path), name
    assert named or row["held by"].startswith("Later:")


def test_nothing_else_on_the_page_looks_like_a_test() -> None:
    assert set(re.findall(r"tests/\S+?\.py(?!`?::)\S*", read(PAGE))) == set()
