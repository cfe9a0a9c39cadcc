"""status --watch: what changed is shown, and an API server that is away for a moment ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import yaml

from npc_runtime.cli.answers import Code
from tests.component.cli.conftest import LEASES, OWN, Run
from tests.component.cli.fake_api import FakeApi

Act = Callable[[], object]
Script = Callable[[Sequence[Act]], None]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What happens between two looks, one entry after the other; then somebody presses Ctrl-C."""

    def play(acts: Sequence[Act]) -> None:
        left = iter(acts)

        def sleep(_: float) -> None:
            act = next(left, None)
            if act is None:
                raise KeyboardInterrupt
            act()

        monkeypatch.setattr("npc_runtime.cli.__main__.time.sleep", sleep)

    return play


def nothing() -> None:
    """Between two looks nothing happens."""


async def test_watching_shows_what_changed_and_nothing_else(run: Run, api: FakeApi, between: Script) -> None:
    tier = api.collections[f"{OWN}/gputiers"][0]
    between([nothing, lambda: tier["status"].update(readyReplicas=0), nothing])
    ran = await run("status", "--watch")
    assert ran.code == Code.INTERRUPTED
    assert ran.out.count("Regions") == 2
    assert "0/1" in ran.out
    assert "\x1b" not in ran.out


async def test_each_change_is_a_yaml_document_of_its_own(run: Run, api: FakeApi, between: Script) -> None:
    tier = api.collections[f"{OWN}/gputiers"][0]
    between([lambda: tier["status"].update(readyReplicas=0)])
    ran = await run("status", "--watch", "-o", "yaml")
    shown = list(yaml.safe_load_all(ran.out))
    assert [one["tiers"][0]["readyReplicas"] for one in shown] == [1, 0]


async def test_a_server_that_is_away_for_a_moment_is_said_once_and_ends_nothing(
    run: Run, api: FakeApi, between: Script
) -> None:
    tier = api.collections[f"{OWN}/gputiers"][0]

    def back() -> None:
        api.broken.clear()
        tier["status"]["readyReplicas"] = 0

    between([lambda: api.broken.update({f"{OWN}/gputiers": 500}), nothing, back])
    ran = await run("status", "--watch")
    assert ran.code == Code.INTERRUPTED
    assert ran.out.count("Regions") == 2
    assert "0/1" in ran.out
    away, again = ran.err.splitlines()
    assert away.startswith("what is shown is old, and it is tried again: the API server answered 500 for gputiers.")
    assert again == "the cluster answers again"


async def test_a_right_that_is_taken_away_ends_it(run: Run, api: FakeApi, between: Script) -> None:
    between([lambda: api.refused.add(("list", "gputiers")), nothing])
    assert (await run("status", "--watch")).code == Code.FORBIDDEN


async def test_a_first_look_that_fails_ends_it(run: Run, api: FakeApi, between: Script) -> None:
    api.broken[f"{OWN}/gputiers"] = 503
    between([])
    assert (await run("status", "--watch")).code == Code.NO_CLUSTER


async def test_a_namespace_that_fills_up_is_watched_from_empty_on(run: Run, api: FakeApi, between: Script) -> None:
    left = {kind: list(api.collections[f"{OWN}/{kind}"]) for kind in ("npcregions", "gputiers", "archetypeadapters")}
    for kind in left:
        api.collections[f"{OWN}/{kind}"].clear()
    between([nothing, nothing, lambda: api.put(f"{OWN}/npcregions", *left["npcregions"])])
    ran = await run("status", "--watch")
    assert ran.err == "there are no regions, tiers or adapters in namespace eu-west\n"
    assert ran.out.count("Regions") == 2
    assert LEASES in {path.rpartition("/")[0] for _, path in api.requests}
