"""Finding a container's process, and saying of a pod what a person would want to know first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hack.stack.diagnosis import condition_lines, is_well, pod_lines
from hack.stack.faults import NoSuchProcess, container_status, first_process

ID = "containerd://4f2a"


def process(proc: Path, pid: int, *, cgroup: str, inner: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(f"11:memory:{cgroup}\n")
    (folder / "status").write_text(f"Name:\tpython3\nNSpid:\t{pid}\t{inner}\nThreads:\t1\n")


def test_process_one_of_a_container_is_found_by_its_cgroup(tmp_path: Path) -> None:
    process(tmp_path, 100, cgroup="/npc/pod1/4f2a", inner="17")
    process(tmp_path, 101, cgroup="/npc/pod1/4f2a", inner="1")
    process(tmp_path, 102, cgroup="/npc/pod1/9999", inner="1")
    assert first_process(ID, tmp_path) == 101


@pytest.mark.parametrize("identity", [ID, ""])
def test_without_such_a_container_nothing_is_ever_found(tmp_path: Path, identity: str) -> None:
    process(tmp_path, 102, cgroup="/npc/pod1/9999", inner="1")
    with pytest.raises(NoSuchProcess):
        first_process(identity, tmp_path)


def test_a_process_that_ends_while_one_looks_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "99").mkdir()
    process(tmp_path, 101, cgroup="/npc/pod1/4f2a", inner="1")
    assert first_process(ID, tmp_path) == 101


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "gold-0"}, "spec": {"nodeName": "spot-1"}, "status": {"phase": "Running", **status}}


READY = {"type": "Ready", "status": "True"}


def test_a_ready_pod_takes_one_line() -> None:
    seen = pod(conditions=[READY], containerStatuses=[{"name": "engine", "state": {"running": {}}}])
    assert is_well(seen)
    assert pod_lines(seen) == ["pod gold-0: Running on spot-1"]


def test_a_container_that_waits_says_for_what() -> None:
    waiting = {"name": "engine", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    seen = pod(conditions=[], containerStatuses=[waiting])
    assert pod_lines(seen) == [
        "pod gold-0: Running, not ready on spot-1",
        "  engine waits: ImagePullBackOff no such image",
    ]


def test_a_crash_shows_with_its_exit_code_and_restarts_also_of_an_init_container() -> None:
    crashed = {
        "name": "agent",
        "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        "restartCount": 3,
    }
    assert "  agent ended with 137 OOMKilled, 3 restarts" in pod_lines(pod(initContainerStatuses=[crashed]))


def test_a_finished_init_container_is_no_news() -> None:
    done = {"name": "model", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}, "restartCount": 0}
    assert pod_lines(pod(conditions=[READY], initContainerStatuses=[done])) == ["pod gold-0: Running on spot-1"]


def test_a_pod_without_a_node_says_what_the_scheduler_said() -> None:
    seen = {
        "metadata": {"name": "gold-0"},
        "spec": {},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}],
        },
    }
    assert pod_lines(seen) == ["pod gold-0: Pending, not ready on no node", "  not scheduled: 0/2 nodes"]


def test_conditions_are_told_or_that_there_are_none() -> None:
    tier: dict[str, Any] = {"kind": "GpuTier", "metadata": {"name": "gold"}}
    assert condition_lines(tier) == ["GpuTier gold: no status: the operator has not looked at it"]
    tier["status"] = {"conditions": [{"type": "Ready", "status": "False", "reason": "Starting", "message": "0 of 1"}]}
    assert condition_lines(tier) == ["GpuTier gold:", "  Ready=False Starting: 0 of 1"]


def test_the_status_of_a_container_is_found_among_init_containers_too() -> None:
    seen = pod(initContainerStatuses=[{"name": "agent", "restartCount": 2}], containerStatuses=[{"name": "engine"}])
    assert container_status(seen, "agent")["restartCount"] == 2
    assert container_status(seen, "model") == {}
