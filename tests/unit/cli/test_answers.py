"""How answers look: plain where nobody watches, the same data in every form, nothing that a terminal would obey."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

from npc_runtime.cli.answers import Answer, Cell, Code, Table, Tone, text
from npc_runtime.cli.arguments import build_parser, command_first
from npc_runtime.cli.catalog import COMMANDS, Command
from npc_runtime.cli.completion import SCRIPTS, answer_shell
from npc_runtime.cli.render import render, wants_colours
from npc_runtime.cli.views.status import view_status
from tests.unit.cli import objects as o
from tests.unit.cli.faults import FAULTS, healthy

ANSWER = Answer({"a": [1, "zwei"]}, (Table("", ("NAME", "READY"), ((Cell("gold"), Cell("True", Tone.GOOD)),)),))


def test_colours_change_nothing_but_the_colours() -> None:
    plain, coloured = (render(ANSWER, form="table", colours=colours) for colours in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[32mTrue\x1b[0m" in coloured


def test_data_are_the_same_in_json_and_yaml() -> None:
    assert json.loads(render(ANSWER, form="json", colours=True)) == ANSWER.data
    assert yaml.safe_load(render(ANSWER, form="yaml", colours=True)) == ANSWER.data


def test_control_characters_of_strangers_never_reach_a_terminal() -> None:
    shown = render(Answer({}, (text("a\x1b[2Jb\x07c\rd"),)), form="table", colours=True)
    assert not set(shown) & {"\x1b", "\x07", "\r"}


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_did_not_refuse_them(
    terminal: bool, environment: dict[str, str], wanted: bool
) -> None:
    assert wants_colours(terminal=terminal, environment=environment) is wanted


def test_status_shows_regions_tiers_and_adapters_and_what_needs_a_person() -> None:
    shown = render(view_status((FAULTS["rank-too-high"]().world,), now=o.NOW), form="table", colours=False)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "eu-west True Serving 1/1 2/2 1 100 5m" in lines
    assert "gold Gold True Serving 1/1 1/1 5m" in lines
    (adapter,) = [line for line in lines if line.startswith("vampire")]
    assert adapter.startswith(f"vampire True RankTooHigh 1/1 {o.OLD[7:19]} 5m tier gold: pod")


def test_status_tells_of_a_ready_tier_what_stands_in_and_which_pods_go() -> None:
    status = {"capacity": {"mode": "Storm", "message": "Everything is on demand."}, "interruptions": {"pods": 2}}
    answer = view_status((healthy(tiers=[o.tier(status=o.conditions() | status)]),), now=o.NOW)
    shown = render(answer, form="table", colours=False)
    assert "Storm: Everything is on demand; Nodes of 2 of its pods go or may go" in shown
    assert isinstance(answer.data, dict)
    (tier,) = answer.data["tiers"]
    assert (tier["capacityMode"], tier["interruptedPods"]) == ("Storm", 2)


def test_status_begins_with_an_operator_that_is_away() -> None:
    shown = render(view_status((healthy(election=None),), now=o.NOW), form="table", colours=False)
    assert shown.startswith("! operator: OperatorAbsent:")


def test_status_of_several_namespaces_names_them() -> None:
    other = o.world(regions=[o.region("us-east")], election=o.lease())
    shown = render(view_status((healthy(), other), now=o.NOW), form="table", colours=False)
    assert shown.splitlines()[1].startswith("NAMESPACE")


def test_of_many_adapters_those_that_need_somebody_come_first_and_programs_get_them_as_they_are() -> None:
    names = [f"voice-{number}" for number in range(9)]
    bad = o.adapter("zombie", status=o.conditions(False, ("ProbeMismatch", "it said something else")))
    answer = view_status((healthy(adapters=[*map(o.adapter, names), bad]),), now=o.NOW)
    shown = render(answer, form="table", colours=False).partition("Adapters\n")[2].splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["zombie", *names]
    assert isinstance(answer.data, dict)
    assert [one["name"] for one in answer.data["adapters"]] == [*names, "zombie"]


@pytest.mark.parametrize("command", [one.name for one in COMMANDS])
def test_help_of_a_command_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "examples:\n" in said
    assert "exit codes:" in said
    for code in Code:
        assert f"\n  {code:<4} " in said


@pytest.mark.parametrize("one", COMMANDS, ids=lambda one: one.name)
def test_examples_are_understood_by_the_parser(one: Command) -> None:
    for example in one.examples:
        words = shlex.split(example.replace("source <(", "").rstrip(")").partition(" |")[0])
        words = words[1:] if words[0] == "kubectl-npc" else words[2:]
        assert build_parser().parse_args(words).command == words[0]


def test_every_command_but_completion_answers_programs() -> None:
    for one in COMMANDS:
        example = shlex.split(one.examples[0].replace("source <(", "").rstrip(")"))
        words = example[example.index(one.name) :]
        for form in ("json", "yaml"):
            if one.name != "completion":
                assert build_parser().parse_args([*words, "-o", form]).output == form


def test_options_may_stand_before_the_command() -> None:
    assert command_first(["-n", "status", "-o", "json", "status", "-w"]) == [
        "status",
        "-n",
        "status",
        "-o",
        "json",
        "-w",
    ]
    assert command_first(["--namespace=x", "why", "gold"]) == ["why", "--namespace=x", "gold"]
    assert command_first(["nonsense", "why"]) == ["nonsense", "why"]
    assert command_first(["--help"]) == ["--help"]


@pytest.mark.parametrize(
    "words",
    [
        ["say", "vampire"],
        ["drill", "moon"],
        ["status", "--every", "0"],
        ["status", "--every", "nan"],
        ["why", "--request-timeout", "x"],
        ["why", "a", "b"],
    ],
)
def test_a_senseless_command_line_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(words)
    assert ended.value.code == Code.USAGE
    assert "usage: kubectl npc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["d"], "diff\ndigest\ndrill\ndump\n:4\n"),
        (["drill", ""], "engine\nleader\npod\n:4\n"),
        (["why", "--con"], "--context\n:4\n"),
        (["status", "-o", "j"], "json\n:4\n"),
        (["completion", "z"], "zsh\n:4\n"),
        (["lint", ""], ":0\n"),
        (["ro"], "rollback\n:4\n"),
        (["re"], "resume\n:4\n"),
        (["rollback", "vampire", "--t"], "--tier\n--to\n:4\n"),
        (["quarantine", "0a1b2c3d4e5f", "--re"], "--region\n--remove\n--request-timeout\n:4\n"),
        (["pause", "vampire", "-o", "y"], "yaml\n:4\n"),
        ([""], None),
    ],
)
def test_a_shell_gets_what_may_follow(words: list[str], answer: str | None) -> None:
    found = answer_shell(words)
    if answer is None:
        assert found.splitlines()[:-1] == sorted(one.name for one in COMMANDS)
    else:
        assert sorted(found.splitlines()) == sorted(answer.splitlines())


def test_there_is_a_script_for_each_shell() -> None:
    for script in SCRIPTS.values():
        assert "kubectl-npc __complete" in script
