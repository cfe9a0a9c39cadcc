"""A chain of causes as text that belongs in an incident channel."""

from __future__ import annotations

from dataclasses import asdict

from ..answers import Answer, Cell, Code, Lines, Tone, line
from ..explain.chain import Explanation, Link, how_long
from ..facts import Unread


def view_why(explanation: Explanation, *, unread: tuple[Unread, ...], now: float) -> Answer:
    """The links in their order, each with since when and what to do next."""
    verdict = Cell("serves", Tone.GOOD) if explanation.fine else Cell("does not serve as wanted", Tone.BAD)
    lines = [line(Cell(explanation.object, Tone.HEAD), " ", verdict)]
    for number, link in enumerate(explanation.links, start=1):
        lines += _link(number, link, now)
    for one in unread:
        lines.append(line(Cell(f"not looked at: {one.what}: {one.why}", Tone.FAINT)))
    data = {
        "object": explanation.object,
        "serves": explanation.fine,
        "causes": [asdict(link) for link in explanation.links],
        "notLookedAt": [{"what": one.what, "why": one.why} for one in unread],
    }
    return Answer(data, (Lines(tuple(lines)),), Code.FINE if explanation.fine else Code.NOT_AS_WANTED)


def _link(number: int, link: Link, now: float) -> list[tuple[Cell, ...]]:
    passed = how_long(link.since, now)
    since = f", for {passed} (since {link.since})" if passed else ""
    tone = Tone.GOOD if link.fine else Tone.BAD
    said = [line(f"{number}. {link.object}: ", Cell(link.reason, tone), since), line(f"   {link.says}")]
    if link.next:
        said.append(line(Cell("   next: ", Tone.FAINT), link.next))
    return said
