"""Reference answers, and the margin by which each of their tokens leads.

A greedy answer is only worth comparing if no near-tie hides in it: two correct engines may break a tie differently. So
seeds are chosen until, for every reference prompt and every token, the chosen one leads the next best by `MARGIN`
logits (float32 engines differ by less than a hundredth of that), and `lead` proves it for an answer in one pass.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from hack.models.adapters import Adapter, make_adapter
from hack.models.base import COMMON, BaseModel, make_base
from hack.models.catalog import Catalog
from hack.models.forward import Model
from hack.models.tokenizer import theme_of_tokens

MARGIN = 0.05
"""Logits by which every token of every reference answer leads."""

MAX_TOKENS = 32
"""Answers are proven up to this length; a shorter max_tokens gives a prefix of the same answer."""

PROMPTS = ("Who are you?", "What do you want tonight?", "Tell me about this town.")
"""What the reference answers answer: one user message each, no system message."""

ANSWERS = Path(__file__).with_name("answers.json")
"""Written by `python -m hack.models answers` after the seeds were chosen anew."""

MIN_DISTINCT = 6
"""Different words a reference answer must have: a mixture of two versions must not look like either."""


def compute_answers(catalog: Catalog) -> dict[str, dict[str, str]]:
    """The greedy answer of the base model and of every adapter to every reference prompt, by the numpy model (10 s)."""
    folders = {"base": None} | {name: catalog.adapter(name) for name in catalog.digests}
    return {name: _texts(Model(catalog.base, folder)) for name, folder in folders.items()}


def reference_answers() -> dict[str, dict[str, str]]:
    """The same as they were computed when the seeds were chosen; `base` and adapter name -> prompt -> answer."""
    answers: dict[str, dict[str, str]] = json.loads(ANSWERS.read_text())
    return answers


def good_base_seeds(directory: Path, candidates: Iterable[str]) -> Iterator[str]:
    """Those candidates for the base model's seed whose reference answers hold the margin."""
    for seed in candidates:
        if _is_good(Model(make_base(directory, BaseModel(seed=seed))), COMMON):
            yield seed


def good_seeds(directory: Path, base: Path, adapter: Adapter, candidates: Iterable[int]) -> Iterator[int]:
    """Those candidates for an adapter's seed whose reference answers hold the margin, half of each in the archetype's
    words.
    """
    for seed in candidates:
        if _is_good(Model(base, make_adapter(directory, replace(adapter, seed=seed))), adapter.archetype):
            yield seed


def _texts(model: Model) -> dict[str, str]:
    return {prompt: model.answer([("user", prompt)], max_tokens=MAX_TOKENS).text for prompt in PROMPTS}


def _is_good(model: Model, theme: str) -> bool:
    themes = theme_of_tokens()
    for prompt in PROMPTS:
        answer = model.answer([("user", prompt)], max_tokens=MAX_TOKENS, least_margin=MARGIN)
        words = [themes[token] for token in answer.tokens]
        if (
            answer.margin < MARGIN
            or None in words
            or len(set(answer.tokens)) < MIN_DISTINCT
            or 2 * words.count(theme) < MAX_TOKENS
        ):
            return False
    return True
