"""What the pages about spot nodes draw, show and say of times is what the code does."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, get_args

import pytest
import yaml

from hack.bench.spot_cells import cells
from npc_operator.api.capacity import CapacityMode
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.domain.interruption.joining import SCHEDULED_LEAD_SECONDS
from npc_operator.domain.interruption.machine import ROUTE_MARGIN_SECONDS, decide_interruption
from npc_operator.domain.interruption.notices import PATIENCE_SECONDS, Kind, Notice, Source
from npc_operator.domain.interruption.rebalance import REPLACEMENT_SECONDS
from npc_operator.domain.interruption.record import Record
from npc_operator.domain.interruption.wishes import PodInterruption
from npc_operator.domain.nodepools.finalizer import REMOVAL_SECONDS
from tests.unit.conventions.pages import chapter, read

SPOT = read("docs/spot.md")
PAGES = ("docs/spot.md", "docs/node-pools.md", "docs/clouds/aws.md", "docs/clouds/azure.md", "docs/clouds/gcp.md")
BARE = {"quality": "Gold", "model": {"uri": "hf://a/b", "parametersMillions": 1}}


def tiers() -> list[tuple[str, dict[str, Any]]]:
    """Parts of GpuTiers that the pages show."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", read(page), flags=re.DOTALL):
            shown = yaml.safe_load(block)
            if shown.get("kind", "GpuTier") == "GpuTier":
                found.append((page, shown["spec"]))
    return found


@pytest.mark.parametrize(("page", "spec"), tiers(), ids=lambda one: one if isinstance(one, str) else "")
def test_what_a_page_shows_of_a_tier_is_understood(page: str, spec: dict[str, Any]) -> None:
    parsed = GpuTierSpec.model_validate({**BARE, **spec})
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == {**BARE, **spec}


def test_each_page_but_the_one_of_node_classes_shows_a_tier() -> None:
    assert {page for page, _ in tiers()} == set(PAGES) - {"docs/clouds/aws.md"}


def drawn_edges(heading: str) -> set[tuple[str, str]]:
    drawn = re.search(r"```mermaid\n(.*?)```", chapter(SPOT, heading), flags=re.DOTALL)
    assert drawn is not None
    return set(re.findall(r"^ +(\S+) --> (\[\*\]|\w+)", drawn[1], flags=re.MULTILINE))


def test_the_drawing_of_capacity_has_every_mode_and_no_other() -> None:
    assert {state for edge in drawn_edges("Fallback and return") for state in edge} == set(get_args(CapacityMode))


NOW = 1_700_000_000.0
RECORDS = {
    "Noticed": {},
    "Unrouted": {"unrouted": NOW - 5},
    "Drained": {"unrouted": NOW - 5, "drained": NOW - 2},
    "Evicted": {"unrouted": NOW - 5, "drained": NOW - 2, "evicted": NOW - 1},
}


def state(record: Record) -> str:
    return next(
        (name for name, at in (("Evicted", record.evicted), ("Drained", record.drained)) if at is not None),
        "Noticed" if record.unrouted is None else "Unrouted",
    )


def moves(before: Record, after: Record | None) -> set[tuple[str, str]]:
    """Along the drawing: who has no time left goes several ways in one look."""
    if after is None:
        return {(state(before), "[*]")}
    way = [state(before)]
    if before.unrouted is None and after.unrouted is not None:
        way.append("Unrouted")
    way.append(state(replace(after, evicted=before.evicted)))
    way.append(state(after))
    return {(one, other) for one, other in pairwise(way) if one != other}


def test_the_drawing_of_an_interruption_is_what_is_decided() -> None:
    """Every pod under every kind of notice, in every state, whatever is true around it."""
    found = {("[*]", "Noticed"), ("Evicted", "[*]")}
    truths = product((False, True), repeat=5)
    for (others, covered, ready, closed, deleting), kind, left, lines, said in product(
        truths, Kind, (90.0, 10.0, -1.0), (None, 0, 1), (True, False)
    ):
        for times in RECORDS.values():
            notice = Notice(
                source=Source.KUBERNETES,
                kind=kind,
                node="n",
                instance=None,
                pod_uid=None,
                seen=NOW - 30,
                deadline=NOW + left,
            )
            record = Record(kind=kind, since=NOW - 30, deadline=NOW + left, replaced=NOW - 29, **times)
            facts = PodInterruption(
                notices=(notice,) if said else (),
                known=True,
                record=record,
                deleting=deleting,
                node_closed=closed,
                others_can_take=others,
                covered=covered,
                lines=lines,
                replacement_ready=ready,
                rebalance_at=NOW,
            )
            found |= moves(record, decide_interruption(facts, NOW).record)
    assert found == drawn_edges("From the notice to the end")


@pytest.mark.parametrize(
    ("page", "words", "seconds"),
    [
        ("docs/spot.md", r"or (\d+) s are left$", ROUTE_MARGIN_SECONDS),
        ("docs/spot.md", r"says \*draining\* to gateways (\d+) s before the end", ROUTE_MARGIN_SECONDS),
        ("docs/spot.md", r"after (\d+) minutes without any replacement", PATIENCE_SECONDS / 60),
        ("docs/spot.md", r"Scheduled \| nothing until (ten) minutes before", SCHEDULED_LEAD_SECONDS / 60),
        ("docs/spot.md", r"at most one per node in (ten) minutes", REPLACEMENT_SECONDS / 60),
        ("docs/node-pools.md", r"After (\d+) minutes of trying the finalizer goes", REMOVAL_SECONDS / 60),
    ],
)
def test_a_time_is_that_of_the_code(page: str, words: str, seconds: float) -> None:
    found = re.search(words, read(page), flags=re.MULTILINE)
    assert found is not None, words
    assert (10.0 if found[1] == "ten" else float(found[1])) == seconds


@pytest.mark.parametrize("page", ["docs/spot.md", "docs/clouds/aws.md"])
def test_what_the_agents_question_costs_is_said_where_it_is_switched_on(page: str) -> None:
    """A pod cannot reach the service at hop limit 1, and whoever raises it opens the credentials of the node's role."""
    said = next(part for part in read(page).split("\n#") if "interruption.agentMetadata" in part and "limit" in part)
    assert re.search(r"hop limit", said)
    assert re.search(r"credentials of the node's role", said)


def test_removing_a_node_pool_is_said_to_drain_its_nodes() -> None:
    assert "drains" in chapter(read("docs/node-pools.md"), "Removing")


def test_every_cell_of_the_spot_market_is_printed() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) s \| (\d+) h \| ([^|]+) \|", read("docs/benchmarks.md"), flags=re.MULTILINE)
    wanted = []
    for cell in cells():
        outages = ("yes" if cell.outages else "no") + ("" if cell.notice == 120 else f", notice {cell.notice:.0f} s")
        wanted.append((str(cell.replicas), f"{cell.engine_start:.0f}", f"{cell.life_hours:.0f}", outages))
    assert rows == wanted
