"""A silent node's packets are lost without a word, and heard again afterwards: on bridges in network namespaces of the
test's own, which end with the processes that hold them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from hack.cluster import silence
from hack.cluster.console import run_quiet

T = TypeVar("T")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SILENT, OTHER = 7, 8
# Longer than a kernel needs to say no, and shorter than its patience.
UNHEARD_SECONDS = 1.0
HEARD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network of its own, alive as long as the process that was started in it."""

    pid: int

    def run(self, act: Callable[[], T]) -> T:
        """Call ``act`` in here, in a thread that ends with it; sockets it makes stay here wherever they are used."""
        results: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            handle = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            try:
                if LIBC.setns(handle, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                results.append(act())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)
            finally:
                os.close(handle)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def ip(self, *words: str) -> None:
        self.run(lambda: run_quiet(["ip", *words]))


@dataclass(frozen=True, slots=True)
class World:
    """A host with two nodes' bridges, and a pod on each."""

    host: Namespace
    pods: dict[int, Namespace]

    @staticmethod
    def node(index: int) -> str:
        return f"10.9.{index}.1"

    @staticmethod
    def pod(index: int) -> str:
        return f"10.9.{index}.2"

    def silence(self, index: int) -> None:
        self.host.run(lambda: silence.apply(index, self.node(index)))

    def lift(self) -> list[int]:
        return self.host.run(lambda: silence.lift())


@pytest.fixture
def world() -> Iterator[World]:
    held: list[subprocess.Popen[bytes]] = []

    def namespace() -> Namespace:
        # The shell speaks when it is inside: before that the namespace would be ours.
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        held.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        return Namespace(holder.pid)

    try:
        host, pods = namespace(), {index: namespace() for index in (SILENT, OTHER)}
        host.ip("link", "set", "lo", "up")
        host.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))  # this thread's network's
        for index, pod in pods.items():
            bridge, port = f"npcf{index}", f"port{index}"
            host.ip("link", "add", bridge, "type", "bridge")
            host.ip("address", "add", f"{World.node(index)}/24", "dev", bridge)
            host.ip("link", "set", bridge, "up")
            host.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid))
            host.ip("link", "set", port, "master", bridge, "up")
            pod.ip("link", "set", "lo", "up")
            pod.ip("address", "add", f"{World.pod(index)}/24", "dev", "eth0")
            pod.ip("link", "set", "eth0", "up")
            pod.ip("route", "add", "default", "via", World.node(index))
        yield World(host, pods)
    finally:
        for holder in held:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()


def listener(where: Namespace, address: str) -> socket.socket:
    def make() -> socket.socket:
        made = socket.create_server((address, 0))
        made.settimeout(HEARD_SECONDS)
        return made

    return where.run(make)


def connected(where: Namespace, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection from ``where`` to the server."""
    near = where.run(lambda: socket.create_connection(server.getsockname(), timeout=HEARD_SECONDS))
    far, _ = server.accept()
    far.settimeout(HEARD_SECONDS)
    return near, far


def hangs(where: Namespace, address: tuple[str, int]) -> bool:
    """Whether a new connection is neither made nor refused."""
    try:
        where.run(lambda: socket.create_connection(address, timeout=UNHEARD_SECONDS)).close()
    except TimeoutError:
        return True
    return False


def test_connections_from_other_nodes_and_from_the_host_hang_and_go_on_when_the_silence_ends(world: World) -> None:
    with listener(world.pods[SILENT], world.pod(SILENT)) as server:
        ends = [connected(where, server) for where in (world.pods[OTHER], world.host)]
        world.silence(SILENT)
        for near, far in ends:
            near.sendall(b"to the silent")
            far.sendall(b"from the silent")
            for end in (near, far):
                end.settimeout(UNHEARD_SECONDS)
                with pytest.raises(TimeoutError):
                    end.recv(64)
        assert hangs(world.pods[OTHER], server.getsockname())
        assert hangs(world.host, server.getsockname())
        assert world.lift() == [SILENT]
        for near, far in ends:
            near.settimeout(HEARD_SECONDS)
            far.settimeout(HEARD_SECONDS)
            assert far.recv(64) == b"to the silent"
            assert near.recv(64) == b"from the silent"
            near.close()
            far.close()


def test_a_silent_nodes_own_address_hangs_as_its_pods_do(world: World) -> None:
    with listener(world.host, world.node(SILENT)) as kubelet:
        world.silence(SILENT)
        assert hangs(world.host, kubelet.getsockname())
        assert hangs(world.pods[OTHER], kubelet.getsockname())


def test_not_even_a_packet_that_wants_no_answer_arrives(world: World) -> None:
    def datagrams() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with world.host.run(datagrams) as node, world.pods[OTHER].run(datagrams) as sender:
        node.bind((World.node(SILENT), 0))
        node.settimeout(HEARD_SECONDS)
        sender.sendto(b"one", node.getsockname())
        assert node.recv(64) == b"one"
        world.silence(SILENT)
        node.settimeout(UNHEARD_SECONDS)
        sender.sendto(b"two", node.getsockname())
        with pytest.raises(TimeoutError):
            node.recv(64)


def test_other_nodes_are_heard_as_before(world: World) -> None:
    world.silence(SILENT)
    with listener(world.pods[OTHER], world.pod(OTHER)) as server:
        near, far = connected(world.host, server)
        near.sendall(b"hello")
        assert far.recv(64) == b"hello"
        near.close()
        far.close()
        assert hangs(world.pods[SILENT], server.getsockname())


def test_silence_twice_is_silence_once_and_the_end_leaves_no_table(world: World) -> None:
    world.silence(SILENT)
    once = world.host.run(lambda: run_quiet(["nft", "list", "ruleset"]))
    world.silence(SILENT)
    assert world.host.run(lambda: run_quiet(["nft", "list", "ruleset"])) == once
    world.silence(OTHER)
    assert world.host.run(silence.silent) == [SILENT, OTHER]
    assert world.host.run(lambda: silence.lift([OTHER])) == [OTHER]
    assert world.host.run(silence.silent) == [SILENT]
    assert world.lift() == [SILENT]
    assert world.lift() == []
    assert world.host.run(lambda: run_quiet(["nft", "list", "ruleset"])) == ""
