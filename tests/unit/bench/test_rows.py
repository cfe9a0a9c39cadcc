"""The pure parts of the rows: what counts as a write at rest, whose CPU it was, what the gateway's figures mean."""

from __future__ import annotations

from typing import Any

import pytest

from hack.bench import objects
from hack.bench.__main__ import build_parser
from hack.bench.operators import USER
from hack.bench.pods import build_pod, pick_addresses, ready_status
from hack.bench.row_cold import describe_cpu, pick_median
from hack.bench.row_gateway import read_affinity, read_figures, read_memory, read_tiers
from hack.bench.row_rest import count_looks, find_writes
from hack.bench.rows import ROWS
from hack.bench.world import made_up
from hack.stack.audit import Request
from npc_operator.api.archetypeadapter import ArchetypeAdapterSpec
from npc_operator.api.gputier import GpuTierSpec
from npc_operator.api.npcregion import NPCRegionSpec
from npc_operator.edge.parse import parse_pod


def request(verb: str, resource: str, *, user: str = USER, code: int = 200, uri: str = "") -> Request:
    return Request(user=user, verb=verb, resource=resource, namespace="bench", name="x", code=code, uri=uri)


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        (request("patch", "archetypeadapters/status"), True),
        (request("create", "events"), True),
        (request("patch", "deployments", code=409), True),
        (request("delete", "pods"), True),
        (request("update", "leases"), False),
        (request("list", "archetypeadapters"), False),
        (request("patch", "archetypeadapters", user="bench-admin"), False),
    ],
)
def test_every_change_by_the_operator_but_its_lease_is_a_write(seen: Request, counts: bool) -> None:
    assert find_writes([seen]) == ([seen] if counts else [])


def test_a_list_in_several_pages_is_one_look() -> None:
    first = request("list", "archetypeadapters", uri="/apis/x?limit=200")
    more = request("list", "archetypeadapters", uri="/apis/x?limit=200&continue=abc")
    other = request("list", "gputiers", uri="/apis/x?limit=200")
    assert count_looks([first, more, more, other, first, more]) == 2


def test_the_cpu_told_is_that_of_the_run_in_the_middle() -> None:
    assert pick_median([9.0, 1.0, 5.0], [{"agents": 9.0}, {"agents": 1.0}, {"agents": 5.0}]) == {"agents": 5.0}
    assert pick_median([9.0, 1.0], [{"agents": 9.0}, {"agents": 1.0}]) == {"agents": 1.0}
    assert describe_cpu({"operator": 1.0, "agents": 20.5}) == "agents 20.5 s, operator 1 s"


def gateway_found() -> dict[str, Any]:
    def runs(p50: float, cpu: float) -> list[dict[str, float]]:
        return [{"p50": p50 + extra, "p99": 2 * p50 + extra, "cpu": cpu, "failed": 0} for extra in (0.0, 0.5)]

    return {
        "rate": 500,
        "rounds": {"mock engine alone": runs(21, 0.1), "npc-gateway": runs(22, 0.09), "vllm-router 1": runs(23, 0.3)},
        "held": {"mock engine alone": 1200.0, "npc-gateway": 1000.0, "vllm-router 1": 900.0},
    }


def test_the_routers_figures_of_the_same_run_are_the_gateways_bars() -> None:
    by_what = {figure.what: figure for figure in read_figures(gateway_found())}
    added = by_what["added p50 at 500/s"]
    assert added.runs == (1.0, 1.0)
    assert added.bar is not None
    assert added.bar.limit == 2.0
    assert by_what["CPU per request"].runs == (0.09, 0.09)
    assert by_what["highest rate held"].verdict() == "yes"
    assert {figure.verdict() for figure in by_what.values()} == {"yes"}


def test_streams_that_could_not_be_opened_are_scaled_up() -> None:
    idle, streaming = read_memory([{"started": 70, "idle": 75, "before": 70, "streaming": 120, "open": 5_000}])
    assert list(idle.runs) == [75]
    assert list(streaming.runs) == [170]
    assert streaming.verdict() == "yes"


def test_gold_beside_bronze_is_told_pair_by_pair() -> None:
    def run(p99: float, shed: float) -> dict[str, float]:
        return {"gold_p99": p99, "gold_failed": 0, "shed_p50": 0.1, "ambient_shed": shed, "normal_shed": shed / 4}

    found = read_tiers({"off": [run(100, 0), run(200, 0)], "on": [run(105, 0.8), run(230, 0.8)]})
    by_what = {figure.what: figure for figure in found}
    gold = by_what["Gold's p99 with Bronze at five times its capacity, over without"]
    assert list(gold.runs) == [105, 115]
    assert (gold.median, gold.verdict()) == (110, "median")
    assert list(by_what["Ambient lines shed"].runs) == [80, 80]


def test_affinity_must_do_better_than_the_least_busy_pod() -> None:
    def run(cached: float, p50: float) -> dict[str, float]:
        return {"cached": cached, "first_p50": p50, "first_p99": 2 * p50, "busiest": 1.1, "failed": 0}

    found = {figure.what: figure for figure in read_affinity({"off": [run(50, 40)], "on": [run(80, 45)]})}
    assert found["blocks of prompts found cached"].verdict() == "yes"
    assert found["first token, p50"].verdict() == "no"


def test_the_objects_of_the_world_are_what_the_product_understands() -> None:
    GpuTierSpec.model_validate(objects.build_tier(replicas=10, slots=1100)["spec"])
    NPCRegionSpec.model_validate(objects.build_region(gateways=2)["spec"])
    name, uri, digest = made_up(7, 0)
    ArchetypeAdapterSpec.model_validate(objects.build_adapter(name, uri=uri, digest=digest)["spec"])
    assert made_up(7, 1)[2] != digest


def test_a_pod_that_is_played_is_a_ready_pod_to_the_operator() -> None:
    deployment = {
        "metadata": {"namespace": "bench"},
        "spec": {
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/component": "engine", "npcfleet.dev/tier": "gold"}},
                "spec": {"containers": [{"name": "engine"}], "initContainers": [{"name": "agent"}]},
            }
        },
    }
    pod = build_pod(deployment, "gold-on-demand-0")
    pod["metadata"]["uid"] = "uid"
    pod["status"] = ready_status(pod, "127.9.9.1")
    seen = parse_pod(pod)
    assert (seen.ready, seen.ip, seen.tier, seen.component) == (True, "127.9.9.1", "gold", "engine")
    assert {container.name for container in seen.containers} == {"agent", "engine"}


def test_addresses_are_distinct_and_loopback() -> None:
    found = pick_addresses(12)
    assert len(set(found)) == 12
    assert all(address.startswith("127.") and not address.startswith("127.0.0.") for address in found)


def test_ready_speaks_of_the_present_generation_only() -> None:
    ready = {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}
    assert objects.is_ready({"metadata": {"generation": 2}, "status": ready})
    assert not objects.is_ready({"metadata": {"generation": 3}, "status": ready})
    assert not objects.is_ready({"metadata": {"generation": 1}})


def test_help_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(f"\n  {row.name} " in told for row in ROWS)
    # What can be asked of one row alone.
    assert "\n  python -m hack.bench.spot_cells --trace FILE " in told
    assert "\n  make bench-plot " in told
    assert "\n  python -m hack.bench.gateway --plain " in told
    assert "of each figure; of spot a run is a seed" in " ".join(told.split())


def test_an_unknown_row_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["nothing"])
    assert ended.value.code == 2
    assert "nothing" in capsys.readouterr().err
