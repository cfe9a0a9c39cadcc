"""The wanted cluster survives the disk; a torn or foreign state is an error with a way out, never a guess."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest

from hack.cluster import files
from hack.cluster import state as state_module
from hack.cluster.addresses import Network, parse_network
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked, write_atomically
from hack.cluster.local import DEFAULT_NODES, LocalDriver, check_name
from hack.cluster.paths import Layout, repository, state_dir
from hack.cluster.state import ClusterState, NodeSpec, claim_host, decode, encode, host_owner, release_host, save

STATE = ClusterState("local", "/src/npc", DEFAULT_NODES, "npc-fleet-local", "10.216.0.0/15")


@pytest.fixture
def owner_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "run" / "owner.json"
    monkeypatch.setattr(state_module, "OWNER_FILE", file)
    monkeypatch.setattr(state_module, "HOST_LOCK", file.parent / "lock")
    return file


def test_a_state_comes_back_as_it_was_written() -> None:
    tainted = STATE.with_node(NodeSpec("gpu", 7, {"a": "b"}, ("x=y:NoSchedule",)))
    assert decode(encode(tainted), Path("f")) == tainted


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "nodes": 3}', '{"format": 99}'])
def test_a_state_that_cannot_be_read_says_how_to_be_rid_of_it(text: str) -> None:
    with pytest.raises(ClusterError, match="down"):
        decode(text, Path("cluster.json"))


def test_a_new_node_gets_the_lowest_free_network() -> None:
    assert STATE.free_index() == 3
    assert STATE.without_node("ondemand-1").free_index() == 1


def test_adding_a_node_of_the_same_name_replaces_it() -> None:
    again = STATE.with_node(NodeSpec("spot-1", 2, {"new": "label"}))
    assert [node.name for node in again.nodes] == ["ondemand-1", "spot-1"]
    assert again.node("spot-1").labels == {"new": "label"}


def test_an_unknown_node_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ClusterError, match="ondemand-1, spot-1"):
        STATE.node("nope")


@pytest.mark.parametrize("name", ["", "UPPER", "-a", "a-", "a/b", "..", "a.b", "x" * 33])
def test_a_name_that_cannot_be_a_node_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot be a node's name"):
        check_name(name)


def test_a_second_state_folder_finds_the_hosts_cluster_instead_of_breaking_it(tmp_path: Path, owner_file: Path) -> None:
    first, second = Layout(tmp_path / "first"), Layout(tmp_path / "second")
    claim_host(first)
    save(first, STATE)
    with pytest.raises(ClusterError, match=str(first.root)):
        claim_host(second)
    release_host(second)
    assert host_owner() == first.root


def test_a_second_checkout_uses_the_hosts_cluster_and_says_whose_it_is(
    tmp_path: Path, owner_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Layout(tmp_path / "first")
    claim_host(first)
    save(first, dataclasses.replace(STATE, checkout="/home/somebody/else"))
    monkeypatch.setenv("NPC_FLEET_STATE", "/srv/second")
    driver = LocalDriver()
    assert driver._wanted(None) == driver.state()
    said = capsys.readouterr().err
    assert "made by the checkout in /home/somebody/else" in said
    assert f"lies in {first.root}, not in /srv/second" in said


def test_the_first_checkout_is_told_nothing_of_itself(
    tmp_path: Path, owner_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPC_FLEET_STATE", "/srv/mine")
    own = dataclasses.replace(STATE, checkout=str(repository()))
    LocalDriver()._say_whose(own)
    assert capsys.readouterr().err == ""


def test_a_claim_whose_cluster_is_gone_binds_nobody(tmp_path: Path, owner_file: Path) -> None:
    claim_host(Layout(tmp_path / "first"))
    claim_host(Layout(tmp_path / "second"))


def test_releasing_the_host_leaves_no_file(tmp_path: Path, owner_file: Path) -> None:
    layout = Layout(tmp_path / "first")
    with locked(state_module.HOST_LOCK, doing="a test"):
        claim_host(layout)
        release_host(layout)
    assert not owner_file.parent.exists()


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    waiting = threading.Event()
    monkeypatch.setattr(files, "say", lambda _message: waiting.set())
    seen: list[bool] = []

    def wait_for_turn() -> None:
        with locked(path, doing="a test"):
            # A third command must meet this lock, so its file has to be there.
            seen.append(path.exists())

    waiter = threading.Thread(target=wait_for_turn)
    with locked(path, doing="a test"):
        waiter.start()
        assert waiting.wait(50)
        path.unlink()
    waiter.join(50)
    assert seen == [True]


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    before = os.umask(0)
    try:
        write_atomically(path, "secret", mode=0o600)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["kubeconfig"]


def test_addresses_of_nodes_control_plane_and_services_do_not_meet() -> None:
    network = Network("10.216.0.0/15")
    assert network.pods == "10.216.0.0/16"
    assert network.services == "10.217.0.0/16"
    assert (network.node(1), network.node_pods(2)) == ("10.216.1.1", "10.216.2.0/24")
    assert (network.control, network.dns, network.api_service) == ("10.216.255.1", "10.216.255.53", "10.217.0.1")


@pytest.mark.parametrize("text", ["10.216.0.0/16", "8.8.0.0/15", "10.217.0.0/15", "words", ""])
def test_a_network_that_is_no_private_15_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="NPC_FLEET_NETWORK"):
        parse_network(text)


def test_a_state_folder_too_deep_for_unix_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPC_FLEET_STATE", "/" + "x" * 80)
    with pytest.raises(ClusterError, match="characters"):
        state_dir()


def test_the_state_file_is_plain_json_with_its_format(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    save(layout, STATE)
    assert json.loads(layout.state_file.read_text())["format"] == 1
