"""A table is never torn apart by a terminal that is too narrow for it."""

from __future__ import annotations

import pytest

from npc_runtime.cli.answers import Cell, Table, Tone
from npc_runtime.cli.tables import table_text

TABLE = Table(
    "Tiers",
    ("NAME", "READY", "PODS", "MESSAGE"),
    (
        (Cell("gold"), Cell("True", Tone.GOOD), Cell("1/1"), Cell("")),
        (Cell("silver"), Cell("False", Tone.BAD), Cell("0/3"), Cell("no node has enough room for it")),
    ),
)


def test_a_table_that_fits_is_one_grid() -> None:
    shown = table_text(TABLE, colours=False, width=60)
    assert shown == table_text(TABLE, colours=False)
    assert shown.splitlines()[2:] == [
        "gold     True    1/1",
        "silver   False   0/3    no node has enough room for it",
    ]


def test_where_there_is_no_room_for_sentences_they_go_below_their_rows() -> None:
    assert table_text(TABLE, colours=False, width=40).splitlines() == [
        "Tiers",
        "NAME     READY   PODS",
        "gold     True    1/1",
        "silver   False   0/3",
        "  MESSAGE: no node has enough room for it",
    ]


def test_where_there_is_no_room_for_columns_each_row_is_told_by_itself() -> None:
    assert table_text(TABLE, colours=False, width=20).splitlines() == [
        "Tiers",
        "gold",
        "  READY: True",
        "  PODS: 1/1",
        "silver",
        "  READY: False",
        "  PODS: 0/3",
        "  MESSAGE: no node has enough room for it",
    ]


@pytest.mark.parametrize("width", range(1, 80))
def test_no_cell_is_lost_at_any_width_and_colours_take_no_room(width: int) -> None:
    shown = table_text(TABLE, colours=False, width=width)
    for row in TABLE.rows:
        for cell in row:
            assert cell.text in shown
    bare = table_text(TABLE, colours=True, width=width)
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        bare = bare.replace(code, "")
    assert bare == shown
