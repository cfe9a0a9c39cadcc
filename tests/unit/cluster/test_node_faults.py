"""What is written onto nodes, which packets are dropped, what Karpenter is told: as values, without a cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import __main__ as cli
from hack.cluster import faults, go_modules, karpenter, kwok, node_faults, silence
from hack.cluster.bulk import Call, send_all
from hack.cluster.errors import ClusterError
from hack.cluster.karpenter import InstanceType, without_spot
from hack.cluster.kubeapi import ApiError
from hack.cluster.notices import AKS_CONDITION, NTH_TAINT, SOURCES, Source, signs

NOW = datetime(2026, 8, 3, 8, 17, 37, tzinfo=UTC)
DEADLINE = NOW + timedelta(seconds=39)


def test_azure_says_when_in_the_words_of_its_node_problem_detector() -> None:
    (condition,) = signs("aks", node="spot-1", now=NOW, deadline=DEADLINE).conditions
    assert condition["type"] == condition["reason"] == AKS_CONDITION
    assert condition["lastTransitionTime"] == "2026-08-03T08:17:37Z"
    assert condition["message"].startswith("Preempt Scheduled: Mon, 03 Aug 2026 08:18:16 GMT. DurationInSeconds: -1. ")


@pytest.mark.parametrize("source", SOURCES)
def test_only_azure_tells_the_node_when(source: Source) -> None:
    assert bool(signs(source, node="spot-1", now=NOW, deadline=DEADLINE).conditions) is (source == "aks")


def test_the_termination_handlers_taint_names_an_event_that_fits_into_a_taint() -> None:
    (first,), (again,), (other,) = (
        signs("nth", node=node, now=NOW, deadline=DEADLINE).taints for node in ("spot-1", "spot-1", "spot-2")
    )
    assert first["key"] == NTH_TAINT
    assert first["value"].startswith("spot-itn-")
    assert len(first["value"]) == 63
    assert first == again != other


def test_the_silence_of_one_node_names_its_bridge_and_address_and_no_other() -> None:
    text = silence.rules(12, "10.216.12.1")
    assert text.count('ifname "npcf12" drop') == 2
    assert "ip daddr 10.216.12.1 drop" in text
    assert "ip saddr 10.216.12.1 drop" in text
    assert text.count("table inet npc-fleet-silent-12") == 3


def test_only_our_tables_count_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = "table ip npc-fleet\ntable inet npc-fleet-silent-2\ntable inet npc-fleet-silent-11\ntable inet other-2\n"
    ran: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> str:
        ran.append(argv)
        return tables

    monkeypatch.setattr(silence, "run_quiet", run)
    monkeypatch.setattr(silence, "find_command", lambda _name: "/usr/sbin/nft")
    assert silence.silent() == [2, 11]
    assert silence.lift([2, 3]) == [2]
    assert [words for words in ran if "delete" in words] == [["nft", "delete", "table", "inet", "npc-fleet-silent-2"]]


def test_a_host_without_nftables_has_no_silent_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "find_command", lambda _name: None)
    assert silence.lift() == []


def test_an_instance_type_offers_each_price_in_each_zone() -> None:
    kind = InstanceType("g5.xlarge", 4, 16, 1, Decimal("1.006"), Decimal("0.3018"), zones=("a", "b", "c"))
    made = kind.as_file()
    assert made["resources"]["nvidia.com/gpu"] == "1"
    offered = {
        (offering["Price"], *(requirement["values"][0] for requirement in offering["Requirements"]))
        for offering in made["offerings"]
    }
    assert offered == {
        (price, capacity, zone)
        for price, capacity in ((0.3018, "spot"), (1.006, "on-demand"))
        for zone in ("a", "b", "c")
    }


def test_a_market_that_ran_dry_is_one_that_is_not_in_the_file() -> None:
    text = json.dumps([kind.as_file() for kind in without_spot()])
    assert '"spot"' not in text
    assert text.count('"on-demand"') == 2 * len(karpenter.DEFAULT_TYPES)


def test_kwok_looks_after_its_own_nodes_alone() -> None:
    words = kwok.arguments(Path("/kwok"), Path("/kubeconfig"), [Path("/a.yaml"), Path("/b.yaml")])
    assert "--manage-all-nodes=false" in words
    assert "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake" in words
    assert [word for word in words if word.startswith("--config=")] == ["--config=/a.yaml", "--config=/b.yaml"]
    assert kwok.is_fake(kwok.node("n"))
    assert not kwok.is_fake({"metadata": {"name": "real"}})


class _Api:
    """Answers in the order given, then 200; remembers what came."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.seen: list[str] = []
        self.closed = 0

    def connection(self) -> _Api:
        return self

    def request(self, method: str, path: str, **_: Any) -> None:
        self.seen.append(f"{method} {path}")

    def getresponse(self) -> _Api:
        self.status = self.statuses.pop(0) if self.statuses else 200
        return self

    def read(self) -> bytes:
        return b"the server's words"

    def close(self) -> None:
        self.closed += 1


def test_many_calls_are_all_made_and_what_is_as_good_as_done_is_no_error() -> None:
    api = _Api(409)
    calls = [Call("POST", f"/{index}", {}, accept=(409,)) for index in range(100)]
    assert send_all(api, calls, connections=1) == 100  # type: ignore[arg-type]
    assert api.seen == [f"POST /{index}" for index in range(100)]
    assert api.closed == 1
    assert send_all(api, []) == 0  # type: ignore[arg-type]


def test_the_first_call_that_fails_ends_the_rest_and_says_why() -> None:
    api = _Api(200, 403)
    with pytest.raises(ApiError, match="POST /1: 403 the server's words"):
        send_all(api, [Call("POST", f"/{index}") for index in range(100)], connections=1)  # type: ignore[arg-type]
    assert len(api.seen) == 2
    assert api.closed == 1


def test_files_of_a_module_are_copied_once_and_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "module"
    (source / "crds").mkdir(parents=True)
    (source / "crds" / "one.yaml").write_text("one")
    (source / "stage.yaml").write_text("stage")
    for path in (source / "crds" / "one.yaml", source / "stage.yaml"):
        path.chmod(0o444)
    (source / "crds").chmod(0o555)
    asked: list[str] = []

    def fetch(module: str, version: str) -> Path:
        asked.append(f"{module}@{version}")
        return source

    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go_modules, "_source", fetch)
    first = go_modules.module_files("example.org/m", "v1.2.3", ["crds", "stage.yaml"])
    assert go_modules.module_files("example.org/m", "v1.2.3", ["crds", "stage.yaml"]) == first
    folder, file = first
    assert (folder / "one.yaml").read_text() == "one"
    assert file.read_text() == "stage"
    assert asked == ["example.org/m@v1.2.3"]
    for path in (folder, folder / "one.yaml", file):
        assert path.stat().st_mode & 0o200
    with pytest.raises(ClusterError, match="not the version"):
        go_modules.module_files("example.org/m", "v1.2.3", ["gone.yaml"])
    (source / "crds").chmod(0o755)


@pytest.mark.parametrize(
    "words",
    [["node", "notice", "spot-1"], ["node", "silence", "spot-1"], ["node", "revive", "spot-1"], ["karpenter", "up"]],
)
def test_faults_are_refused_on_clusters_of_other_drivers(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        name = "context"

    monkeypatch.setattr(cli, "driver", lambda *_args, **_kwargs: Other())
    assert cli.main(words) == 1
    assert "only the driver 'local' can do this" in capsys.readouterr().err


def test_a_notice_reads_its_time_and_its_giver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        name = "local"

    heard: list[Any] = []

    def give(name: str, *, seconds: float, source: Source) -> datetime:
        heard.append((name, seconds, source))
        return NOW

    monkeypatch.setattr(cli, "driver", lambda *_args, **_kwargs: Local())
    monkeypatch.setattr(node_faults, "give_notice", give)
    monkeypatch.setattr(node_faults, "drain_node", lambda name, *, seconds: heard.append(("drain", name, seconds)))
    monkeypatch.setattr(faults, "kill_node", lambda name: heard.append(("kill", name)))
    words = ["node", "notice", "spot-1", "--seconds", "25", "--as", "aks"]
    assert cli.main(words) == 0
    assert heard == [("spot-1", 25.0, "aks")]
    assert cli.main([*words, "--drain", "--kill"]) == 0
    assert heard[1:] == [("spot-1", 25.0, "aks"), ("drain", "spot-1", 25.0), ("kill", "spot-1")]
