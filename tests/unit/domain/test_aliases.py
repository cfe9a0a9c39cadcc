"""What gateways hear of a rollout: who gets the candidate, and with whom it is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.domain.aliases import pick_alias
from npc_operator.domain.desired import build_piece
from npc_operator.domain.facts import Adapter
from npc_runtime.wire import Alias, Guard, Override, served_name
from tests.support.builders import adapter_fact, digest

OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")
SINCE = "2026-11-01T00:00:00Z"


def voice(wanted: str = NEW, candidate: str | None = NEW, *, spec: Any = None, **rollout: Any) -> Adapter:
    status: dict[str, Any] = {"tier": "gold", "serving": "Stable", "stable": {"digest": OLD, "uri": "s3://old"}}
    if candidate is not None:
        status["candidate"] = {"digest": candidate, "uri": "s3://new"}
        status["rollout"] = {
            "phase": "Watching",
            "percent": 10,
            "below": 1000,
            "since": SINCE,
            "step": 1,
            "check": 1,
            **rollout,
        }
    return adapter_fact("vampire", digests={"gold": wanted}, status={"variants": [status]}, spec=spec or {})


def alias(adapter: Adapter, **options: Any) -> Alias:
    found = pick_alias(adapter, adapter.spec.variants[0], **{"frozen": False, **options})
    assert found is not None
    return found


def shares(found: Alias) -> list[tuple[str, int]]:
    return [(target.digest, target.percent) for target in found.targets]


def test_the_candidate_gets_its_share_and_as_many_above_it_are_what_it_is_compared_with() -> None:
    found = alias(voice())
    assert shares(found) == [(OLD, 90), (NEW, 10)]
    assert found.targets[1].served_name == served_name("vampire", NEW)
    assert found.rollout is not None
    assert (found.rollout.candidate_below, found.rollout.control_below) == (1000, 2000)
    assert (found.rollout.guard, found.rollout.probe) == (Guard(max_error_percent=5), None)


def test_gateways_are_told_which_attempt_it_is() -> None:
    adapter = voice()
    (variant,) = adapter.status.variants
    tried_again = replace(
        adapter,
        status=adapter.status.model_copy(update={"variants": (variant.model_copy(update={"attempt": 7}),)}),
    )
    rollouts = [alias(one).rollout for one in (adapter, tried_again)]
    assert [rollout.attempt for rollout in rollouts if rollout is not None] == [0, 7]


@pytest.mark.parametrize(("below", "control"), [(0, 0), (3334, 6668), (5000, 10_000), (7500, 10_000), (10_000, 10_000)])
def test_nobody_above_the_last_bucket_is_compared_with(below: int, control: int) -> None:
    rollout = alias(voice(percent=50, below=below)).rollout
    assert rollout is not None
    assert rollout.control_below == control


def test_what_it_is_watched_by_comes_from_the_spec() -> None:
    spec = {
        "rollout": {
            "overrides": [{"npc": "npc-7", "to": "Candidate"}, {"npcPrefix": "king-", "to": "Stable"}],
            "analysis": {
                "minRequests": 7,
                "maxErrorPercent": 3,
                "maxSlowerPercent": 200,
                "maxFirstTokenMilliseconds": 900,
            },
        },
        "probe": {"prompt": "Who goes there?"},
    }
    rollout = alias(voice(spec=spec, phase="Probing")).rollout
    assert rollout is not None
    assert rollout.overrides == (
        Override(npc="npc-7", prefix=False, candidate=True),
        Override(npc="king-", prefix=True, candidate=False),
    )
    assert (rollout.guard, rollout.slower_percent) == (Guard(max_error_percent=3), 200)
    assert rollout.first_token_milliseconds == 900
    assert rollout.probe is not None
    assert rollout.probe.prompt == "Who goes there?"


@pytest.mark.parametrize(
    "adapter",
    [
        voice(since=""),
        voice(phase="Checking", since="", percent=0, below=0),
        voice(wanted=OLD),
        voice(wanted=THIRD),
        voice(candidate=None),
    ],
    ids=["no step was taken", "its first step is being checked", "put back", "another digest is wanted", "taken back"],
)
def test_gateways_hear_of_no_candidate_that_nobody_should_hear(adapter: Adapter) -> None:
    found = alias(adapter)
    assert (shares(found), found.rollout) == ([(OLD, 100)], None)


def test_pinned_npcs_alone_are_a_share_of_nothing_with_a_candidate() -> None:
    found = alias(voice(percent=0, below=0))
    assert shares(found) == [(OLD, 100), (NEW, 0)]
    assert found.rollout is not None


def test_a_suspended_voice_keeps_what_it_has_whatever_the_spec_names() -> None:
    assert shares(alias(voice(wanted=THIRD), frozen=True)) == [(OLD, 90), (NEW, 10)]


def test_a_voice_that_never_had_a_stable_digest_has_no_alias() -> None:
    adapter = adapter_fact("vampire")
    assert pick_alias(adapter, adapter.spec.variants[0], frozen=False) is None


@pytest.mark.parametrize(("percent", "serving"), [(10, False), (100, True)])
def test_pods_prove_the_identity_of_both_and_a_new_one_waits_for_what_everybody_hears(
    percent: int, serving: bool
) -> None:
    adapter = voice(percent=percent, check=3)
    piece = build_piece(adapter, adapter.spec.variants[0], frozen=False, barred=False, credentials=lambda _: None)
    assert piece.stable is not None
    assert piece.candidate is not None
    assert (piece.stable.identity_check, piece.candidate.identity_check) == (3, 3)
    assert (piece.stable.serving, piece.candidate.serving) == (True, serving)


def test_a_candidate_that_was_taken_back_is_wanted_nowhere_until_another_is_named() -> None:
    for wanted, expected in ((NEW, None), (THIRD, THIRD)):
        status = {
            "tier": "gold",
            "stable": {"digest": OLD, "uri": "s3://old"},
            "rejected": {"digest": NEW, "time": SINCE, "reason": "CandidateErrors"},
        }
        adapter = adapter_fact("vampire", digests={"gold": wanted}, status={"variants": [status]})
        piece = build_piece(adapter, adapter.spec.variants[0], frozen=False, barred=False, credentials=lambda _: None)
        assert (piece.candidate.digest if piece.candidate else None) == expected
