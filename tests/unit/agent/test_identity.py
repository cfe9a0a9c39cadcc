"""When two accounts of a first token are one model's, whose identity is due, and how a keeper looks at it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from npc_runtime.agent import plan
from npc_runtime.agent.cache import Bytes
from npc_runtime.agent.errors import AdapterError, Reason, refused, retryable
from npc_runtime.agent.facts import AtLoad, Facts, Identity, Proof, Stage, failure_of, identity
from npc_runtime.agent.identity.due import Look, due_looks
from npc_runtime.agent.identity.judge import mismatch_of, note_of
from npc_runtime.agent.identity.logprobs import DISTINCT, NOISE, distance
from npc_runtime.agent.plan import Step, decide
from npc_runtime.agent.view import adapter_reports
from npc_runtime.wire import AdapterPhase, DesiredAdapter, EngineState
from tests.unit.agent.keeping import Kept, running, turns, voices
from tests.unit.agent.test_plan import LISTED, NAME, NOW, PROVEN, READY, desired, digest, facts, on_disk, path

VOICE = {"a": -0.1, "b": -2.5, "c": -4.0}
BASE = {"a": -3.0, "d": -0.1, "c": -3.5}


def moved(by: float) -> dict[str, float]:
    return {token: logprob + by for token, logprob in VOICE.items()}


# --- distances and verdicts ---


def test_the_distance_of_an_account_from_itself_is_nothing_and_from_another_the_same_both_ways() -> None:
    assert distance(VOICE, dict(VOICE)) == 0
    assert distance(VOICE, BASE) == distance(BASE, VOICE) > DISTINCT
    assert distance(VOICE, moved(0.2)) == pytest.approx(0.2)


def test_a_token_that_fell_off_the_end_of_one_account_counts_only_for_what_is_sure() -> None:
    shorter = {"a": -0.1, "b": -2.5, "x": -4.1}
    assert distance(VOICE, shorter) == pytest.approx(0.1 / 4)  # c is at least 0.1 apart, x perhaps not at all
    with pytest.raises(ValueError, match="no tokens"):
        distance(VOICE, {})


def test_an_adapter_that_the_first_token_does_not_tell_from_the_base_is_noted_and_one_it_does_is_not() -> None:
    assert "does not tell it from the base model" in note_of(BASE, BASE)
    assert "does not tell it" in note_of(moved(DISTINCT - 0.01), VOICE)
    assert note_of(moved(DISTINCT + 0.01), VOICE) == note_of(VOICE, BASE) == ""


@pytest.mark.parametrize(
    ("now", "distinct", "words"),
    [
        (VOICE, True, ""),
        (moved(NOISE - 0.01), True, ""),
        (moved(NOISE + 0.01), True, "does not answer as at load"),
        (BASE, True, "answers like the base model"),
        (BASE, False, "does not answer as at load"),
    ],
)
def test_a_first_token_is_judged_by_the_one_at_load_and_by_the_base_models(
    now: dict[str, float], distinct: bool, words: str
) -> None:
    found = mismatch_of(at_load=VOICE, now=now, base=BASE, distinct=distinct)
    assert bool(found) == bool(words)
    assert words in found


def test_what_changes_nothing_is_no_mismatch_for_being_like_the_base() -> None:
    assert mismatch_of(at_load=BASE, now=BASE, base=BASE, distinct=False) == ""


# --- what is due ---

PROOF = PROVEN[NAME]
AT_LOAD = AtLoad("Who are you?", VOICE, BASE, "")


def asked(number: int) -> DesiredAdapter:
    return desired(identity_check=number)


def proven(*adapters: DesiredAdapter, known: Identity | None = None, **changes: Any) -> Facts:
    state = {"disk": on_disk("a"), "engine": LISTED, "proofs": PROVEN} | changes
    return facts(*adapters, identities={NAME: known or Identity(PROOF)}, **state)


def lost(adapter: DesiredAdapter, error: AdapterError, stage: Stage) -> dict[str, Any]:
    failure = failure_of(error, stage=stage, attempts=1, retry_at=NOW + 5, wanted=identity(adapter), instance="one")
    return {"failures": {adapter.served_name: failure}}


LOST = lost(asked(1), refused(Reason.IDENTITY_LOST, "other bytes"), Stage.IDENTITY)


@pytest.mark.parametrize(
    ("state", "look"),
    [
        (proven(asked(0)), Look.KEEP),
        (proven(asked(1)), Look.KEEP),
        (proven(asked(0), known=Identity(PROOF, AT_LOAD)), None),
        (proven(asked(1), known=Identity(PROOF, AT_LOAD)), Look.CHECK),
        (proven(asked(1), known=Identity(PROOF, AT_LOAD, checked=1)), None),
        (proven(asked(2), known=Identity(PROOF, AT_LOAD, checked=1)), Look.CHECK),
        (proven(asked(1), known=Identity(Proof("zero", 5), AT_LOAD)), None),  # of another engine process
        (proven(asked(1), known=Identity(PROOF, AT_LOAD), disk={}), None),  # fetched first
        (proven(asked(1), known=Identity(PROOF, AT_LOAD), busy_digests=frozenset({digest("a")})), None),
        (proven(asked(1), known=Identity(PROOF, AT_LOAD), busy={NAME: Stage.UNLOAD}), None),
        (proven(asked(1), known=Identity(PROOF, AT_LOAD), engine=replace(LISTED, state=EngineState.DOWN)), None),
        (proven(asked(1), known=Identity(PROOF, AT_LOAD), **LOST), None),
        (facts(asked(1), disk=on_disk("a"), engine=LISTED), None),
        (proven(known=Identity(PROOF, AT_LOAD)), None),  # not wanted any more
    ],
)
def test_a_look_follows_each_proof_and_each_higher_number(state: Facts, look: Look | None) -> None:
    assert [found for found, _, _ in due_looks(state, {}).looks] == ([look] if look else [])


def test_a_look_that_came_to_nothing_waits_for_its_time_and_none_begins_twice() -> None:
    known = Identity(PROOF, AT_LOAD, attempts=1, retry_at=NOW + 3)
    assert due_looks(proven(asked(1), known=known), {}) == due_looks(
        proven(asked(1), known=known), {"other": Look.KEEP}
    )
    assert due_looks(proven(asked(1), known=known), {}).wake_at == NOW + 3
    assert due_looks(proven(asked(1), known=Identity(PROOF, AT_LOAD)), {NAME: Look.CHECK}).looks == ()


def test_one_folder_is_read_at_a_time_the_most_important_adapters_first() -> None:
    ambient, critical = (
        desired(letter, letter, identity_check=1, importance=importance)
        for letter, importance in (("b", "Ambient"), ("c", "Critical"))
    )
    names = (ambient.served_name, critical.served_name)
    state = facts(
        ambient,
        critical,
        disk=on_disk("b", "c"),
        engine=replace(READY, listed={names[0]: path("b"), names[1]: path("c")}),
        proofs=dict.fromkeys(names, PROOF),
        identities=dict.fromkeys(names, Identity(PROOF, AT_LOAD)),
    )
    assert [adapter for _, adapter, _ in due_looks(state, {}).looks] == [critical]


# --- what follows from what was found ---


def test_a_lost_identity_is_refused_and_unloaded_until_the_engine_starts_anew() -> None:
    state = proven(asked(1), known=Identity(PROOF, AT_LOAD), **LOST)
    (report,) = adapter_reports(state, ())
    assert (report.phase, report.reason, report.message) == (AdapterPhase.REFUSED, "IdentityLost", "other bytes")
    assert decide(state).steps == (Step(Stage.UNLOAD, NAME),)
    again = replace(state, engine=replace(READY, instance="two"), proofs={}, identities={})
    assert decide(again).steps == (Step(Stage.LOAD, NAME),)


def test_what_is_proven_stays_resident_while_its_lost_folder_cannot_be_fetched_again() -> None:
    gone = lost(asked(1), refused(Reason.DIGEST_MISMATCH, "other bytes there"), Stage.FETCH)
    known = Identity(PROOF, AT_LOAD, checked=0, trouble="its folder is gone")
    state = proven(asked(1), known=known, disk={}, **gone)
    (report,) = adapter_reports(state, ())
    assert (report.phase, report.identity_checked) == (AdapterPhase.RESIDENT, 0)
    assert report.message == "its folder is gone; DigestMismatch: other bytes there"
    assert decide(state).steps == ()
    assert decide(replace(state, now=NOW + 6)).steps == (Step(Stage.FETCH, NAME),)
    restarted = replace(state, proofs={}, identities={}, engine=replace(READY, instance="two"))
    assert adapter_reports(restarted, ())[0].phase is AdapterPhase.REFUSED


def test_what_is_left_open_is_said_only_where_somebody_asked() -> None:
    known = Identity(PROOF, replace(AT_LOAD, note="cannot be told"), trouble="not yet")
    assert adapter_reports(proven(asked(0), known=known), ())[0].message == ""
    assert adapter_reports(proven(asked(1), known=known), ())[0].message == "cannot be told; not yet"


# --- a keeper that looks ---


def is_kept(kept: Kept, name: str) -> bool:
    known = kept.keeper.facts().identities.get(name)
    return known is not None and known.at_load is not None


@contextlib.asynccontextmanager
async def kept_voice(folder: Path, number: int = 0) -> AsyncIterator[tuple[Kept, DesiredAdapter]]:
    """A keeper whose one voice is resident and was looked at."""
    (voice,) = voices(1)
    voice = voice.model_copy(update={"identity_check": number})
    kept = Kept(folder, [voice])
    async with running(kept.keeper):
        kept.order(voice)
        kept.engine()
        await kept.until(lambda: is_kept(kept, voice.served_name))
        yield kept, voice


def looked_at(kept: Kept, name: str) -> int:
    return kept.acts.calls.count((Stage.IDENTITY, name))


async def checked(kept: Kept, voice: DesiredAdapter, number: int) -> None:
    await kept.until(lambda: kept.published[0].identity_checked == number)
    assert kept.phases() == {voice.served_name: "Resident"}


def higher(voice: DesiredAdapter, number: int) -> DesiredAdapter:
    return voice.model_copy(update={"identity_check": number})


async def test_each_higher_number_is_one_check_and_at_rest_nothing_is_asked(tmp_path: Path) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        for number in (1, 2, 7):
            kept.order(higher(voice, number))
            await checked(kept, voice, number)
        calls = len(kept.acts.calls)
        kept.order(higher(voice, 7))
        await turns()
        assert len(kept.acts.calls) == calls
    assert looked_at(kept, voice.served_name) == 4
    assert looked_at(kept, "base") == 1  # the base model cannot change


async def test_a_lower_number_begins_anew_so_that_another_rollout_has_checks_of_its_own(tmp_path: Path) -> None:
    async with kept_voice(tmp_path, 4) as (kept, voice):
        await checked(kept, voice, 4)
        kept.order(higher(voice, 1))
        await checked(kept, voice, 1)
        kept.order(higher(voice, 0))
        await checked(kept, voice, 0)
        kept.order(higher(voice, 1))
        await checked(kept, voice, 1)
    assert looked_at(kept, voice.served_name) == 4


async def test_one_odd_answer_is_asked_for_again_and_two_are_a_loss(tmp_path: Path) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        as_loaded = kept.acts.first[voice.served_name][0]
        odd = {"a": -9.0, "z": -0.1}
        kept.acts.first[voice.served_name] = [odd, as_loaded]
        kept.order(higher(voice, 1))
        await checked(kept, voice, 1)
        kept.acts.first[voice.served_name] = [odd]
        kept.order(higher(voice, 2))
        await kept.until(lambda: kept.phases() == {voice.served_name: "Refused"})
        assert kept.published[0].reason == "IdentityLost"
        assert "not answer as at load" in kept.published[0].message
        await kept.until(lambda: (Stage.UNLOAD, voice.served_name) in kept.acts.calls)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (retryable(Reason.PROBE_TIMEOUT, "no first token within 30 s"), "ProbeTimeout: no first token"),
        (retryable(Reason.ENGINE_UNAVAILABLE, "/v1/models does not answer"), "EngineUnavailable"),
        (ZeroDivisionError("nobody foresaw this"), "Internal"),
    ],
)
async def test_nothing_is_concluded_from_an_engine_that_does_not_answer(
    tmp_path: Path, fault: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "BACKOFF_FIRST", 0.01)
    async with kept_voice(tmp_path) as (kept, voice):
        kept.acts.faults[Stage.IDENTITY] = fault
        kept.order(higher(voice, 1))
        await kept.until(lambda: words in kept.published[0].message)
        assert kept.phases() == {voice.served_name: "Resident"}
        assert kept.published[0].identity_checked == 0
        kept.acts.faults.clear()
        await checked(kept, voice, 1)
        assert kept.published[0].message == ""


async def test_a_first_look_that_fails_is_tried_again_and_holds_no_residency_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "BACKOFF_FIRST", 0.01)
    (voice,) = voices(1)
    kept = Kept(tmp_path, [voice])
    kept.acts.faults[Stage.IDENTITY] = retryable(Reason.PROBE_TIMEOUT, "busy")
    async with running(kept.keeper):
        kept.order(higher(voice, 1))
        kept.engine()
        await kept.until(lambda: kept.phases() == {voice.served_name: "Resident"})
        await kept.until(lambda: "ProbeTimeout" in kept.published[0].message)
        kept.acts.faults.clear()
        await checked(kept, voice, 1)


async def test_an_engine_that_tells_no_log_probabilities_is_believed_by_folder_and_root_and_it_is_said(
    tmp_path: Path,
) -> None:
    (voice,) = voices(1)
    kept = Kept(tmp_path, [voice])
    kept.acts.first[voice.served_name] = [None]
    async with running(kept.keeper):
        kept.order(higher(voice, 1))
        kept.engine()
        await kept.until(lambda: bool(kept.published) and kept.published[0].identity_checked == 1)
        assert "tells no log-probabilities" in kept.published[0].message
        kept.acts.roots[voice.served_name] = "/elsewhere"
        kept.order(higher(voice, 2))
        await kept.until(lambda: kept.phases() == {voice.served_name: "Refused"})
        assert kept.published[0].message.startswith("the engine serves this name from /elsewhere, not from ")


async def test_a_folder_that_is_gone_is_fetched_again_and_checked_then(tmp_path: Path) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        kept.acts.bytes = Bytes.GONE
        kept.order(higher(voice, 1))
        await kept.until(lambda: voice.digest not in kept.keeper.facts().disk)
        await kept.until(lambda: "is fetched again" in kept.published[0].message)
        assert kept.phases() == {voice.served_name: "Resident"}
        kept.acts.bytes = Bytes.AS_WANTED
        kept.comes_back(voice)
        await checked(kept, voice, 1)


async def test_a_folder_of_other_bytes_is_forgotten_and_not_fetched_into_before_that_is_known(tmp_path: Path) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        kept.acts.bytes = Bytes.OTHERS
        kept.order(higher(voice, 1))
        await kept.until(lambda: kept.phases() == {voice.served_name: "Refused"})
        assert kept.published[0].reason == "IdentityLost"
        await kept.until(lambda: (Stage.UNLOAD, voice.served_name) in kept.acts.calls)
        assert (Stage.FETCH, voice.served_name) not in kept.acts.calls
        assert kept.keeper.facts().disk == {}
        assert kept.keeper.facts().busy_digests == frozenset()


@pytest.mark.parametrize("what", ["order", "engine"])
async def test_a_look_ends_with_what_it_looks_at(tmp_path: Path, what: str) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        kept.acts.held.add(Stage.IDENTITY)
        kept.order(higher(voice, 1))
        await kept.until(lambda: looked_at(kept, voice.served_name) == 2)
        looks = kept.keeper._looks
        if what == "order":
            kept.order()
        else:
            kept.engine(state=EngineState.DOWN)
        await kept.until(lambda: not looks._tasks)
        assert not kept.keeper.facts().failures


async def test_no_look_is_left_when_the_keeper_ends(tmp_path: Path) -> None:
    async with kept_voice(tmp_path) as (kept, voice):
        kept.acts.held.add(Stage.IDENTITY)
        kept.order(higher(voice, 1))
        await kept.until(lambda: looked_at(kept, voice.served_name) == 2)
    assert kept.keeper._looks._tasks == {}


async def test_a_new_engine_is_asked_for_log_probabilities_before_any_line_can_run_on_it(tmp_path: Path) -> None:
    """What it compiles for the first answer of that kind stops everything else it does."""
    one, other = voices(2)
    kept = Kept(tmp_path, [one, other])
    kept.acts.held.add(Stage.IDENTITY)
    async with running(kept.keeper):
        kept.order(one, other)
        kept.engine()
        await kept.until(lambda: looked_at(kept, "base") == 1)
        await kept.until(lambda: set(kept.phases().values()) == {"Probing"})
        await turns()
        assert set(kept.phases().values()) == {"Probing"}
        kept.acts.let_go()
        await kept.until(lambda: set(kept.phases().values()) == {"Resident"})
        await kept.until(lambda: is_kept(kept, one.served_name) and is_kept(kept, other.served_name))
        assert looked_at(kept, "base") == 1
        kept.engine(instance="two")
        await kept.until(lambda: looked_at(kept, "base") == 2)
