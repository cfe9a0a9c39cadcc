"""docs/kubectl-npc.md names every command, exit code and reason, and shows what is really printed."""

from __future__ import annotations

import re
from pathlib import Path

from npc_runtime.cli.answers import Code
from npc_runtime.cli.catalog import COMMANDS
from npc_runtime.cli.changes.rolling_back import plan_rollback
from npc_runtime.cli.explain.advice import AGENTS, OBJECTS
from npc_runtime.cli.parse_voices import parse_adapter
from npc_runtime.cli.render import render
from npc_runtime.cli.views.changes import view_plan
from npc_runtime.cli.views.history import view_history
from tests.unit.cli.moving_faults import taken_back, voice
from tests.unit.cli.named import FAULTS
from tests.unit.cli.test_history import written
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
    source += read("runtime/npc_runtime/cli/explain/degraded.py") + read("runtime/npc_runtime/cli/explain/machines.py")
    for word in told:
        assert re.search(rf'"{word}"', source), word


def test_the_image_and_the_package_say_how_to_get_it() -> None:
    assert "pip install '.[cli]'" in PAGE
    assert re.search(r"^cli = \[$", read("pyproject.toml"), flags=re.MULTILINE)


def shown(heading: str, command: str) -> str:
    """What a chapter shows below a command, as it stands there."""
    found = re.search(rf"\$ {re.escape(command)}\n(.*?)```", chapter(PAGE, heading), flags=re.DOTALL)
    assert found is not None, command
    return found.group(1)


def test_the_examples_are_what_the_commands_print() -> None:
    rolled_back = (Path(__file__).parent / "golden" / "candidate-errors.txt").read_text(encoding="utf-8")
    degraded = (Path(__file__).parent / "golden" / "heard-from-another-tier.txt").read_text(encoding="utf-8")
    assert shown("Degraded voices", "kubectl npc why vampire") == degraded.partition("\n")[2]
    going = (Path(__file__).parent / "golden" / "nodes-that-go.txt").read_text(encoding="utf-8")
    assert going in chapter(PAGE, "Nodes that go")
    assert shown("Why", "kubectl npc why vampire") == rolled_back.partition("\n")[2]
    history = render(view_history(parse_adapter(written()), tier="gold"), form="table", colours=False)
    assert shown("History", "kubectl npc history vampire --tier gold") == history
    manifest = voice(taken_back("CandidateErrors", "x"))
    manifest["status"]["variants"][0]["stable"]["rank"] = 8
    plan = plan_rollback(manifest, parse_adapter(manifest), tier="", to="")
    said = render(view_plan(plan, dry_run=False), form="table", colours=False)
    assert shown("Changing things", "kubectl npc rollback vampire") == said
