"""The tool from its command line to an API server: what it reads, and what it says when it may not or cannot."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from npc_runtime.cli.clients.faults import split_path
from tests.component.cli.conftest import CORE, LEASES, OWN, POD, Run, ours
from tests.component.cli.fake_api import FakeApi
from tests.unit.cli import objects as o


async def test_status_shows_the_contexts_namespace(run: Run) -> None:
    ran = await run("status")
    assert ran.code == Code.FINE
    assert ran.out.startswith("Regions\nNAME ")
    assert "vampire" in ran.out
    assert ran.err == ""


async def test_status_of_all_namespaces_asks_once_for_each_kind(run: Run, api: FakeApi) -> None:
    for kind in ("npcregions", "gputiers", "archetypeadapters"):
        api.put(f"/apis/npcfleet.dev/v1alpha1/{kind}", *api.collections[f"{OWN}/{kind}"])
    ran = await run("status", "-A", "-o", "json")
    assert [one["name"] for one in json.loads(ran.out)["regions"]] == ["eu-west"]
    assert len(api.requests) == 4


async def test_lists_are_read_to_their_last_page(run: Run, api: FakeApi) -> None:
    api.put(f"{OWN}/gputiers", *(o.tier(f"tier-{number}") for number in range(6)))
    ran = await run("status", "-o", "json")
    assert len(json.loads(ran.out)["tiers"]) == 7


async def test_why_reads_one_namespace_and_answers_with_its_code(run: Run, api: FakeApi) -> None:
    assert (await run("why", "vampire")).code == Code.FINE
    api.collections[f"{CORE}/pods"][0]["status"]["conditions"][0]["status"] = "False"
    ran = await run("why", f"pod/{POD}", "-o", "yaml")
    assert ran.code == Code.NOT_AS_WANTED
    assert "reason: NotReady" in ran.out


async def test_another_context_brings_its_namespace(run: Run, api: FakeApi) -> None:
    await run("why", "--context", "other")
    assert ("GET", "/apis/npcfleet.dev/v1alpha1/namespaces/us-east/npcregions") in api.requests


async def test_a_missing_right_on_our_kinds_ends_with_its_name(run: Run, api: FakeApi) -> None:
    api.refused.add(("list", "gputiers"))
    ran = await run("status")
    assert ran.code == Code.FORBIDDEN
    assert ran.out == ""
    assert ran.err == (
        "error: you may not list gputiers.npcfleet.dev in namespace eu-west\n"
        "next: ask for the right, then check it with: kubectl auth can-i list gputiers.npcfleet.dev -n eu-west\n"
    )


async def test_a_missing_right_on_what_explains_is_said_and_the_rest_is_told(run: Run, api: FakeApi) -> None:
    api.refused |= {("list", "nodes"), ("list", "events"), ("get", "leases")}
    ran = await run("why", "gold")
    assert ran.code == Code.FINE
    assert "not looked at: nodes: you may not list nodes\n" in ran.out
    assert "not looked at: events: you may not list events in namespace eu-west" in ran.out
    assert "OperatorAbsent" not in ran.out


async def test_what_explains_and_does_not_answer_is_said_and_the_rest_is_told(run: Run, api: FakeApi) -> None:
    api.broken |= {f"{CORE}/events": 500, f"{LEASES}/npc-operator": 504}
    ran = await run("why", "gold")
    assert ran.code == Code.FINE, ran.err
    assert "not looked at: events: the API server answered 500 for events" in ran.out
    assert "not looked at: leases: the API server answered 504 for leases" in ran.out
    assert "OperatorAbsent" not in ran.out
    assert "not looked at: leases" in (await run("status")).out
    api.broken[f"{CORE}/pods"] = 500
    assert (await run("matrix")).code == Code.NO_CLUSTER


async def test_a_list_whose_rest_has_expired_is_read_again_from_its_beginning(run: Run, api: FakeApi) -> None:
    api.put(f"{OWN}/gputiers", *(o.tier(f"tier-{number}") for number in range(6)))
    api.expires = True
    ran = await run("status", "-o", "json")
    assert ran.code == Code.FINE, ran.err
    assert len({one["name"] for one in json.loads(ran.out)["tiers"]}) == 7
    assert len(json.loads(ran.out)["tiers"]) == 7


async def test_missing_crds_are_said_with_the_command_that_installs_them(run: Run, api: FakeApi) -> None:
    api.absent.add(f"{OWN}/npcregions")
    ran = await run("why", "vampire")
    assert ran.code == Code.NOT_FOUND
    assert "the cluster does not know the kind NPCRegion.npcfleet.dev: the CRDs are not installed" in ran.err
    assert "helm install npc-crds" in ran.err


async def test_an_absent_operator_is_the_first_cause(run: Run, api: FakeApi) -> None:
    api.collections[LEASES].clear()
    ran = await run("why")
    assert ran.code == Code.NOT_AS_WANTED
    assert "1. operator: OperatorAbsent" in ran.out


async def test_a_name_that_is_not_there_ends_with_4_and_an_unclear_one_with_2(run: Run, api: FakeApi) -> None:
    assert (await run("why", "ghost")).code == Code.NOT_FOUND
    api.put(f"{OWN}/gputiers", o.tier("vampire"))
    assert (await run("why", "vampire")).code == Code.USAGE


async def test_a_caller_whom_the_api_server_does_not_know_is_told_so(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace("callers-own-token", "wrong"))
    ran = await run("status")
    assert ran.code == Code.NO_CLUSTER
    assert "does not know you" in ran.err
    assert "wrong" not in ran.err


async def test_an_api_server_that_is_away_ends_with_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else can get the port, and nobody answers.
        taken.bind(("127.0.0.1", 0))
        config = FakeApi(port=taken.getsockname()[1]).kubeconfig(tmp_path)
        assert await asyncio.to_thread(main, ["status", "--kubeconfig", config]) == Code.NO_CLUSTER
    assert "does not answer" in capsys.readouterr().err


async def test_a_server_that_never_answers_costs_as_long_as_the_caller_allows(run: Run, api: FakeApi) -> None:
    api.mute.add(f"{OWN}/npcregions")
    ran = await run("status", "--request-timeout", "0.2")
    assert ran.code == Code.NO_CLUSTER
    assert "does not answer" in ran.err


async def test_status_of_all_namespaces_says_which_even_where_there_is_one(run: Run, api: FakeApi) -> None:
    for kind in ("npcregions", "gputiers", "archetypeadapters"):
        api.put(f"/apis/npcfleet.dev/v1alpha1/{kind}", *api.collections[f"{OWN}/{kind}"])
    ran = await run("status", "-A")
    assert ran.out.startswith("Regions\nNAMESPACE   NAME ")


async def test_only_looking_changes_nothing(run: Run, api: FakeApi) -> None:
    for words in (("status",), ("why",), ("why", "gold")):
        await run(*words)
    assert {method for method, _ in api.requests} == {"GET"}


async def test_other_pods_of_the_namespace_are_not_looked_at(run: Run, api: FakeApi) -> None:
    stranger = o.pod("database-0")
    stranger["metadata"]["labels"] = {}
    api.put(f"{CORE}/pods", stranger)
    assert (await run("why", "pod/database-0")).code == Code.NOT_FOUND
    api.put(f"{CORE}/pods", ours(o.pod("gold-spot-1")))
    assert (await run("why", "pod/gold-spot-1")).code == Code.FINE


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/nodes", ("nodes", "", "")),
        ("/api/v1/namespaces/eu/pods/gold-1", ("pods", "eu", "gold-1")),
        ("/api/v1/namespaces/eu/pods/gold-1/log", ("pods/log", "eu", "gold-1")),
        ("/apis/apps/v1/namespaces/eu/deployments", ("deployments", "eu", "")),
        ("/apis/npcfleet.dev/v1alpha1/gputiers", ("gputiers.npcfleet.dev", "", "")),
        (
            "/apis/coordination.k8s.io/v1/namespaces/npc-system/leases/npc-operator",
            ("leases.coordination.k8s.io", "npc-system", "npc-operator"),
        ),
    ],
)
def test_a_path_is_named_as_kubectl_auth_can_i_names_it(path: str, said: tuple[str, str, str]) -> None:
    assert split_path(path) == said
