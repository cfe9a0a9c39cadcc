"""What each sender's words mean, and that no words whatever break the reading of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_operator.domain.interruption.notices import Ignored, Kind, Notice, Parsed, Source, merge
from npc_operator.domain.interruption.sources import aks, gke, karpenter, kubernetes, nth, parse_node
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.domain.interruption.sources.metadata import parse_report
from npc_runtime.wire import InterruptionReport
from tests.unit.domain.interruption.samples import FOLDER, NODE, SEEN, load, names, parse

SAMPLES = names("eventbridge", "node", "pod", "report")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_understood_as_it_says(name: str) -> None:
    sample = load(name)
    found = parse(name, sample["input"])
    notices = [item for item in found if isinstance(item, Notice)]
    ignored = {(item.source, item.reason) for item in found if isinstance(item, Ignored)}
    assert not any(isinstance(item, Ignored) and item.malformed for item in found)
    wanted = [item for item in sample["expect"] if "kind" in item]
    assert len(notices) == len(wanted)
    for notice, expected in zip(notices, wanted, strict=True):
        for field, value in expected.items():
            if field == "deadline" and value is not None:
                value = datetime.fromisoformat(value).timestamp()
            assert getattr(notice, field) == value, field
        assert notice.seen == SEEN
    for item in sample["expect"]:
        if "ignored" in item:
            assert any(reason == item["ignored"] for _, reason in ignored)


def test_every_sample_is_of_a_kind_that_is_parsed_and_said_in_the_readme() -> None:
    assert set(names("")) == set(SAMPLES) | set(names("metadata"))
    assert len(SAMPLES) > 30
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in names(""):
        assert f"`{name.split('-')[0]}" in told


def test_one_interruption_told_by_a_queue_a_handler_and_the_machine_itself_is_one() -> None:
    queue = parse_message(json.dumps(load("eventbridge-spot-interruption")["input"]), seen=SEEN)
    handler = nth.parse_node(load("node-nth-spot")["input"], seen=SEEN + 1)
    instance = "i-0b662ef9931388ba0"
    agent = parse_report(
        InterruptionReport(kind="Interruption", deadline_ms=1_785_562_921_000, source="AWS"),
        node=NODE,
        instance=instance,
        seen=SEEN + 2,
    )
    told = [item for item in (*queue, handler, agent) if isinstance(item, Notice)]
    assert len(told) == 3
    (one,) = merge(told)
    assert (one.kind, one.node, one.instance, one.seen) == (Kind.INTERRUPTION, NODE, instance, SEEN)
    assert one.deadline == 1_785_562_921.0, "the earliest of the three"


def test_machines_of_two_scale_sets_with_one_number_are_two() -> None:
    one = load("node-aks-preempt")["input"]
    other = json.loads(json.dumps(one).replace("aks-gpuspot", "aks-cpuspot"))
    told = [aks.parse_node(node, seen=SEEN) for node in (one, other)]
    assert len(merge([item for item in told if isinstance(item, Notice)])) == 2


def test_the_same_said_again_later_has_no_more_time() -> None:
    first, again = (gke.parse_node(load("node-gke-impending")["input"], seen=SEEN + after) for after in (0, 20))
    assert isinstance(first, Notice)
    assert isinstance(again, Notice)
    (one,) = merge([again, first])
    assert one.last_moment == first.last_moment == SEEN + 30


@pytest.mark.parametrize(
    ("source", "deadline", "expected"),
    [
        (Source.EVENT_BRIDGE, 100.0, 100.0),
        (Source.EVENT_BRIDGE, 900.0, 120.0),  # our clock is behind the cloud's
        (Source.EVENT_BRIDGE, -500.0, 0.0),  # or ahead of it, or the message was long on its way
        (Source.EVENT_BRIDGE, None, 120.0),
        (Source.GKE, None, 30.0),
        (Source.METADATA, 148.0, 148.0),  # Compute Engine with the longest notice there is
        (Source.METADATA, 400.0, 150.0),
    ],
)
def test_a_clock_that_disagrees_gives_no_time_that_no_cloud_gives(
    source: Source, deadline: float | None, expected: float
) -> None:
    seen = 1_000_000.0
    notice = Notice(
        source=source,
        kind=Kind.INTERRUPTION,
        node="n",
        instance=None,
        pod_uid=None,
        seen=seen,
        deadline=None if deadline is None else seen + deadline,
    )
    assert notice.last_moment == seen + expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "NotJson"),
        ("[" * 100_000, "NotJson"),
        ("[]", "NotAnEvent"),
        ('{"detail-type": "x"}', "NotAnEvent"),
        ('{"detail-type": 1, "source": "aws.ec2"}', "NotAnEvent"),
        (json.dumps({"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning"}), "NoMachine"),
        ("x" * (1 << 20) + "x", "NotText"),
        (None, "NotText"),
    ],
)
def test_what_is_no_message_is_malformed(body: object, reason: str) -> None:
    assert parse_message(body, seen=SEEN) == (Ignored(Source.EVENT_BRIDGE, reason, malformed=True),)


@pytest.mark.parametrize("status", ["Completed", "Canceled"])
def test_an_event_that_is_over_is_no_notice(status: str) -> None:
    node = load("node-aks-redeploy")["input"]
    node["status"]["conditions"][1]["message"] = f"Redeploy {status}: Sat, 01 Aug 2026 06:00:00 GMT."
    assert isinstance(aks.parse_node(node, seen=SEEN), Ignored)


def test_a_preemption_that_has_begun_leaves_no_time() -> None:
    node = load("node-aks-preempt")["input"]
    for condition in node["status"]["conditions"]:
        condition["message"] = "Preempt Started: ."
    found = aks.parse_node(node, seen=SEEN)
    assert isinstance(found, Notice)
    assert found.last_moment == SEEN


# --- no input raises ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += _paths(child, (*path, key))
    return found


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, object]:
    """A sample in which up to three fields are something else, or gone."""
    name = draw(st.sampled_from(SAMPLES))
    content = load(name)["input"]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(content)))
        if not path:
            return name, draw(JSON)
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[path[-1]]
        else:
            parent[path[-1]] = draw(JSON | st.sampled_from(["", "9" * 400, "2026-13-45T99:00:00Z", "\x00", "i-" * 300]))
    return name, content


def check(found: tuple[Parsed, ...]) -> None:
    assert found
    for item in found:
        if isinstance(item, Notice):
            assert item.node or item.instance or item.pod_uid
            assert item.key
            assert item.last_moment is None or 0 <= item.last_moment < 1e11
            assert len(item.key) < 300
        else:
            assert item.reason.isalpha()


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_a_damaged_sample_is_a_notice_or_ignored(case: tuple[str, object]) -> None:
    check(parse(*case))


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from(sorted({name.split("-")[0] for name in SAMPLES})))
def test_anything_at_all_is_a_notice_or_ignored(content: object, kind: str) -> None:
    check(parse(kind, content))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_body_of_a_message_is_a_notice_or_ignored(body: str | bytes) -> None:
    check(parse_message(body, seen=SEEN))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_words_of_a_condition_are_a_notice_or_ignored(message: str) -> None:
    node = load("node-aks-preempt")["input"]
    for condition in node["status"]["conditions"]:
        condition["message"] = message
    check(parse_node(node, seen=SEEN))
    condition["message"] = f"Preempt Scheduled: {message}"
    check(parse_node(node, seen=SEEN))


@pytest.mark.parametrize(
    "parser", [karpenter.parse_node, nth.parse_node, gke.parse_node, aks.parse_node, kubernetes.parse_node]
)
def test_what_is_no_node_is_said_to_be_none(parser: Callable[..., Parsed]) -> None:
    found = parser({"metadata": {}}, seen=SEEN)
    assert isinstance(found, Ignored)
    assert found.malformed
