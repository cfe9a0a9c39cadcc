"""docs/operations.md explains every word that users can meet, and no word that they cannot."""

from __future__ import annotations

import re

import pytest

from npc_operator.api import names
from npc_operator.domain.rotation import ANNOTATIONS
from tests.unit.conventions.pages import chapter, codes, read, tables
from tests.unit.conventions.test_metrics import FAMILIES
from tests.unit.conventions.vocabulary import agent_reasons, condition_reasons, event_reasons, gateway_reasons

PAGE = read("docs/operations.md")


def first_column(heading: str, column: str) -> list[str]:
    """The words that the one table right below a heading explains."""
    table = next(tables(chapter(PAGE, heading)))
    found = []
    for row in table:
        (word,) = codes(row[column])
        assert all(row.values()) or heading in ("Operator", "Agent", "Gateway"), word
        found.append(word)
    assert len(found) == len(set(found))
    return found


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Reasons of objects", condition_reasons()),
        ("Reasons of adapters on pods", agent_reasons()),
        ("Events", event_reasons()),
        ("Failed lines", gateway_reasons()),
    ],
)
def test_every_reason_is_explained_and_none_that_does_not_exist(heading: str, words: set[str]) -> None:
    assert set(first_column(heading, "reason")) == words


@pytest.mark.parametrize("process", ["Operator", "Agent", "Gateway"])
def test_every_metric_is_explained_with_its_labels_and_none_that_does_not_exist(process: str) -> None:
    suffix = {"counter": "_total", "info": "_info"}
    known = {
        family.name + suffix.get(family.type, ""): sorted(
            {label for sample in family.samples for label in sample.labels} - {"le"}
        )
        for family in FAMILIES
        if family.name.startswith(f"npc_{process.lower()}")
    }
    told = {codes(row["metric"])[0]: row["labels"] for row in next(tables(chapter(PAGE, process)))}
    assert set(told) == set(known)
    for name, labels in told.items():
        assert sorted(filter(None, labels.split(", "))) == known[name], name


def test_every_metric_named_anywhere_exists() -> None:
    known = {family.name for family in FAMILIES}
    for name in re.findall(r"npc_(?:operator|agent|gateway)_[a-z_]+", PAGE):
        assert name in known or re.sub(r"_(total|info)$", "", name) in known, name


def test_every_rotation_is_shown_with_its_annotation() -> None:
    rotation = chapter(PAGE, "Rotation")
    for annotation in ANNOTATIONS.values():
        assert f"kubectl annotate npcr eu-west {annotation}=$(date +%s) --overwrite" in rotation
    for secret in (names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY):
        assert f"`{secret}`" in chapter(PAGE, "Keys, tokens and certificates")


def test_uninstalling_is_described_from_the_regions_to_the_crds() -> None:
    commands = re.findall(r"^(?:helm|kubectl) (.*?)(?: +#.*)?$", chapter(PAGE, "Uninstall"), flags=re.MULTILINE)
    assert [command.split(" -n ")[0] for command in commands] == [
        "uninstall eu-west",
        "delete namespace eu-west",
        "uninstall npc-operator",
        "uninstall npc-crds",
        "delete crd " + " ".join(f"{plural}.{names.GROUP}" for plural in names.PLURALS.values()),
        "delete namespace npc-system",
    ]


def test_links_within_the_page_lead_to_a_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if re.match(r"#+ ", line)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert anchor in headings, anchor
