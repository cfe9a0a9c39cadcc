"""Where sentences end in a text of which more may come. Pure.

An end that is missed only makes a listener wait for the next one; so what is doubtful (a title, an initial, a point
with nothing after it yet) is no end.
"""

from __future__ import annotations

import re
from typing import Final

_CLOSERS: Final = r"[\"'\u2019\u201d\u00bb)\]*_]*"
_IDEOGRAPHIC: Final = r"[\u3002\uff01\uff1f]+[\u300d\u300f\u2019\u201d\uff09]*"
_ENDS: Final = re.compile(
    # What closes a sentence, what may close around it, and then space; ideographic stops need none.
    rf"[.!?\u2026]+{_CLOSERS}(?=\s)|{_IDEOGRAPHIC}"
    # The end of a line, before the space at it.
    r"|(?<=\S)(?=[ \t]*\n)"
)
_ABBREVIATED: Final = re.compile(
    r"(?:^|[\s(\"'\u2018\u201c*])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Sr|Jr|Prof|Capt|Sgt|Lt|vs|e\.g|i\.e)\.$"
)


def last_end(text: str) -> int:
    """Characters of `text` up to the end of its last whole sentence, the space after it left out; 0 if none ended."""
    found = 0
    for match in _ENDS.finditer(text):
        end = match.end()
        if text[end - 1] != "." or _ABBREVIATED.search(text, 0, end) is None:
            found = end
    return found
