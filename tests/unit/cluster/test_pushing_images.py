"""Sending an image to a registry: which commands run, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.image_store import StoredImage
from hack.images import __main__ as cli
from hack.images import build, builder

IMAGE = "localhost/npc-fleet/npc-fleet:0123"
TARGET = "registry.example.com:5000/games/npc-fleet:0.1.0"
DIGEST = "sha256:" + "ab" * 32

Answers = Callable[[list[str]], str]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The commands, in order; a push is answered as each tool does."""
    commands: list[str] = []

    def run(argv: list[str | Path], *, what: str = "", env: Any = None) -> str:
        words = [str(word) for word in argv]
        commands.append(" ".join(words))
        if "--digestfile" in words:
            Path(words[words.index("--digestfile") + 1]).write_text(DIGEST)
        return f"5f70bf18: Pushed\n0.1.0: digest: {DIGEST} size: 1234\n" if words[:2] == ["docker", "push"] else ""

    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    monkeypatch.setattr(builder, "run_quiet", run)
    monkeypatch.setattr(builder, "_storage_driver", lambda _: "overlay")
    return commands


def test_docker_pushes_under_the_name_of_the_registry(ran: list[str]) -> None:
    assert builder.Docker().push(IMAGE, TARGET) == DIGEST
    assert ran == [f"docker tag {IMAGE} {TARGET}", f"docker push {TARGET}"]


def test_buildah_pushes_from_its_own_storage_and_the_users_login_is_found(ran: list[str], tmp_path: Path) -> None:
    assert builder.Buildah().push(IMAGE, TARGET) == DIGEST
    (command,) = ran
    assert command.startswith(f"buildah --root {tmp_path}/buildah/root --runroot {tmp_path}/buildah/run ")
    assert " push --quiet --digestfile " in command
    assert command.endswith(f" {IMAGE} docker://{TARGET}")
    assert builder.Buildah()._environment().items() >= os.environ.items()


def test_a_push_without_a_digest_is_no_success(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "run_quiet", lambda *_, **__: "")
    for tool in (builder.Docker(), builder.Buildah()):
        with pytest.raises(ClusterError, match="did not say under which digest"):
            tool.push(IMAGE, TARGET)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was built, each said to be in the build tool, which is Docker."""
    names: list[str] = []

    def by_short_name(name: str, *, in_tool: bool = False) -> StoredImage:
        names.append(f"{name} in_tool={in_tool}")
        return StoredImage(IMAGE, (), tmp_path)

    monkeypatch.setattr(build, "by_short_name", by_short_name)
    monkeypatch.setattr(cli, "by_short_name", by_short_name)
    monkeypatch.setattr(build, "builder", builder.Docker)
    return names


def test_the_digest_is_printed_as_a_name_that_nodes_can_pull(
    ran: list[str], built: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--push", TARGET]) == 0
    assert capsys.readouterr().out == f"registry.example.com:5000/games/npc-fleet@{DIGEST}\n"
    assert built == ["fleet in_tool=True"]
    assert ran[-1] == f"docker push {TARGET}"


@pytest.mark.parametrize(
    "target",
    ["npc-fleet:0.1.0", "games/npc-fleet:0.1.0", "registry.example.com/npc-fleet", f"r.example.com/x@{DIGEST}", "-x"],
)
def test_a_target_without_registry_or_tag_is_refused_before_anything_is_built(
    ran: list[str], built: list[str], target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([f"--push={target}"]) == 1
    assert "is no REGISTRY/NAME:TAG" in capsys.readouterr().err
    assert ran == built == []


@pytest.mark.parametrize("target", ["localhost/npc:1", "localhost:5000/npc:1", "10.0.0.1:5000/a/b_c:v1.2", TARGET])
def test_a_registry_is_a_host_with_a_dot_or_a_port(ran: list[str], built: list[str], target: str) -> None:
    assert build.push("fleet", target) == f"{target.rpartition(':')[0]}@{DIGEST}"


def test_two_images_do_not_go_under_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["fleet", "engine-base", "--push", TARGET])
    assert end.value.code == 2
    assert "--push sends one image" in capsys.readouterr().err


def test_help_says_whose_login_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    assert "buildah login" in " ".join(capsys.readouterr().out.split())
