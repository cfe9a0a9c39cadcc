"""Who answers an NPC while a candidate is tried, and what each way a line can go counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from npc_runtime import wire
from npc_runtime.gateway.hashing import bucket
from npc_runtime.gateway.rollouts import judge as judging
from npc_runtime.gateway.rollouts.chooser import Rollouts
from npc_runtime.gateway.rollouts.judge import Judge
from npc_runtime.gateway.rollouts.observer import NOBODY, Observer, Outcome
from npc_runtime.gateway.rollouts.tally import Pair, Seen
from npc_runtime.gateway.table import Alias, Target, compile_table
from tests.unit.gateway.tables import NEW, OLD, route_table

BELOW = 2_000
LOW = next(f"npc-{n}" for n in range(10_000) if bucket(b"vampire", f"npc-{n}".encode()) < BELOW).encode()
CONTROL = next(
    f"npc-{n}" for n in range(10_000) if BELOW <= bucket(b"vampire", f"npc-{n}".encode()) < 2 * BELOW
).encode()
HIGH = next(f"npc-{n}" for n in range(10_000) if bucket(b"vampire", f"npc-{n}".encode()) >= 2 * BELOW).encode()
THIRD = "sha256:" + "c3" * 32


def table(*, stable: str = OLD, candidate: str = NEW, generation: int = 1, **rollout: object) -> wire.RouteTable:
    made = route_table(
        tiers=("gold",),
        targets=((stable, 80), (candidate, 20)),
        voices=(wire.Voice(archetype="vampire", must_not_match=("(?i)as an ai",)),),
        stamp=wire.Stamp(epoch=1, generation=generation),
    )
    settings = wire.AliasRollout.model_validate(
        {"candidate_below": BELOW, "control_below": 2 * BELOW, "warmup": 0, **rollout}
    )
    aliases = tuple(alias.model_copy(update={"rollout": settings}) for alias in made.aliases)
    return made.model_copy(update={"aliases": aliases})


class Rig:
    """The rollouts of one event loop, with pods and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.unusable: set[str] = set()
        self.rollouts = Rollouts(
            usable=lambda tier, name: [] if name in self.unusable else [tier],
            judge=Judge(asyncio.get_running_loop()),
            clock=lambda: self.now,
        )

    def apply(self, pushed: wire.RouteTable) -> None:
        compiled = compile_table(pushed)
        self.rollouts.apply(compiled)
        self.alias: Alias = compiled.aliases["gold", "vampire"]

    def choose(self, npc: bytes | None) -> tuple[Target, Observer]:
        return self.rollouts.choose(self.alias, npc)

    def say(self, npc: bytes | None, outcome: Outcome = Outcome.OK, text: str = "Good evening.") -> str:
        """One line that is not streamed; the digest that was chosen."""
        target, observer = self.choose(npc)
        if observer.copies:
            observer.on_answer(answer(text))
        observer.on_end(outcome)
        return target.digest

    @property
    def seen(self) -> Seen:
        (seen,) = self.rollouts.seen()
        return seen

    async def judged(self, requests: int) -> wire.AnswerCounts:
        """The candidate's counts once so many answers are counted."""
        async with asyncio.timeout(50):
            while self.seen.candidate_counts.requests < requests:  # noqa: ASYNC110 (a thread answers)
                await asyncio.sleep(0.001)
        return self.seen.candidate_counts


def answer(text: str) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": text}}]})


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    made.apply(table())
    yield made
    made.rollouts.close()


async def test_without_a_rollout_nobody_listens_and_who_spoke_is_remembered(rig: Rig) -> None:
    rig.apply(route_table(tiers=("gold",)))
    target, observer = rig.choose(LOW)
    assert target.digest == OLD
    assert observer is NOBODY
    assert rig.rollouts.seen() == ()
    rig.apply(table())
    assert rig.seen.lowest_heard == bucket(b"vampire", LOW)


async def test_only_npcs_of_the_share_get_the_candidate(rig: Rig) -> None:
    assert [rig.say(npc) for npc in (LOW, CONTROL, HIGH, None)] == [NEW, OLD, OLD, OLD]
    assert (await rig.judged(1)).requests == 1
    assert rig.seen.stable_counts.requests == 3


async def test_pins_decide_and_who_is_pinned_is_not_heard(rig: Rig) -> None:
    pins = (wire.Override(npc=LOW.decode()), wire.Override(npc=HIGH.decode(), candidate=True))
    rig.apply(table(overrides=[pin.model_dump() for pin in pins]))
    assert [rig.say(npc) for npc in (LOW, HIGH)] == [OLD, NEW]
    assert rig.seen.lowest_heard is None


async def test_a_candidate_that_no_pod_can_answer_with_costs_no_line(rig: Rig) -> None:
    rig.unusable = {wire.served_name("vampire", NEW)}
    assert rig.say(LOW) == OLD
    assert (rig.seen.fallen, rig.seen.stable_counts.requests) == (1, 1)
    rig.unusable = set()
    assert rig.say(LOW) == NEW


async def test_a_candidates_answers_are_read(rig: Rig) -> None:
    rig.say(LOW)
    rig.say(LOW, text="As an AI language model I")
    rig.say(LOW, text=" \n ")
    counts = await rig.judged(3)
    assert (counts.mismatched, counts.empty, counts.errors) == (1, 1, 0)
    assert counts.first_bad_ms is not None


async def test_a_streamed_answer_is_read_over_all_its_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "PIECE_BYTES", 100)
    _, observer = rig.choose(LOW)
    for word in ("As ", "an ", "A", "I", "."):
        payload = b"data: " + orjson.dumps({"choices": [{"delta": {"content": word}}]}) + b"\n\n"
        observer.on_chunk(b"%x\r\n%b\r\n" % (len(payload), payload))
    observer.on_end(Outcome.OK)
    assert (await rig.judged(1)).mismatched == 1


async def test_a_judge_that_is_too_far_behind_lets_answers_pass_and_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MAX_WAITING", 0)
    rig.say(LOW, text="As an AI language model I")
    counts = await rig.judged(1)
    assert (counts.requests, counts.mismatched, rig.seen.unjudged) == (1, 0, 1)


async def test_a_forbidden_pattern_that_is_none_is_left_out_and_named_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.apply(
        table().model_copy(update={"voices": (wire.Voice(archetype="vampire", must_not_match=("(never", "rubbish")),)})
    )
    for _ in range(5):
        rig.say(LOW, text="what rubbish")
    assert (await rig.judged(5)).mismatched == 5
    assert sum("(never" in str(record.__dict__.get("error")) for record in caplog.records) == 1


async def test_a_line_that_fails_on_the_candidate_counts_against_it_once_whoever_answers(rig: Rig) -> None:
    _, observer = rig.choose(LOW)
    observer.on_failed_attempt()
    observer.on_failed_attempt()
    observer.on_stable()
    assert not observer.copies
    observer.on_end(Outcome.OK)
    _, observer = rig.choose(LOW)
    observer.on_failed_attempt()
    observer.on_answer(answer("Good evening."))
    observer.on_end(Outcome.OK)
    counts = await rig.judged(2)
    assert (counts.requests, counts.errors) == (2, 2)
    assert rig.seen.stable_counts == wire.AnswerCounts(requests=1)
    assert rig.seen.fallen == 0


class Pod:
    """One that a test says the end of."""

    def __init__(self) -> None:
        self.asked: list[Callable[[bool], None]] = []

    def find_out(self, tell: Callable[[bool], None]) -> None:
        self.asked.append(tell)


@pytest.mark.parametrize(("is_there", "counted"), [(False, (1, 1)), (True, (3, 2))])
async def test_lines_that_are_lost_count_each_unless_their_pod_ended(
    rig: Rig, is_there: bool, counted: tuple[int, int]
) -> None:
    pod = Pod()
    for npc in (LOW, LOW, LOW, CONTROL, HIGH):
        _, observer = rig.choose(npc)
        observer.on_lost(pod)
        observer.on_failed_attempt()
        observer.on_end(Outcome.OK)  # another pod answered
    assert (rig.seen.candidate_counts.requests, rig.seen.stable_counts.requests) == (0, 0)
    (tell,) = pod.asked
    tell(is_there)
    assert (rig.seen.candidate_counts.errors, rig.seen.stable_counts.errors) == counted
    assert (rig.seen.candidate_counts.requests, rig.seen.stable_counts.requests) == counted


async def test_a_line_that_never_reached_the_candidate_counts_for_stable_alone(rig: Rig) -> None:
    _, observer = rig.choose(LOW)
    observer.on_stable()
    observer.on_failed_attempt()
    observer.on_end(Outcome.UNTOLD)
    assert rig.seen.candidate_counts == wire.AnswerCounts()
    assert (rig.seen.stable_counts.requests, rig.seen.stable_counts.errors, rig.seen.fallen) == (1, 1, 1)


async def test_failures_of_stable_count_as_those_of_the_candidate_do(rig: Rig) -> None:
    _, observer = rig.choose(HIGH)
    observer.on_failed_attempt()
    observer.on_end(Outcome.OK)
    assert (rig.seen.stable_counts.requests, rig.seen.stable_counts.errors) == (1, 1)


@pytest.mark.parametrize("npc", [LOW, HIGH])
@pytest.mark.parametrize("outcome", [Outcome.CLIENT_GONE, Outcome.UNTOLD])
async def test_what_says_nothing_of_a_digest_counts_nowhere(rig: Rig, npc: bytes, outcome: Outcome) -> None:
    rig.say(npc, outcome)
    assert rig.seen.candidate_counts == rig.seen.stable_counts == wire.AnswerCounts()


async def test_only_the_control_bucket_is_compared(rig: Rig) -> None:
    for npc in (HIGH, None):
        rig.choose(npc)[1].on_first_token(0.1, "p")
    rig.choose(LOW)[1].on_first_token(0.5, "p")
    assert rig.seen.pairs == 0
    rig.choose(CONTROL)[1].on_first_token(0.1, "p")
    assert (rig.seen.pairs, rig.seen.slower, rig.seen.timed, rig.seen.npcs) == (1, 1, 1, 1)


async def test_who_is_held_back_from_the_candidate_is_not_compared_with_it(rig: Rig) -> None:
    rig.apply(table(overrides=[{"npc": LOW.decode()}, {"npc": HIGH.decode(), "candidate": True}]))
    rig.choose(HIGH)[1].on_first_token(0.5, "p")
    rig.choose(LOW)[1].on_first_token(0.1, "p")
    assert rig.seen.pairs == 0


async def test_a_first_token_over_the_limit_is_counted_after_the_warm_up(rig: Rig) -> None:
    rig.apply(table(warmup=1, first_token_milliseconds=200))
    for seconds in (0.9, 0.1, 0.3):
        rig.choose(LOW)[1].on_first_token(seconds, "p")
    assert (rig.seen.timed, rig.seen.over_limit) == (2, 1)


GUARD = {"max_error_percent": 5}


async def test_too_many_bad_answers_take_the_candidate_off_at_once_and_for_good(rig: Rig) -> None:
    rig.apply(table(guard=GUARD))
    for _ in range(3):
        assert rig.say(LOW, Outcome.ERROR) == NEW
    assert rig.say(LOW) == OLD
    assert rig.seen.withdrawn.startswith("3 of 3 answers were bad (3 failed)")
    # Another step, another stable digest, away and back: it is the same candidate.
    for pushed in (
        table(guard=GUARD, candidate_below=5_000),
        table(stable=THIRD),
        route_table(tiers=("gold",)),
        table(),
    ):
        rig.apply(pushed)
        assert rig.choose(LOW)[0].digest != NEW
    rig.apply(table(stable=THIRD))
    assert rig.seen.withdrawn
    rig.apply(table(candidate=THIRD))
    assert rig.choose(LOW)[0].digest == THIRD
    assert rig.seen.withdrawn == ""


async def test_another_attempt_is_another_try_of_what_was_taken_off_and_counts_from_nothing(rig: Rig) -> None:
    rig.apply(table(guard=GUARD, attempt=1))
    for _ in range(3):
        rig.say(LOW, Outcome.ERROR)
    assert rig.seen.withdrawn
    # Somebody put the stable digest back, mended what was wrong, and names the candidate again.
    rig.apply(route_table(tiers=("gold",)))
    rig.apply(table(guard=GUARD, attempt=2))
    assert (rig.seen.attempt, rig.seen.withdrawn, rig.seen.candidate_counts.requests) == (2, "", 0)
    assert rig.choose(LOW)[0].digest == NEW
    # What some event loop saw of the first try says nothing of the second.
    rig.rollouts.withdraw(Pair("vampire", "gold", OLD, NEW, attempt=1), "seen elsewhere")
    assert rig.choose(LOW)[0].digest == NEW
    rig.rollouts.withdraw(Pair("vampire", "gold", OLD, NEW, attempt=2), "bad again")
    assert rig.choose(LOW)[0].digest == OLD


async def test_what_was_taken_off_is_remembered_for_its_newest_attempt_alone(rig: Rig) -> None:
    for attempt in range(1, 50):
        rig.apply(table(guard=GUARD, attempt=attempt))
        for _ in range(3):
            rig.say(LOW, Outcome.ERROR)
        assert rig.seen.withdrawn
    assert rig.rollouts.remembered == 1


async def test_what_another_event_loop_saw_takes_it_off_too(rig: Rig) -> None:
    rig.rollouts.withdraw(Pair("vampire", "gold", OLD, NEW), "seen elsewhere")
    assert rig.choose(LOW)[0].digest == OLD
    assert rig.seen.withdrawn == "seen elsewhere"


async def test_counts_go_on_over_steps_and_begin_anew_with_another_pair(rig: Rig) -> None:
    rig.say(HIGH)
    rig.apply(table(candidate_below=BELOW + 1, generation=2))
    rig.say(HIGH)
    assert rig.seen.stable_counts.requests == 2
    rig.apply(table(stable=THIRD, generation=3))
    assert rig.seen.stable_counts.requests == 0


async def test_a_line_of_a_table_that_is_not_in_force_any_more_gets_no_candidate(rig: Rig) -> None:
    old = rig.alias
    rig.apply(table(generation=2))
    target, observer = rig.rollouts.choose(old, LOW)
    assert (target.digest, observer) == (OLD, NOBODY)


async def test_probes_are_wanted_only_while_the_table_says_so_and_the_candidate_is_on(rig: Rig) -> None:
    assert rig.rollouts.probed() == []
    rig.apply(table(probe={"prompt": "Who are you?"}))
    assert rig.rollouts.probed() == [rig.alias]
    rig.rollouts.withdraw(Pair("vampire", "gold", OLD, NEW), "bad")
    assert rig.rollouts.probed() == []
    assert rig.rollouts.probe_lines(rig.alias) is None


async def test_a_probe_must_say_what_probes_must_say(rig: Rig) -> None:
    rig.apply(table(probe={"prompt": "Who are you?", "must_match": ["(?i)count"], "must_not_match": ["zombie"]}))
    for text in ("I am the Count.", "I am a count and no zombie.", "I am nobody."):
        lines = rig.rollouts.probe_lines(rig.alias)
        assert lines is not None
        lines[0].on_answer(answer(text))
        lines[0].on_end(Outcome.OK)
    counts = await rig.judged(3)
    assert (counts.probes, counts.mismatched) == (3, 2)
