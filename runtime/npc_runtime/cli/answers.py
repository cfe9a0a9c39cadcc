"""What a command answers: data for programs, and the same as text for people; how it is written is `render`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Code(IntEnum):
    """Exit codes, as docs/kubectl-npc.md documents them."""

    FINE = 0
    NOT_AS_WANTED = 1
    USAGE = 2
    FORBIDDEN = 3
    NOT_FOUND = 4
    NO_CLUSTER = 5
    NOT_REACHED = 6
    NO_LINE = 7
    DECLINED = 8
    REFUSED = 9
    INTERRUPTED = 130


class Tone(StrEnum):
    """How something is meant; a terminal may show it in colour, the words say it without."""

    PLAIN = "plain"
    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"
    FAINT = "faint"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of text with its tone."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; an empty table says `empty` instead."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "none"


@dataclass(frozen=True, slots=True)
class Lines:
    """Text in lines, each made of pieces."""

    lines: tuple[tuple[Cell, ...], ...]


Block = Table | Lines
Data = Mapping[str, object] | Sequence[object]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    data: Data
    blocks: tuple[Block, ...]
    code: Code = Code.FINE


def line(*pieces: str | Cell) -> tuple[Cell, ...]:
    """One line of text."""
    return tuple(piece if isinstance(piece, Cell) else Cell(piece) for piece in pieces)


def text(*lines: str) -> Lines:
    """Plain lines."""
    return Lines(tuple(line(one) for one in lines))


def tone_of(ready: str) -> Tone:
    """The tone of a condition's status."""
    return {"True": Tone.GOOD, "False": Tone.BAD}.get(ready, Tone.BUSY)
