"""Where commands write and ask. Answers go to standard output, everything about them to standard error."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TextIO

from .answers import Answer
from .render import render
from .tables import clean

CLEAR = "\x1b[H\x1b[2J"
DOCUMENT = "---\n"
"""Between two YAML documents of one stream; JSON needs nothing."""


class ReaderGone(Exception):
    """Whoever read standard output has seen enough.

    No OSError, so that nobody who minds a broken connection to a cluster takes it for one.
    """


@dataclass(frozen=True, slots=True)
class Console:
    """The three streams and how answers are to look. What writes answers raises ReaderGone."""

    out: TextIO
    err: TextIO
    inp: TextIO
    form: str = "table"
    colours: bool = False

    def show(self, answer: Answer) -> None:
        self.raw(render(answer, form=self.form, colours=self.colours, width=self.size()[0]))

    def show_again(self, answer: Answer) -> None:
        """What is watched: in place of what was there on a terminal, after it elsewhere."""
        width, height = self.size()
        text = render(answer, form=self.form, colours=self.colours, width=width)
        if self.is_terminal() and self.form == "table":
            text = CLEAR + cut(text, height - 1)
        self.raw(DOCUMENT + text if self.form == "yaml" else text)

    def piece(self, text: str) -> None:
        """A piece of streamed text, at once; line breaks stay, other control characters do not."""
        self.raw("\n".join(clean(line) for line in text.split("\n")))

    def raw(self, text: str) -> None:
        """Text that is ours as it is: scripts."""
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:
            raise ReaderGone from None

    def note(self, text: str) -> None:
        """Something about the answer. Where nobody reads it any more the exit code still says it."""
        with contextlib.suppress(BrokenPipeError):
            self.err.write(clean(text) + "\n")
            self.err.flush()

    def is_terminal(self) -> bool:
        return self.out.isatty()

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal; (0, 0) where it is none or does not say."""
        if not self.is_terminal():
            return 0, 0
        try:
            return os.get_terminal_size(self.out.fileno())
        except OSError:
            return 0, 0

    def has_person(self) -> bool:
        """Whether somebody can be asked."""
        return self.inp.isatty()

    def ask(self, question: str) -> bool:
        """Whether a person says yes. Without a person nobody does."""
        if not self.has_person():
            return False
        self.err.write(f"{clean(question)} [y/N] ")
        self.err.flush()
        return self.inp.readline().strip().lower() in ("y", "yes")


def cut(text: str, height: int) -> str:
    """The lines of `text` that a terminal has room for, the last of them saying how many it has not. 0: no limit."""
    lines = text.splitlines(keepends=True)
    if height <= 1 or len(lines) <= height:
        return text
    hidden = len(lines) - (height - 1)
    return "".join(lines[: height - 1]) + f"... {hidden} more lines: enlarge the terminal, or look without --watch\n"
