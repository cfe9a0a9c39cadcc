"""An answer as text: a table, JSON or YAML. Plain without a terminal, so that it can be pasted anywhere."""

from __future__ import annotations

import json

from .answers import Answer, Block, Cell, Lines, Table, Tone

_COLOURS = {
    Tone.GOOD: "\x1b[32m",
    Tone.BUSY: "\x1b[33m",
    Tone.BAD: "\x1b[31m",
    Tone.FAINT: "\x1b[2m",
    Tone.HEAD: "\x1b[1m",
}
_PLAIN = "\x1b[0m"
_GAP = "   "


def render(answer: Answer, *, form: str, colours: bool) -> str:
    """The answer in the form `table`, `json` or `yaml`, ending with a newline."""
    if form == "json":
        return json.dumps(answer.data, indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml  # only where it is asked for: it costs more than the rest of a small command

        text: str = yaml.safe_dump(answer.data, sort_keys=False, allow_unicode=True, width=120)
        return text
    return "\n".join(_block(block, colours=colours) for block in answer.blocks)


def wants_colours(*, terminal: bool, environment: dict[str, str]) -> bool:
    """Colours only on a terminal that can show them and whose owner has not set NO_COLOR (no-color.org)."""
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")


def _block(block: Block, *, colours: bool) -> str:
    match block:
        case Lines():
            return "".join("".join(_paint(cell, colours=colours) for cell in line) + "\n" for line in block.lines)
        case Table():
            return _table(block, colours=colours)


def _table(table: Table, *, colours: bool) -> str:
    title = _paint(Cell(table.title, Tone.HEAD), colours=colours) + "\n" if table.title else ""
    if not table.rows:
        return f"{title}{table.empty}\n"
    head = tuple(Cell(name, Tone.FAINT) for name in table.columns)
    rows = (head, *table.rows)
    widths = [max(len(clean(row[index].text)) for row in rows) for index in range(len(table.columns))]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            last = index == len(widths) - 1
            pad = "" if last else " " * (width - len(clean(cell.text)))
            cells.append(_paint(cell, colours=colours) + pad)
        lines.append(_GAP.join(cells).rstrip() + "\n")
    return title + "".join(lines)


def _paint(cell: Cell, *, colours: bool) -> str:
    plain = clean(cell.text)
    colour = _COLOURS.get(cell.tone, "") if colours else ""
    return f"{colour}{plain}{_PLAIN}" if colour and plain else plain


def clean(text: str) -> str:
    """`text` without control characters: messages quote strangers, and a terminal obeys what it is sent."""
    return "".join(char if char.isprintable() else "�" for char in text)
