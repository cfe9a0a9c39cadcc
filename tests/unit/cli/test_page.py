"""docs/kubectl-npc.md names every command, exit code and reason, and shows what is really printed."""

from __future__ import annotations

import re

from npc_runtime.cli.answers import Code
from npc_runtime.cli.arguments import COMMANDS
from npc_runtime.cli.explain.advice import AGENTS, OBJECTS
from tests.unit.cli.faults import FAULTS
from tests.unit.cli.test_why import answer
from tests.unit.conventions.pages import chapter, codes, read, tables

PAGE = read("docs/kubectl-npc.md")


def test_every_command_is_in_the_table_and_no_other() -> None:
    told = [codes(row["command"])[0].split()[0] for row in next(tables(PAGE))]
    assert told == [one.name for one in COMMANDS]


def test_every_exit_code_is_explained() -> None:
    assert [int(row["code"]) for row in next(tables(chapter(PAGE, "Exit codes")))] == [int(code) for code in Code]


def test_every_reason_that_only_why_finds_is_explained() -> None:
    told = {word for row in next(tables(chapter(PAGE, "Why"))) for word in codes(row["reason"])}
    found = set()
    for make in FAULTS.values():
        data = answer(make()).data
        assert isinstance(data, dict)
        found |= {cause["reason"] for cause in data["causes"]}
    assert found - set(OBJECTS) - set(AGENTS) - {"Evicted"} <= told
    source = read("runtime/npc_runtime/cli/explain/pods.py") + read("runtime/npc_runtime/cli/explain/regions.py")
    source += read("runtime/npc_runtime/cli/explain/operators.py") + read("runtime/npc_runtime/cli/explain/tiers.py")
    for word in told:
        assert re.search(rf'"{word}"', source), word


def test_the_image_and_the_package_say_how_to_get_it() -> None:
    assert "pip install '.[cli]'" in PAGE
    assert re.search(r"^cli = \[$", read("pyproject.toml"), flags=re.MULTILINE)
