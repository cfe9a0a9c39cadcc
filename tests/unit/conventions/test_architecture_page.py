"""docs/architecture.md says where things are: whoever moves a file moves its row, and no folder goes without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.conventions.pages import ROOT, chapter, codes, read, tables

PAGE = read("docs/architecture.md")
ROWS = next(tables(chapter(PAGE, "Where things are")))


def paths(cell: str) -> list[Path]:
    """Every path of a cell; a bare file name lies beside the path before it, or in it if that is a folder."""
    found: list[Path] = []
    for code in codes(cell):
        if "/" in code or not found:
            found.append(ROOT / code)
        else:
            folder = found[0] if found[0].is_dir() else found[0].parent
            found.append(folder / code)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["component"])
def test_a_row_leads_to_files_that_exist(row: dict[str, str]) -> None:
    found = paths(row["file"])
    assert found or "](" in row["file"]
    for path in found:
        assert path.exists(), path.relative_to(ROOT)


def test_every_package_has_a_row() -> None:
    covered = [path for row in ROWS for path in paths(row["file"])]
    for base in ("operator/npc_operator", "runtime/npc_runtime", "hack", "charts"):
        for folder in sorted((ROOT / base).iterdir()):
            tracked = folder.is_dir() and any(
                not part.name.startswith((".", "__pycache__")) for part in folder.iterdir()
            )
            if tracked and not folder.name.startswith((".", "__")):
                assert any(path.is_relative_to(folder) for path in covered), folder.relative_to(ROOT)


def test_every_package_within_a_package_is_named_or_lies_in_a_folder_that_is() -> None:
    covered = [path for row in ROWS for path in paths(row["file"])]
    for base in ("operator/npc_operator", "runtime/npc_runtime"):
        for package in sorted(path.parent for path in (ROOT / base).rglob("__init__.py")):
            if package != ROOT / base:
                assert any(path.is_relative_to(package) or package.is_relative_to(path) for path in covered), package


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
