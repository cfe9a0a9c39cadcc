"""Cells and tables as text of a given width.

Piped output is never cut or wrapped: whoever reads it may have any width. On a terminal a table that is too wide would
be torn apart line by line, so its sentences go below their rows, and if that is not enough each row is told on lines of
its own. Commands and sentences are left to the terminal to wrap, because only then can they be copied whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from .answers import Cell, Table, Tone

_COLOURS = {
    Tone.GOOD: "\x1b[32m",
    Tone.BUSY: "\x1b[33m",
    Tone.BAD: "\x1b[31m",
    Tone.FAINT: "\x1b[2m",
    Tone.HEAD: "\x1b[1m",
}
_PLAIN = "\x1b[0m"
_GAP = "   "
_INDENT = "  "

Row = tuple[Cell, ...]


def clean(text: str) -> str:
    """`text` without control characters: messages quote strangers, and a terminal obeys what it is sent."""
    return "".join(char if char.isprintable() else "�" for char in text)


def paint(cell: Cell, *, colours: bool) -> str:
    """One cell, in its tone's colour where there are colours."""
    plain = clean(cell.text)
    colour = _COLOURS.get(cell.tone, "") if colours else ""
    return f"{colour}{plain}{_PLAIN}" if colour and plain else plain


def table_text(table: Table, *, colours: bool, width: int = 0) -> str:
    """A table, ending with a newline. `width` is that of the terminal in characters; 0 for no limit."""
    title = paint(Cell(table.title, Tone.HEAD), colours=colours) + "\n" if table.title else ""
    if not table.rows:
        return f"{title}{table.empty}\n"
    if not width or _width(table.columns, table.rows) <= width:
        return title + _grid(table.columns, table.rows, colours=colours)
    last, shorter = table.columns[-1], [row[:-1] for row in table.rows]
    if len(table.columns) > 2 and _width(table.columns[:-1], shorter) <= width:
        below = [f"{_INDENT}{last}: {paint(row[-1], colours=colours)}\n" if row[-1].text else "" for row in table.rows]
        return title + _grid(table.columns[:-1], shorter, below, colours=colours)
    return title + "".join(_record(table.columns, row, width, colours=colours) for row in table.rows)


def _widths(columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [max(len(name), *(len(clean(row[index].text)) for row in rows), 0) for index, name in enumerate(columns)]


def _width(columns: Sequence[str], rows: Sequence[Row]) -> int:
    return sum(_widths(columns, rows)) + len(_GAP) * (len(columns) - 1)


def _grid(columns: Sequence[str], rows: Sequence[Row], below: Sequence[str] = (), *, colours: bool) -> str:
    """Columns under their names; `below` is what follows each row on a line of its own."""
    head = tuple(Cell(name, Tone.FAINT) for name in columns)
    widths = _widths(columns, rows)
    lines = []
    for row, after in zip((head, *rows), ("", *below) if below else [""] * (len(rows) + 1), strict=True):
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            pad = "" if index == len(widths) - 1 else " " * (width - len(clean(cell.text)))
            cells.append(paint(cell, colours=colours) + pad)
        lines.append(_GAP.join(cells).rstrip() + "\n" + after)
    return "".join(lines)


def _record(columns: Sequence[str], row: Row, width: int, *, colours: bool) -> str:
    """One row told by itself: its first cell as a heading, then `NAME: value` as many to a line as there is room."""
    lines, used = [paint(row[0], colours=colours)], width
    for name, cell in zip(columns[1:], row[1:], strict=True):
        if not cell.text:
            continue
        long = len(name) + 2 + len(clean(cell.text))
        said = f"{name}: {paint(cell, colours=colours)}"
        if used + len(_GAP) + long > width:
            lines.append(_INDENT + said)
            used = len(_INDENT) + long
        else:
            lines[-1] += _GAP + said
            used += len(_GAP) + long
    return "".join(f"{line}\n" for line in lines)
