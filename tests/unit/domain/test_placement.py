"""Who gets a slot when there are not enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.domain.placement import IMPORTANCE, Claim, Placement, describe_left_out, place


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
    assert place(claims, slots=2) == Placement(left_out=frozenset(), held_back=frozenset({"hero"}))


def test_slots_that_are_still_in_use_are_not_given_out() -> None:
    claims = [claim("a"), claim("b", candidate=True)]
    assert place(claims, slots=3, taken=1).held_back == {"b"}
    assert place(claims, slots=3, taken=2).left_out == {"b"}


CLAIMS = st.lists(
    st.builds(
        Claim,
        st.text("abcdef", min_size=1, max_size=3),
        st.sampled_from(sorted(IMPORTANCE)),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda one: one.name,
    max_size=12,
)


@given(CLAIMS, st.integers(0, 16), st.integers(0, 4))
def test_the_slots_are_never_exceeded_and_never_wasted(claims: list[Claim], slots: int, taken: int) -> None:
    placement = place(claims, slots=slots, taken=taken)
    used = 0
    for one in claims:
        if one.name in placement.left_out:
            continue
        used += one.stable + one.candidate - (one.stable and one.candidate and one.name in placement.held_back)
    wanted = sum(one.stable + one.candidate for one in claims)
    assert used == min(wanted, max(0, slots - taken))


@given(CLAIMS, st.integers(0, 16))
def test_the_order_of_the_claims_does_not_matter(claims: list[Claim], slots: int) -> None:
    assert place(claims, slots=slots) == place(list(reversed(claims)), slots=slots)


@given(CLAIMS, st.integers(0, 16))
def test_nobody_is_left_out_for_somebody_less_important(claims: list[Claim], slots: int) -> None:
    placement = place(claims, slots=slots)
    placed = [one for one in claims if (one.stable or one.candidate) and one.name not in placement.left_out]
    out = [one for one in claims if one.name in placement.left_out]
    assert all(IMPORTANCE[a.importance] <= IMPORTANCE[b.importance] for a in placed for b in out)


def test_the_message_names_a_few_and_counts_the_rest() -> None:
    text = describe_left_out("gold", [f"a{number}" for number in range(9)], 8)
    assert "a0, a1, a2, a3, a4 and 4 more" in text
    assert "engine.maxCpuLoras 8" in text
