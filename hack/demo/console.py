"""What the demo prints: plain lines with the time since the start, readable in a terminal, a log and a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

_BOLD, _PLAIN = "\033[1m", "\033[0m"


class Console:
    """Lines on standard output; headings are bold on a terminal, and nothing else is ever coloured."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._began = time.monotonic()
        self._bold = out.isatty()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def step(self, title: str) -> None:
        """A heading: what begins now."""
        line = f"[{self.elapsed:6.1f} s] {title}"
        self._print("")
        self._print(f"{_BOLD}{line}{_PLAIN}" if self._bold else line)

    def say(self, line: str) -> None:
        """One line of news."""
        self._print(f"[{self.elapsed:6.1f} s]   {line}")

    def text(self, text: str) -> None:
        """Something printed as it is, such as a command's output."""
        for line in text.rstrip("\n").splitlines():
            self._print(f"    {line}".rstrip())

    def command(self, line: str) -> None:
        """A command that a person could type now."""
        self._print(f"    $ {line}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as they must be."""
        self.text(table(head, rows))

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )
