"""What the other pods of a tier can do for one that goes."""

from __future__ import annotations

import pytest

from npc_operator.domain.engines import Engine
from npc_operator.domain.interruption.crowd import Crowd, Help, is_going
from npc_operator.domain.interruption.notices import Kind
from npc_operator.domain.interruption.record import Record
from npc_runtime.wire import EngineState, served_name
from tests.support.builders import agent_fact, digest, pod_fact, report

VOICES = ("vampire", "zombie")
VAMPIRE, ZOMBIE = (served_name(name, digest(name)) for name in VOICES)
ALL = frozenset({VAMPIRE, ZOMBIE})


def engine(name: str, *voices: str, heard: bool = True, ready: bool = True, unrouted: bool = False) -> Engine:
    pod = pod_fact(name, ready=ready)
    state = EngineState.READY if ready else EngineState.STARTING
    agent = agent_fact(pod, [report(voice, digest(voice)) for voice in voices], state=state) if heard else None
    return Engine(pod, agent, unrouted)


def look(*others: Engine, mine: Engine, going: tuple[str, ...] = (), wanted: int = 2) -> Help:
    engines = (mine, *others)
    uids = {f"uid-{name}" for name in (mine.pod.name, *going)}
    return Crowd(engines, going=uids, routed=ALL, wanted_names=ALL, wanted=wanted).help_for(mine)


MINE = engine("mine", *VOICES)


@pytest.mark.parametrize(
    ("others", "going", "helped"),
    [
        ((), (), Help(False, False, False)),
        ((engine("a", *VOICES),), (), Help(True, True, False)),
        ((engine("a", *VOICES), engine("b", *VOICES)), (), Help(True, True, True)),
        ((engine("a", "vampire"), engine("b", "zombie")), (), Help(True, True, True)),
        ((engine("a", "vampire"),), (), Help(False, False, False)),
        ((engine("a", *VOICES),), ("a",), Help(False, False, False)),
        ((engine("a", *VOICES, ready=False),), (), Help(False, False, False)),
        ((engine("a", *VOICES, unrouted=True),), (), Help(False, False, False)),
        ((engine("a", heard=False),), (), Help(False, False, False)),
    ],
)
def test_others_help_as_far_as_they_serve_stay_and_hold_what_is_asked_for(
    others: tuple[Engine, ...], going: tuple[str, ...], helped: Help
) -> None:
    assert look(*others, mine=MINE, going=going) == helped


def test_what_a_pod_does_not_hold_nobody_has_to_take_from_it() -> None:
    assert look(engine("a", "zombie"), mine=engine("mine", "zombie")) == Help(True, True, False)


def test_of_a_pod_that_was_never_heard_everything_may_be_asked() -> None:
    unheard = engine("mine", heard=False)
    assert not look(engine("a", "zombie"), mine=unheard).others_can_take
    assert look(engine("a", *VOICES), mine=unheard).others_can_take


def test_a_pod_that_stays_is_no_help_to_itself() -> None:
    alone = Crowd((MINE,), going=set(), routed=ALL, wanted_names=ALL, wanted=1)
    assert alone.help_for(MINE) == Help(False, False, False)
    two = Crowd((MINE, engine("a", *VOICES)), going=set(), routed=ALL, wanted_names=ALL, wanted=2)
    assert two.help_for(MINE) == Help(True, True, False)


def test_where_there_is_no_other_pod_nobody_takes_lines_though_none_are_asked_for() -> None:
    for going in ({"uid-mine"}, set[str]()):
        alone = Crowd((MINE,), going=going, routed=frozenset(), wanted_names=ALL, wanted=1)
        assert not alone.help_for(MINE).others_can_take


def test_a_pod_that_is_not_heard_any_more_is_no_help() -> None:
    pods = (MINE, engine("a", *VOICES), engine("b", "vampire"))
    crowd = Crowd(pods, going={"uid-mine"}, silent={"uid-a"}, routed=ALL, wanted_names=ALL, wanted=2)
    assert crowd.help_for(MINE) == Help(False, False, True)


@pytest.mark.parametrize(
    ("kind", "deadline", "going"),
    [
        (Kind.INTERRUPTION, 100.0, True),
        (Kind.TERMINATION, None, True),
        (Kind.DRAIN, None, True),
        (Kind.NODE_LOST, None, True),
        (Kind.REBALANCE, None, False),
        (Kind.CORDON, None, False),
        (Kind.SCHEDULED, 100_000.0, False),
        (Kind.SCHEDULED, 500.0, True),
    ],
)
def test_who_goes_is_no_help(kind: Kind, deadline: float | None, going: bool) -> None:
    assert is_going(Record(kind=kind, since=0.0, deadline=deadline), 50.0) is going
