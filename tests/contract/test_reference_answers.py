"""A real vLLM gives the reference answers, by the margin that was promised for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.models.adapters import ADAPTERS
from hack.models.base import DEFAULT_BASE
from hack.models.catalog import Catalog, make_catalog
from hack.models.hostile import HOSTILE
from hack.models.margins import MARGIN, MAX_TOKENS, PROMPTS, reference_answers
from hack.models.reference import LoneEngine, LoneEngineError

pytestmark = pytest.mark.timeout(900)

NOISE = 0.01
"""Logits by which the engine's account of a margin may differ from ours; ten times what was seen."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine(catalog: Catalog) -> Iterator[LoneEngine]:
    with LoneEngine(catalog.base) as engine:
        yield engine


@pytest.mark.parametrize("name", ["base", *(adapter.name for adapter in ADAPTERS)])
def test_every_model_gives_its_reference_answers_and_leads_by_the_margin(
    engine: LoneEngine, catalog: Catalog, name: str
) -> None:
    if name != "base":
        engine.load(name, catalog.adapter(name))
    for prompt in PROMPTS:
        assert engine.ask(name, prompt) == reference_answers()[name][prompt]
        assert engine.lead(name, prompt, max_tokens=MAX_TOKENS) >= MARGIN - NOISE


def test_an_adapter_that_the_engine_refuses_is_an_error_with_its_words(
    engine: LoneEngine, catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(LoneEngineError, match="rank 64 is greater than max_lora_rank 16"):
        engine.load("high", HOSTILE["rank-above"].make(tmp_path / "high", DEFAULT_BASE))
    with pytest.raises(LoneEngineError, match="404"):
        engine.ask("high", PROMPTS[0])


def test_an_engine_that_cannot_start_says_why_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoneEngineError, match="ended while it started"), LoneEngine(tmp_path):
        pass
