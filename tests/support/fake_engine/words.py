"""What a voice says: words and their log-probabilities, drawn from the bytes of its adapter.

Two engines that hold the same adapter say the same, word for word; two adapters never do.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WORDS = [
    "ash",
    "bell",
    "bone",
    "brook",
    "candle",
    "castle",
    "cloak",
    "coin",
    "crow",
    "dagger",
    "dawn",
    "dusk",
    "ember",
    "feather",
    "fog",
    "forest",
    "frost",
    "gate",
    "ghost",
    "grave",
    "harp",
    "hollow",
    "iron",
    "ivy",
    "key",
    "lantern",
    "mist",
    "moon",
    "moss",
    "night",
    "oak",
    "owl",
    "path",
    "pine",
    "raven",
    "river",
    "rope",
    "rose",
    "salt",
    "shadow",
    "silver",
    "smoke",
    "snow",
    "song",
    "spire",
    "star",
    "stone",
    "storm",
    "thorn",
    "throne",
    "tide",
    "tomb",
    "tower",
    "vale",
    "veil",
    "vine",
    "wharf",
    "willow",
    "wind",
    "wine",
    "winter",
    "wolf",
    "wood",
]

BASE_VOICE = "base"
"""The voice of the base model, and of an adapter that changes nothing."""

_CHOSEN_LOGIT, _OTHER_LOGITS = 8.0, 6.0
"""The word that is said, and the bound of all others: far enough apart that it is always the likeliest."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token that could have come next."""

    number: int
    """Its place in the vocabulary."""
    token: str
    logprob: float


def answer_of(voice: str, messages: Sequence[Mapping[str, Any]], tokens: int) -> str:
    """The answer of a voice to a chat: words that follow from both; a shorter one is the beginning of a longer."""
    choices = hashlib.shake_256(f"{voice}\n{_said(messages)}".encode()).digest(tokens)
    return "".join(f" {WORDS[choice % len(WORDS)]}" for choice in choices)


def candidates_of(
    voice: str, messages: Sequence[Mapping[str, Any]], place: int, token: str, noise: Sequence[float]
) -> list[Candidate]:
    """All tokens a voice thinks of for one place of its answer, likeliest first: `token`, which it says, and every
    other word. `noise` is added to the words' logits in order (missing: none).
    """
    drawn = hashlib.shake_256(f"{voice}\n{_said(messages)}\n{place}".encode()).digest(2 * len(WORDS))
    logits = {
        f" {word}": int.from_bytes(drawn[2 * index : 2 * index + 2]) / 0xFFFF * _OTHER_LOGITS
        for index, word in enumerate(WORDS)
    }
    logits[token] = _CHOSEN_LOGIT
    for word, more in zip(logits, noise, strict=False):
        logits[word] += more
    whole = math.log(sum(math.exp(logit) for logit in logits.values()))
    found = [Candidate(_number(word), word, logit - whole) for word, logit in logits.items()]
    return sorted(found, key=lambda candidate: -candidate.logprob)


def _number(token: str) -> int:
    word = token.removeprefix(" ")
    return WORDS.index(word) if word in WORDS else len(WORDS) + zlib.crc32(token.encode())


def _said(messages: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([[message.get("role"), message.get("content")] for message in messages])
