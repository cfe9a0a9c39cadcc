"""Who gets a slot when there are not enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.placement import Claim, Placement, describe_left_out, place
from npc_runtime.wire import IMPORTANCE_ORDER


def claim(name: str, importance: str = "Normal", *, stable: bool = True, candidate: bool = False) -> Claim:
    return Claim(name, importance, stable, candidate)


def test_everybody_fits() -> None:
    assert place([claim("a"), claim("b", candidate=True)], slots=3) == Placement()


def test_the_least_important_is_left_out_and_then_the_last_by_name() -> None:
    claims = [claim("crowd", "Ambient"), claim("hero", "Critical"), claim("b-smith"), claim("a-smith")]
    assert place(claims, slots=3).left_out == {"crowd"}
    assert place(claims, slots=2).left_out == {"crowd", "b-smith"}


def test_a_candidate_never_pushes_out_a_serving_voice() -> None:
    claims = [claim("hero", "Critical", candidate=True), claim("crowd", "Ambient")]
    assert place(claims, slots=2) == Placement(held_back=frozenset({"hero"}), full=True)


def test_a_newcomer_takes_no_slot_from_a_serving_voice_of_its_rank() -> None:
    claims = [claim("a", stable=False, candidate=True), claim("b"), claim("c")]
    assert place(claims, slots=2).left_out == {"a"}


def test_a_more_important_newcomer_displaces_the_last_of_the_least_important() -> None:
    claims = [claim("hero", "Critical", stable=False, candidate=True), claim("b", "Ambient"), claim("c", "Ambient")]
    assert place(claims, slots=2).left_out == {"c"}
    # While gateways still use what it displaces, it is the newcomer that waits.
    assert place(claims, slots=2, taken=1).left_out == {"c", "hero"}


def test_slots_that_are_still_in_use_cost_newcomers_and_candidates_and_nobody_who_serves() -> None:
    claims = [claim("a"), claim("b", candidate=True), claim("new", stable=False, candidate=True)]
    assert place(claims, slots=4, taken=1) == Placement(held_back=frozenset({"b"}))
    assert place(claims, slots=4, taken=2) == Placement(frozenset({"new"}), frozenset({"b"}))
    assert place(claims, slots=4, taken=9) == Placement(frozenset({"new"}), frozenset({"b"}))


def test_a_candidate_that_npcs_hear_comes_before_others_and_after_a_voice_that_would_not_speak_at_all() -> None:
    heard = Claim("heard", "Ambient", stable=True, candidate=True, moving=True)
    claims = [claim("hero", "Critical", candidate=True), heard]
    assert place(claims, slots=3).held_back == {"hero"}
    newcomer = claim("new", "Ambient", stable=False, candidate=True)
    assert place([*claims, newcomer], slots=3) == Placement(held_back=frozenset({"hero", "heard"}), full=True)


CLAIMS = st.lists(
    st.builds(
        Claim,
        st.text("abcdef", min_size=1, max_size=3),
        st.sampled_from(sorted(IMPORTANCE_ORDER)),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda one: one.name,
    max_size=12,
)


def count_used(claims: list[Claim], placement: Placement) -> int:
    used = 0
    for one in claims:
        if one.name in placement.left_out:
            continue
        used += one.stable + one.candidate - (one.stable and one.candidate and one.name in placement.held_back)
    return used


@given(CLAIMS, st.integers(0, 16))
def test_the_slots_are_never_exceeded_and_never_wasted(claims: list[Claim], slots: int) -> None:
    wanted = sum(one.stable + one.candidate for one in claims)
    assert count_used(claims, place(claims, slots=slots)) == min(wanted, slots)


@given(CLAIMS, st.integers(0, 16), st.integers(0, 4))
def test_what_is_only_kept_takes_nothing_from_who_serves(claims: list[Claim], slots: int, taken: int) -> None:
    alone, beside = place(claims, slots=slots), place(claims, slots=slots, taken=taken)
    serving = {one.name for one in claims if one.stable}
    assert serving & beside.left_out == serving & alone.left_out
    placed = len(serving - beside.left_out)
    assert count_used(claims, beside) <= max(placed, slots - taken)
    assert alone.left_out <= beside.left_out
    assert alone.held_back - alone.left_out <= beside.held_back


@given(CLAIMS, st.integers(0, 16))
def test_the_order_of_the_claims_does_not_matter(claims: list[Claim], slots: int) -> None:
    assert place(claims, slots=slots) == place(list(reversed(claims)), slots=slots)


@given(CLAIMS, st.integers(0, 16))
def test_nobody_is_left_out_for_somebody_less_important(claims: list[Claim], slots: int) -> None:
    placement = place(claims, slots=slots)
    placed = [one for one in claims if (one.stable or one.candidate) and one.name not in placement.left_out]
    out = [one for one in claims if one.name in placement.left_out]
    assert all(IMPORTANCE_ORDER[a.importance] <= IMPORTANCE_ORDER[b.importance] for a in placed for b in out)


def test_the_message_names_a_few_and_counts_the_rest() -> None:
    text = describe_left_out("gold", [f"a{number}" for number in range(9)], 8)
    assert "a0, a1, a2, a3, a4 and 4 more" in text
    assert "engine.maxCpuLoras 8" in text
