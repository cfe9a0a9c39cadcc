"""What gateways saw of candidates: added up, kept for as long as the candidate is one, and told to exactly whom it
concerns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from npc_operator.domain.facts import Adapter, GatewayFact, Pod
from npc_operator.domain.keys import Key, KeyKind
from npc_operator.loop.store import Change, Store
from npc_operator.reconcilers import triggers
from npc_operator.reconcilers.evidence import Ledger
from npc_operator.reconcilers.world import World
from npc_runtime.wire import AnswerCounts, RolloutReport, Stamp
from tests.component.operator import harness
from tests.support.builders import NAMESPACE, adapter, adapter_fact, digest, region, tier
from tests.support.fake_clock import FakeClock

OLD, NEW, OTHER = digest("old"), digest("new"), digest("other")
STAMP = Stamp(epoch=1, generation=1)


def voice(
    candidate: str | None = NEW,
    *,
    step: int = 1,
    since: str = "2026-11-01T00:00:00Z",
    attempt: int = 0,
    **more: Any,
) -> Adapter:
    status: dict[str, Any] = {"tier": "gold", "stable": {"digest": OLD, "uri": "s3://a/o"}, "attempt": attempt}
    if candidate is not None:
        status |= {
            "candidate": {"digest": candidate, "uri": "s3://a/n"},
            "rollout": {"phase": "Watching", "step": step, "since": since},
        }
    return adapter_fact("vampire", digests={"gold": candidate or OLD}, status={"variants": [status]}, **more)


def said(requests: int, errors: int = 0, *, stable: int = 0, **more: Any) -> RolloutReport:
    fields: dict[str, Any] = {
        "archetype": "vampire",
        "tier": "gold",
        "stable": OLD,
        "candidate": NEW,
        "candidate_counts": AnswerCounts(requests=requests, errors=errors),
        "stable_counts": AnswerCounts(requests=stable),
    }
    return RolloutReport(**{**fields, **more})


class Scene:
    """A store with one voice, and gateways that report into it."""

    def __init__(self, known: Adapter | None = None) -> None:
        self.store = Store(FakeClock())
        self.put(known or voice(None))
        self.begin()

    def begin(self) -> None:
        """Another leader: nothing remembered but what the store holds."""
        self.ledger = Ledger(self.store)
        self.store.subscribe(self.ledger.note)

    def put(self, known: Adapter) -> None:
        self.store.put(Adapter, NAMESPACE, known.meta.name, known)

    def hear(self, pod: str, *reports: RolloutReport, boot: str = "b1") -> None:
        self.store.put(GatewayFact, NAMESPACE, pod, GatewayFact(f"uid-{pod}", boot, STAMP, rollouts=reports))

    def seen(self, candidate: str = NEW, **more: Any) -> Any:
        """What is known, of gateways that were listened to for long enough."""
        wanted: dict[str, Any] = {"now": 0.0, "listening": 0.0, **more}
        return self.ledger.evidence(NAMESPACE, "vampire", "gold", candidate, **wanted)


def test_what_all_gateways_saw_is_added_up() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10, 1, stable=90, pairs=4, slower=1, timed=9, over_limit=2, lowest_heard=700))
    scene.hear("gw-1", said(5, stable=40, pairs=2, slower=2, timed=3, lowest_heard=300))
    scene.hear("gw-2", said(0))
    seen = scene.seen()
    assert (seen.candidate.requests, seen.candidate.errors, seen.stable.requests) == (15, 1, 130)
    assert (seen.pairs, seen.slower, seen.timed, seen.over_limit, seen.lowest_heard) == (6, 3, 12, 2, 300)
    assert scene.seen(OTHER) == scene.seen(OLD), "nobody has these as a candidate"
    assert scene.seen(OTHER).candidate.requests == 0


def test_a_gateway_that_begins_anew_or_is_gone_takes_nothing_away() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10, 1))
    scene.hear("gw-1", said(7))
    scene.hear("gw-0", said(3), boot="b2")
    assert scene.seen().candidate.requests == 20
    scene.hear("gw-0", boot="b3")
    scene.hear("gw-0", said(1), boot="b3")
    assert scene.seen().candidate.requests == 21
    scene.hear("gw-0", said(1, lowest_heard=900), boot="b3")
    scene.hear("gw-1", said(7, lowest_heard=40))
    scene.store.put(Pod, NAMESPACE, "gw-1", Pod(NAMESPACE, "gw-1", "uid-gw-1", "gateway"))
    scene.store.drop(GatewayFact, NAMESPACE, "gw-1")
    scene.store.drop(Pod, NAMESPACE, "gw-1")
    assert scene.seen().candidate.requests == 21
    assert scene.seen().candidate.errors == 1
    assert scene.seen().lowest_heard == 900, "nothing else of a gateway that is gone is kept"


def test_characters_are_not_added_up_because_gateways_hear_the_same_ones() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10, pairs=4, npcs=3))
    scene.hear("gw-1", said(10, pairs=4, npcs=5))
    assert scene.seen().npcs == 5
    scene.hear("gw-1", said(1), boot="b2")
    assert scene.seen().npcs == 5, "the pairs of the process that is gone still count"


def test_losing_contact_and_hearing_the_same_process_again_counts_nothing_twice() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10))
    fact = scene.store.get(GatewayFact, NAMESPACE, "gw-0")
    assert fact is not None
    scene.store.put(GatewayFact, NAMESPACE, "gw-0", replace(fact, reachable=False))
    scene.store.drop(GatewayFact, NAMESPACE, "gw-0")
    scene.hear("gw-0", said(12))
    assert scene.seen().candidate.requests == 12


def test_another_stable_digest_beside_the_same_candidate_begins_another_count() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10))
    scene.hear("gw-0", said(4).model_copy(update={"stable": OTHER}))
    assert scene.seen().candidate.requests == 14


def test_a_step_counts_from_its_own_beginning() -> None:
    scene = Scene()
    scene.hear("gw-0")
    scene.put(voice(step=1))
    scene.hear("gw-0", said(30))
    assert scene.seen().step_requests == 30
    scene.put(voice(step=2, since="2026-11-01T00:01:00Z"))
    assert scene.seen().step_requests == 0
    scene.hear("gw-0", said(42))
    assert scene.seen().step_requests == 12
    scene.hear("gw-0", said(5), boot="b2")
    assert scene.seen().step_requests == 12, "nobody knows whether those 5 are of this step"
    scene.hear("gw-0", said(8), boot="b2")
    assert (scene.seen().step_requests, scene.seen().candidate.requests) == (15, 50)


def test_a_caller_that_knows_of_the_next_step_first_sees_no_answers_of_the_last() -> None:
    scene = Scene()
    scene.hear("gw-0")
    scene.put(voice(step=1))
    scene.hear("gw-0", said(30))
    assert scene.seen(mark=("2026-11-01T00:01:00Z", 2)).step_requests == 0
    scene.hear("gw-0", said(33))
    scene.put(voice(step=2, since="2026-11-01T00:01:00Z"))
    scene.put(voice(step=1))  # late news
    assert scene.seen(mark=("2026-11-01T00:01:00Z", 2)).step_requests == 3


def test_a_step_that_begins_earlier_than_the_last_one_is_no_late_news() -> None:
    scene = Scene()
    scene.hear("gw-0")
    scene.put(voice(step=1, since="2026-11-01T00:05:00Z"))
    scene.hear("gw-0", said(30))
    scene.put(voice(step=2, since="2026-11-01T00:01:00Z"))  # the clock was set back, or it is another leader's
    assert scene.seen().step_requests == 0
    scene.put(voice(step=1, since="2026-11-01T00:05:00Z"))  # late news
    scene.hear("gw-0", said(31))
    assert scene.seen().step_requests == 1


def test_the_lowest_npc_of_a_gateway_counts_once_it_was_listened_to_for_a_while() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(10, lowest_heard=9000))

    def lowest(now: float) -> int | None:
        found: int | None = scene.seen(now=now, listening=30.0).lowest_heard
        return found

    assert [lowest(100.0), lowest(129.0), lowest(130.0)] == [None, None, 9000]
    scene.hear("gw-1", said(1, lowest_heard=7000))
    assert [lowest(131.0), lowest(161.0)] == [9000, 7000]
    scene.hear("gw-1", said(1, lowest_heard=9500), boot="b2")
    scene.hear("gw-0", boot="b2")
    scene.hear("gw-0", said(1, lowest_heard=9900), boot="b2")
    assert [lowest(162.0), lowest(192.0)] == [None, 9500]


def test_another_leader_knows_all_that_was_counted_but_not_since_when() -> None:
    scene = Scene(voice(step=2))
    scene.hear("gw-0", said(40, 2, withdrawn="5 of 40 bad"))
    scene.begin()
    assert (scene.seen().candidate.requests, scene.seen().candidate.errors) == (40, 2)
    assert scene.seen().step_requests == 0
    assert scene.seen().withdrawn == "gateway gw-0: 5 of 40 bad"
    scene.hear("gw-1", said(25))  # heard for the first time by this leader
    scene.hear("gw-0", said(41, 2))
    assert (scene.seen().candidate.requests, scene.seen().step_requests) == (66, 1)


def test_nothing_of_an_earlier_rollout_speaks_against_a_candidate_that_is_tried_again() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(100, 40, withdrawn="bad"))
    scene.put(voice(None))
    scene.hear("gw-0", said(101, 41, withdrawn="bad"))
    assert len(scene.ledger) == 0
    scene.put(voice())
    assert scene.seen().candidate.requests == 0
    assert not scene.seen().withdrawn
    scene.hear("gw-0", said(3))
    assert (scene.seen().candidate.requests, scene.seen().candidate.errors) == (3, 0)


def test_what_a_gateway_took_off_stays_taken_off_and_the_first_bad_answer_is_the_earliest() -> None:
    scene = Scene()
    scene.put(voice())
    for pod, first in (("gw-0", 5_000), ("gw-1", 3_000)):
        counts = AnswerCounts(requests=9, errors=9, first_bad_ms=first)
        scene.hear(pod, said(9, candidate_counts=counts, withdrawn=f"seen by {pod}"))
    scene.hear("gw-0", said(0), boot="b2")
    assert scene.seen().first_bad_at == 3.0
    assert scene.seen().withdrawn == "gateway gw-0: seen by gw-0"


def test_what_is_said_late_of_an_earlier_attempt_says_nothing_of_this_one() -> None:
    scene = Scene()
    scene.put(voice(attempt=1))
    scene.hear("gw-0", said(9, 9, attempt=1, withdrawn="bad"))
    assert scene.seen().withdrawn
    scene.put(voice(None, attempt=1))
    scene.put(voice(attempt=2))
    # The gateway has not heard of the second attempt yet, and goes on telling of the first.
    scene.hear("gw-0", said(10, 10, attempt=1, withdrawn="bad"))
    assert (scene.seen().withdrawn, scene.seen().candidate.requests) == ("", 0)
    scene.hear("gw-0", said(4, attempt=2))
    assert (scene.seen().candidate.requests, scene.seen().candidate.errors) == (4, 0)
    scene.put(voice(attempt=3))
    assert scene.seen().candidate.requests == 0, "also where nobody saw it end in between"


def test_what_is_kept_goes_with_the_candidate() -> None:
    scene = Scene()
    scene.put(voice())
    scene.hear("gw-0", said(9))
    scene.put(voice(OTHER))
    assert scene.seen() == scene.seen("sha256:none")
    assert len(scene.ledger) == 1
    scene.store.drop(Adapter, NAMESPACE, "vampire")
    assert len(scene.ledger) == 0


def test_a_world_hands_its_ledger_out() -> None:
    store = Store(FakeClock())
    world = World(store)
    store.put(GatewayFact, NAMESPACE, "gw-0", GatewayFact("u", "b", STAMP))
    store.put(Adapter, NAMESPACE, "vampire", voice())
    store.put(GatewayFact, NAMESPACE, "gw-0", GatewayFact("u", "b", STAMP, rollouts=(said(2),)))
    seen = world.evidence(NAMESPACE, "vampire", "gold", NEW, now=0.0)
    assert (seen.candidate.requests, seen.step_requests) == (2, 2)


# --- who looks again ---


@pytest.fixture
def store() -> Store:
    store = Store(FakeClock())
    for name in ("vampire", "zombie"):
        store.put(Adapter, NAMESPACE, name, adapter_fact(name))
    return store


def marked(store: Store, old: GatewayFact | None, new: GatewayFact | None) -> set[Key]:
    return set(triggers(store, Change(GatewayFact, NAMESPACE, "gw-0", old, new)))


def test_counting_answers_wakes_exactly_the_voices_that_were_counted(store: Store) -> None:
    before = GatewayFact("u", "b", STAMP, rollouts=(said(1), said(5).model_copy(update={"archetype": "zombie"})))
    after = replace(before, rollouts=(said(2), before.rollouts[1]))
    assert marked(store, before, after) == {Key(KeyKind.ADAPTER, NAMESPACE, "vampire")}
    assert marked(store, after, replace(after, rollouts=after.rollouts[:1])) == set()
    first = marked(store, None, after)
    assert {Key(KeyKind.ADAPTER, NAMESPACE, name) for name in ("vampire", "zombie")} < first
    assert not any(key.kind is KeyKind.ADAPTER for key in marked(store, after, replace(after, reachable=False)))
    assert Key(KeyKind.GATEWAY, NAMESPACE, "gw-0") in marked(store, after, replace(after, reachable=False))


async def test_a_report_that_says_the_same_wakes_nobody_and_a_changed_one_its_voice_at_once() -> None:
    world = harness.World()
    world.put(region(), tier(), adapter("vampire"), adapter("zombie"))
    await world.settle()
    gateway = next(iter(world.doors().values()))
    gateway.rollouts = (said(1),)
    ran: list[Key] = []
    reconcile = world.reconcilers.reconcile

    async def note(key: Key) -> Any:
        ran.append(key)
        return await reconcile(key)

    world.reconcilers.reconcile = note  # type: ignore[method-assign]
    world.report()
    await world.settle(seconds=0.1)
    assert ran == [Key(KeyKind.ADAPTER, NAMESPACE, "vampire")]
    world.report()
    await world.settle(seconds=0.1)
    assert len(ran) == 1
