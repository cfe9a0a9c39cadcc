"""What pods must hold: from the spec at once, from the status when frozen, and what is only kept for a while."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.desired import (
    Piece,
    build_piece,
    collect_entries,
    differ_in_marks_alone,
    fit_kept,
    keep_entry,
    pick_kept,
)
from npc_operator.domain.holdings import Held
from npc_operator.domain.placement import Placement, place
from npc_runtime.wire import IMPORTANCE_ORDER, AdapterPhase, DesiredAdapter, served_name
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


VOICES = ("a", "b", "c", "d")
WANTS = {"stable": (OLD, OLD), "swap": (NEW, OLD), "newcomer": (NEW, None)}
NAMES = [(voice, value) for voice in VOICES for value in (OLD, NEW, THIRD)]


def make_piece(voice: str, want: str, importance: str) -> Piece:
    wanted, stable = WANTS[want]
    status = {"tier": "gold", **({"stable": {"digest": stable, "uri": "s3://it", "rank": 8}} if stable else {})}
    spec = {"importance": importance}
    adapter = adapter_fact(voice, digests={"gold": wanted}, status={"variants": [status]}, spec=spec)
    return build_piece(adapter, adapter.spec.variants[0], frozen=False, barred=False, credentials=lambda name: None)


PIECES = {
    (voice, want, importance): make_piece(voice, want, importance)
    for voice in VOICES
    for want in WANTS
    for importance in IMPORTANCE_ORDER
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            voice: st.tuples(st.sampled_from([*WANTS]), st.sampled_from([*IMPORTANCE_ORDER])) for voice in VOICES
        },
    ),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from([served_name(*one) for one in NAMES])),
    st.sets(st.sampled_from(VOICES)),
    st.integers(0, 8),
)
def test_what_is_on_a_pod_and_routed_stays_and_newcomers_get_only_slots_that_are_free(
    voices: dict[str, tuple[str, str]], on_pod: set[tuple[str, str]], routed: set[str], unsettled: set[str], slots: int
) -> None:
    pieces = [PIECES[voice, want, importance] for voice, (want, importance) in voices.items()]
    agent = agent_fact(pod_fact(), [report(*one) for one in on_pod])

    def pick(wanted: Set[str]) -> tuple[Held, ...]:
        return pick_kept(agent, wanted, routed=routed.__contains__, unsettled=unsettled.__contains__)

    def beside(count: int) -> tuple[DesiredAdapter, ...]:
        return collect_entries(pieces, place([piece.claim for piece in pieces], slots=slots, taken=count))

    kept, entries = fit_kept(pick, beside)

    order = [*(held.served_name for held in kept), *(entry.served_name for entry in entries)]
    assert len(order) == len(set(order))
    assert {served_name(*one) for one in on_pod} & routed <= set(order)
    serving = [entry for entry in entries if entry.serving]
    assert len(serving) <= slots
    assert len(order) <= max(slots, len(kept) + len(serving))
