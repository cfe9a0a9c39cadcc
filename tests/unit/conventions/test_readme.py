"""What the README shows can be applied as it stands, but for the digest that everybody has to make."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.base import ApiModel
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.names import API_VERSION
from npc_operator.api.npcregion import NPCRegionSpec
from tests.unit.conventions.pages import ROOT, read

PAGE = read("README.md")
SPECS: dict[str, type[ApiModel]] = {
    "NPCRegion": NPCRegionSpec,
    "GpuTier": GpuTierSpec,
    "ArchetypeAdapter": ArchetypeAdapterSpec,
}
SNIPPETS: list[dict[str, Any]] = [
    yaml.safe_load(block.replace("sha256:…", "sha256:" + "a" * 64))
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
]


def test_each_kind_is_shown_once() -> None:
    assert sorted(snippet["kind"] for snippet in SNIPPETS) == sorted(SPECS)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet["kind"])
def test_a_snippet_is_an_object_of_its_kind_without_an_unknown_field(snippet: dict[str, Any]) -> None:
    assert snippet["apiVersion"] == API_VERSION
    parsed = SPECS[snippet["kind"]].model_validate(snippet["spec"])
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == snippet["spec"]


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", read("Makefile"), flags=re.MULTILINE))
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for words in re.findall(r"(?:`|^)make ([a-z -]+?)(?:`| {2,}|$)", page.read_text(encoding="utf-8"), flags=re.M):
            assert set(words.split()) <= targets, f"{page.name}: make {words}"
