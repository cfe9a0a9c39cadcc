"""The command line: every command explains itself, and mistakes are answered before anything happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster import __main__ as cli
from hack.cluster import drivers
from hack.cluster.errors import ClusterError
from hack.cluster.node import heard_at, is_ready
from hack.cluster.node_config import cni, containerd, kubelet, parse_taint
from hack.cluster.paths import NodeLayout
from hack.cluster.pki import Pair
from hack.cluster.state import NodeSpec

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["up"],
        ["down"],
        ["status"],
        ["load-image"],
        ["kubeconfig"],
        ["node"],
        ["node", "add"],
        ["node", "remove"],
        ["node", "notice"],
        ["node", "silence"],
        ["node", "revive"],
        ["karpenter"],
        ["karpenter", "up"],
        ["karpenter", "down"],
        ["logs"],
    ],
)
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--help"])
    assert end.value.code == 0
    assert "usage: python3 -m hack.cluster" in capsys.readouterr().out


def test_the_tool_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, pkgutil, importlib, hack.cluster, hack.images\n"
        "for package in (hack.cluster, hack.images):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "known = set(sys.stdlib_module_names) | {'hack', '__main__'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} - known))\n"
    )
    # -S: no site-packages at all, as on a bare machine.
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_mistake_ends_with_status_1_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise ClusterError("what is wrong and what to do")

    monkeypatch.setattr(cli, "driver", refuse)
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err == "[cluster] error: what is wrong and what to do\n"


def test_ctrl_c_ends_with_status_130_and_says_that_going_on_is_safe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "driver", interrupt)
    assert cli.main(["up"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_labels_are_pairs() -> None:
    assert cli.parse_labels(["a=b", "c=d=e", "empty="]) == {"a": "b", "c": "d=e", "empty": ""}
    with pytest.raises(ClusterError, match="KEY=VALUE"):
        cli.parse_labels(["novalue"])


def test_taints_are_read_as_kubectl_writes_them() -> None:
    assert parse_taint("k=v:NoSchedule") == {"key": "k", "value": "v", "effect": "NoSchedule"}
    assert parse_taint("k:NoExecute") == {"key": "k", "value": "", "effect": "NoExecute"}


@pytest.mark.parametrize("text", ["", "k", "k=v", "k=v:Sometimes", ":NoSchedule", "=v:NoSchedule"])
def test_a_taint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="NoSchedule"):
        parse_taint(text)


def test_the_local_driver_is_preferred_and_docker_is_not_even_asked() -> None:
    assert drivers.choose(None, lambda: pytest.fail("asked Docker")) == "local"


def test_kind_is_used_where_the_local_driver_cannot_be() -> None:
    assert drivers.choose("it needs root", lambda: None) == "kind"


def test_without_any_driver_the_reasons_are_said() -> None:
    with pytest.raises(ClusterError, match=r"it needs root.*no docker"):
        drivers.choose("it needs root", lambda: "there is no docker command")


def test_a_second_driver_beside_a_running_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "recorded_driver", lambda: "local")
    with pytest.raises(ClusterError, match="end it first"):
        drivers.driver("kind")
    assert drivers.driver("auto").name == "local"


def test_a_context_is_never_passed_over_for_another_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "recorded_driver", lambda: "local")
    with pytest.raises(ClusterError, match="--driver context"):
        drivers.driver("auto", context="production")
    monkeypatch.setattr(drivers, "recorded_driver", lambda: "context")
    assert drivers.driver("auto", context="production").name == "context"


def test_a_node_is_ready_when_its_condition_says_so() -> None:
    assert is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not is_ready({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    assert not is_ready({})


def test_a_node_that_a_kubelet_spoke_of_says_when() -> None:
    said = {"type": "Ready", "status": "True", "lastHeartbeatTime": "1970-01-01T00:01:05Z"}
    assert heard_at({"status": {"conditions": [said, {"type": "MemoryPressure"}]}}) == 65.0
    assert heard_at({"status": {"conditions": [said | {"lastHeartbeatTime": None}]}}) == 0.0
    assert heard_at({}) == 0.0


def test_everything_a_node_writes_lies_in_its_folder() -> None:
    files = NodeLayout(Path("/state/nodes/n"))
    spec = NodeSpec("n", 3, {}, ("k=v:NoSchedule",))
    serving = Pair.at(Path("/state/nodes/n/pki"), "kubelet")
    config = kubelet(
        spec, files, address="10.0.3.1", dns="10.0.255.53", client_ca=Path("/state/pki/ca.crt"), serving=serving
    )
    assert config["registerWithTaints"] == [{"key": "k", "value": "v", "effect": "NoSchedule"}]
    for key in ("podLogsDir", "volumePluginDir", "tlsCertFile", "tlsPrivateKeyFile"):
        assert config[key].startswith("/state/nodes/n/")
    text = containerd(files, pause_image="pause:1", snapshotter="overlayfs")
    for key in ("root", "state"):
        assert f'\n{key} = "/state/nodes/n/containerd/{key}"' in text
    assert 'Root = "/state/nodes/n/containerd/runc"' in text
    network = cni("npc-fleet-n", bridge="npcf3", subnet="10.0.3.0/24", gateway="10.0.3.1", leases=files.cni / "leases")
    assert network["plugins"][0]["ipam"]["dataDir"] == "/state/nodes/n/cni/leases"
