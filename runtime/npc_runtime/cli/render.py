"""An answer as text: a table, JSON or YAML. Plain without a terminal, so that it can be pasted anywhere."""

from __future__ import annotations

import json

from .answers import Answer, Block, Lines, Table
from .tables import paint, table_text


def render(answer: Answer, *, form: str, colours: bool, width: int = 0) -> str:
    """The answer in the form `table`, `json` or `yaml`, ending with a newline. `width` is the terminal's, 0 without."""
    if form == "json":
        return json.dumps(answer.data, indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml  # only where it is asked for: it costs more than the rest of a small command

        text: str = yaml.safe_dump(answer.data, sort_keys=False, allow_unicode=True, width=120)
        return text
    return "\n".join(_block(block, colours=colours, width=width) for block in answer.blocks)


def wants_colours(*, terminal: bool, environment: dict[str, str]) -> bool:
    """Colours only on a terminal that can show them and whose owner has not set NO_COLOR (no-color.org)."""
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")


def _block(block: Block, *, colours: bool, width: int) -> str:
    match block:
        case Lines():
            return "".join("".join(paint(cell, colours=colours) for cell in line) + "\n" for line in block.lines)
        case Table():
            return table_text(block, colours=colours, width=width)
