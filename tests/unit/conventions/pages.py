"""Markdown tables as data: what a page promises is checked against the code, so both are read here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

Table = list[dict[str, str]]


def read(page: str) -> str:
    """The text of a page, by its path from the root of the checkout."""
    return (ROOT / page).read_text(encoding="utf-8")


def chapter(text: str, heading: str) -> str:
    """What stands below one heading, subheadings included. Raises LookupError if there is no such heading."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        depth, _, title = line.partition(" ")
        if title == heading and depth and set(depth) == {"#"}:
            rest = lines[number + 1 :]
            same_or_higher = re.compile(rf"#{{1,{len(depth)}}} ")
            end = next((index for index, below in enumerate(rest) if same_or_higher.match(below)), len(rest))
            return "\n".join(rest[:end])
    raise LookupError(heading)


def tables(text: str) -> Iterator[Table]:
    """Every table as a list of rows, each by its column's heading."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            yield _parse(block)
            block = []


def _parse(lines: list[str]) -> Table:
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    head, body = cells[0], cells[2:]
    return [dict(zip(head, row, strict=True)) for row in body]


def codes(cell: str) -> list[str]:
    """What is set as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def named_tests(path: Path) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
