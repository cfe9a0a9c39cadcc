"""When secrets are made anew, and what stays valid."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain.facts import Region
from npc_operator.domain.rotation import (
    CERTIFICATE_KIND,
    RENEW_BEFORE_SECONDS,
    SETTLE_SECONDS,
    TOKEN_KIND,
    Handled,
    Verdict,
    current_engine_key,
    decide_rotation,
    drop_unused_keys,
    join_authorities,
    parse_handled,
    pick_engine_keys,
    pick_tokens,
    rotate_engine_key,
    rotate_token,
    write_handled,
)
from tests.support.builders import region_fact

NOW = 1_790_000_000.0


def asked(value: str = "", *, suspend: bool = False) -> Region:
    annotations = {names.ANNOTATION_ROTATE_TOKEN: value} if value else {}
    return region_fact(annotations=annotations, spec={"suspend": suspend})


def decide(**more: Any) -> Verdict:
    fields: dict[str, Any] = {
        "kinds": (TOKEN_KIND,),
        "usable": {TOKEN_KIND: True},
        "expires": {},
        "region": asked(),
        "handled": {TOKEN_KIND: Handled("", NOW - 1e6)},
        "now": NOW,
    }
    return decide_rotation(**{**fields, **more})


def test_what_is_missing_is_made_whatever_else_holds() -> None:
    for region in (None, asked(), asked("x", suspend=True)):
        verdict = decide(usable={}, region=region, handled={})
        assert [(need.kind, need.first) for need in verdict.needs] == [(TOKEN_KIND, True)]


def test_an_annotation_is_acted_on_once() -> None:
    first = decide(region=asked("monday"))
    assert [need.first for need in first.needs] == [False]
    again = decide(region=asked("monday"), handled=first.handled, now=NOW + 1e6)
    assert again.needs == ()
    assert again.look_again is None


def test_a_value_that_was_there_when_the_secret_was_made_is_handled() -> None:
    made = decide(usable={}, handled={}, region=asked("old"))
    assert decide(region=asked("old"), handled=made.handled).needs == ()


@pytest.mark.parametrize(("passed", "needed"), [(0, False), (SETTLE_SECONDS - 1, False), (SETTLE_SECONDS, True)])
def test_two_rotations_keep_their_distance(passed: float, needed: bool) -> None:
    verdict = decide(region=asked("x"), handled={TOKEN_KIND: Handled("w", NOW - passed)})
    assert bool(verdict.needs) is needed
    if not needed:
        assert verdict.look_again == SETTLE_SECONDS - passed


def test_a_suspended_region_rotates_nothing_by_hand_but_renews_what_ends() -> None:
    assert decide(region=asked("x", suspend=True)).needs == ()
    verdict = decide(
        kinds=(CERTIFICATE_KIND,),
        usable={CERTIFICATE_KIND: True},
        expires={CERTIFICATE_KIND: NOW + RENEW_BEFORE_SECONDS - 1},
        region=asked(suspend=True),
    )
    assert [need.kind for need in verdict.needs] == [CERTIFICATE_KIND]


def test_a_certificate_is_looked_at_again_when_it_is_due() -> None:
    verdict = decide(
        kinds=(CERTIFICATE_KIND,),
        usable={CERTIFICATE_KIND: True},
        expires={CERTIFICATE_KIND: NOW + RENEW_BEFORE_SECONDS + 500},
    )
    assert verdict.needs == ()
    assert verdict.look_again == 500


def test_the_note_survives_being_written_and_nonsense() -> None:
    handled = {TOKEN_KIND: Handled("monday", 12.0)}
    assert parse_handled(write_handled(handled)) == handled
    for text in ("", "nonsense", "[]", '{"token": 5}', '{"token": {"value": "x"}}'):
        assert parse_handled(text) == {}


def test_the_old_token_stays_valid() -> None:
    data = rotate_token({"token": "one", "token-previous": "zero", "ca.crt": "x"}, "two")
    assert data == {"token": "two", "token-previous": "one", "ca.crt": "x"}
    assert [token.get_secret_value() for token in pick_tokens(data)] == ["two", "one"]
    assert "two" not in repr(pick_tokens(data))


def test_engine_keys_count_up_and_the_unused_go() -> None:
    data: dict[str, str] = {}
    assert current_engine_key(data) == ""
    for number in range(1, 12):
        data = rotate_engine_key(data, f"secret-{number}")
    assert current_engine_key(data) == "key-11"
    data = drop_unused_keys(data, ["key-3", "key-99"])
    assert sorted(data) == ["current", "key-11", "key-3"]
    assert [key.id for key in pick_engine_keys(data)] == ["key-11", "key-3"]
    assert "secret" not in repr(pick_engine_keys(data))
    assert current_engine_key({"current": "key-1"}) == ""


PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def test_a_bundle_holds_the_new_authority_and_the_one_before() -> None:
    first = join_authorities(PEM.format("A"), "")
    second = join_authorities(PEM.format("B"), first)
    third = join_authorities(PEM.format("C"), second)
    assert first == PEM.format("A")
    assert third == PEM.format("C") + PEM.format("B")
