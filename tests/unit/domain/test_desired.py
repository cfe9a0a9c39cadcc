"""What pods must hold: from the spec at once, from the status when frozen, and what is only kept for a while."""

from __future__ import annotations

from typing import Any

from npc_operator.domain.desired import Piece, build_piece, differ_in_marks_alone, keep_entry, pick_kept
from npc_operator.domain.placement import Placement
from npc_runtime.wire import AdapterPhase, served_name
from tests.support.builders import adapter_fact, agent_fact, digest, pod_fact, report

OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")


def piece(wanted: str, stable: str | None = None, candidate: str | None = None, **options: Any) -> Piece:
    status: dict[str, Any] = {"tier": "gold"}
    if stable:
        status["stable"] = {"digest": stable, "uri": "s3://old-place", "rank": 8}
    if candidate:
        status["candidate"] = {"digest": candidate, "uri": "s3://candidate", "rank": 8}
    adapter = adapter_fact(
        digests={"gold": wanted},
        status={"variants": [status]},
        secret=options.pop("secret", None),
        spec=options.pop("spec", {}),
    )
    flags = {"frozen": False, "barred": False, **options}
    return build_piece(adapter, adapter.spec.variants[0], credentials=lambda name: {"AWS_ACCESS_KEY_ID": name}, **flags)


def digests(found: Piece, placement: Placement | None = None) -> list[str]:
    return [entry.digest for entry in found.served(placement or Placement())]


def test_a_changed_spec_is_wanted_beside_the_stable_digest_before_any_status_says_so() -> None:
    assert digests(piece(NEW)) == [NEW]
    assert digests(piece(OLD, OLD)) == [OLD]
    assert digests(piece(NEW, OLD)) == [OLD, NEW]
    assert digests(piece(THIRD, OLD, NEW)) == [OLD, THIRD]
    assert digests(piece(OLD, OLD, NEW)) == [OLD]


def test_frozen_and_barred() -> None:
    assert digests(piece(THIRD, OLD, NEW, frozen=True)) == [OLD, NEW]
    assert digests(piece(NEW, None, frozen=True)) == []
    assert digests(piece(NEW, OLD, barred=True)) == [OLD]


def test_a_clash_of_names_reaches_no_pod() -> None:
    alike = OLD[:-1] + ("0" if OLD[-1] != "0" else "1")
    assert digests(piece(alike, OLD)) == [OLD]


def test_a_placement_holds_back_candidates_and_leaves_out_voices() -> None:
    found = piece(NEW, OLD)
    assert digests(found, Placement(held_back=frozenset({"vampire"}))) == [OLD]
    assert digests(found, Placement(left_out=frozenset({"vampire"}))) == []
    assert digests(piece(NEW), Placement(held_back=frozenset({"vampire"}))) == [NEW]


def test_an_entry_carries_all_that_is_needed_to_load_it() -> None:
    spec = {"importance": "Critical", "probe": {"prompt": "Who?", "mustMatch": ["blood"], "timeoutSeconds": 9}}
    entry = piece(NEW, secret="bucket", spec=spec).served(Placement())[0]
    assert entry.served_name == served_name("vampire", NEW)
    assert (entry.importance, entry.rank) == ("Critical", 8)
    assert (entry.probe.prompt, entry.probe.must_match, entry.probe.timeout_seconds) == ("Who?", ("blood",), 9)
    assert entry.credentials["AWS_ACCESS_KEY_ID"].get_secret_value() == "bucket"
    assert "'bucket'" not in repr(entry)


def test_what_gateways_may_use_stays_and_everything_else_goes() -> None:
    pod = pod_fact()
    agent = agent_fact(
        pod,
        [
            report("vampire", OLD),
            report("vampire", NEW),
            report("zombie", OLD, AdapterPhase.LOADING),
            report("ghost", THIRD),
        ],
    )
    wanted = {served_name("vampire", NEW)}

    def kept(routed: set[str], unsettled: set[str]) -> list[str]:
        found = pick_kept(agent, wanted, routed=routed.__contains__, unsettled=unsettled.__contains__)
        return [one.served_name for one in found]

    old = served_name("vampire", OLD)
    assert kept(set(), set()) == []
    assert kept({old}, set()) == [old]
    assert kept({served_name("zombie", OLD)}, set()) == []  # it is not there yet, so nobody can use it
    assert kept(set(), {"ghost"}) == [served_name("ghost", THIRD)]


def test_what_is_kept_is_asked_for_as_it_is() -> None:
    entry = keep_entry(report("vampire", OLD), "")
    assert (entry.served_name, entry.digest, entry.uri) == (served_name("vampire", OLD), OLD, "")


def test_a_digest_that_became_stable_differs_in_its_mark_alone() -> None:
    (coming,), (stable,) = piece(NEW).served(Placement()), piece(NEW, NEW).served(Placement())
    assert (coming.serving, stable.serving) == (False, True)
    other = piece(THIRD).served(Placement())[0]
    elsewhere = stable.model_copy(update={"uri": "s3://elsewhere"})
    assert differ_in_marks_alone([other, coming], [other, stable])
    assert not differ_in_marks_alone([other, coming], [other])
    assert not differ_in_marks_alone([other, coming], [other, elsewhere])
    assert not differ_in_marks_alone([other, coming], [stable, other])
