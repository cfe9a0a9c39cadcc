"""Tests may use the tools in hack; the tools stand without the tests."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def test_nothing_in_hack_imports_a_test() -> None:
    files = sorted((ROOT / "hack").rglob("*.py"))
    assert files
    guilty = {
        path.relative_to(ROOT).as_posix(): name
        for path in files
        for name in imported(path)
        if name.partition(".")[0] == "tests"
    }
    assert guilty == {}
