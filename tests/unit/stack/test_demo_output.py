"""What the demo prints: plain text in a pipe, columns that line up, a load that is mostly about whom it is about."""

from __future__ import annotations

import io
import re

from hack.demo.acts import every_ask, mostly
from hack.demo.console import Console, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(out: io.StringIO) -> str:
    console = Console(out)
    console.step("An engine is killed")
    console.say("it is back")
    console.command("kubectl get npc")
    console.text("one\n\ntwo\n")
    return out.getvalue()


def test_a_pipe_gets_no_control_characters() -> None:
    assert "\033" not in printed(io.StringIO())
    assert "\033[1m" in printed(Terminal())


def test_every_step_and_news_has_the_time_since_the_start() -> None:
    lines = printed(io.StringIO()).splitlines()
    assert re.fullmatch(r"\[ +\d+\.\d s\] An engine is killed", lines[1])
    assert re.fullmatch(r"\[ +\d+\.\d s\]   it is back", lines[2])
    assert lines[3:] == ["    $ kubectl get npc", "    one", "", "    two"]


def test_columns_are_as_wide_as_they_must_be_and_lines_end_clean() -> None:
    text = table(("who", "what"), [("vampire", "blood"), ("z", "")])
    assert text.splitlines() == ["who      what", "vampire  blood", "z"]


def test_everybody_is_asked_on_every_tier() -> None:
    asked = [(ask.archetype, ask.tier) for ask in every_ask(("vampire", "zombie"), ("gold", "bronze"))]
    assert sorted(asked) == [("vampire", "bronze"), ("vampire", "gold"), ("zombie", "bronze"), ("zombie", "gold")]


def test_every_second_line_is_the_swapped_voices_and_all_its_tiers_have_their_turn() -> None:
    asks = mostly("vampire", every_ask(("vampire", "zombie", "merchant"), ("gold", "silver", "bronze")))
    assert [ask.archetype == "vampire" for ask in asks] == [True, False] * 6
    assert {ask.tier for ask in asks if ask.archetype == "vampire"} == {"gold", "silver", "bronze"}
    assert {ask.archetype for ask in asks} == {"vampire", "zombie", "merchant"}
