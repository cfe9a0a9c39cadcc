"""Where commands write and ask. Answers go to standard output, everything about them to standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from .answers import Answer
from .render import clean, render

CLEAR = "\x1b[H\x1b[2J"


@dataclass(frozen=True, slots=True)
class Console:
    """The three streams and how answers are to look."""

    out: TextIO
    err: TextIO
    inp: TextIO
    form: str = "table"
    colours: bool = False

    def show(self, answer: Answer) -> None:
        self.out.write(render(answer, form=self.form, colours=self.colours))
        self.out.flush()

    def piece(self, text: str) -> None:
        """A piece of streamed text, at once; line breaks stay, other control characters do not."""
        self.out.write("\n".join(clean(line) for line in text.split("\n")))
        self.out.flush()

    def raw(self, text: str) -> None:
        """Text that is ours as it is: scripts."""
        self.out.write(text)
        self.out.flush()

    def note(self, text: str) -> None:
        self.err.write(clean(text) + "\n")
        self.err.flush()

    def is_terminal(self) -> bool:
        return self.out.isatty()

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
