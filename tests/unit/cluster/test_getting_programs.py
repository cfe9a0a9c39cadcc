"""Programs come from the first place that has them, and never half of one."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import binaries, downloads, promtool
from hack.cluster.downloads import Release, fetch, find_checksum
from hack.cluster.errors import ClusterError
from hack.cluster.golang import parse_version
from hack.cluster.packages import missing_packages

ONE, TWO = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"{ONE}\n",
        f"{ONE}  tool.tar.gz\n",
        f"{TWO}  other.tar.gz\n{ONE}  tool.tar.gz\n",
        f"{TWO} *dir/other\n{ONE.upper()} *dir/tool.tar.gz\n",
    ],
)
def test_a_checksum_is_found_in_each_form_that_projects_publish(text: str) -> None:
    assert find_checksum(text, "tool.tar.gz") == ONE


@pytest.mark.parametrize("text", ["", "<html>not found</html>", f"{TWO}  other.tar.gz\n", f"{ONE}\n{TWO}\n", "1234"])
def test_a_file_without_the_checksum_has_none(text: str) -> None:
    assert find_checksum(text, "tool.tar.gz") is None


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A download site on the loopback interface: (its address, the folder it serves)."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args, **kwargs: Quiet(*args, directory=str(folder), **kwargs)
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(downloads, "_unreachable", set())
    monkeypatch.delenv("NPC_FLEET_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def publish(folder: Path, name: str, body: bytes, checksum: str | None = None) -> None:
    (folder / name).write_bytes(body)
    (folder / f"{name}.sha256").write_text(checksum or hashlib.sha256(body).hexdigest())


def test_a_download_with_the_published_checksum_is_kept_executable(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    publish(folder, "tool", b"program")
    target = tmp_path / "tool"
    assert fetch(Release(f"{address}/tool", f"{address}/tool.sha256"), target, what="tool")
    assert target.read_bytes() == b"program"
    assert target.stat().st_mode & 0o111


def test_a_program_is_taken_out_of_its_archive(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("linux/tool")
        info.size = 7
        tar.addfile(info, io.BytesIO(b"program"))
    publish(folder, "tool.tgz", archive.getvalue())
    target = tmp_path / "tool"
    release = Release(f"{address}/tool.tgz", f"{address}/tool.tgz.sha256", "linux/tool")
    assert fetch(release, target, what="tool")
    assert target.read_bytes() == b"program"


@pytest.mark.parametrize(
    ("body", "member", "match"), [(b"program", "", "refusing"), (b"program", "linux/tool", "refusing")]
)
def test_other_bytes_than_published_are_refused_and_nothing_is_left(
    site: tuple[str, Path], tmp_path: Path, body: bytes, member: str, match: str
) -> None:
    address, folder = site
    publish(folder, "tool", body, checksum=ONE)
    target = tmp_path / "bin" / "tool"
    target.parent.mkdir()
    with pytest.raises(ClusterError, match=match):
        fetch(Release(f"{address}/tool", f"{address}/tool.sha256", member), target, what="tool")
    assert list(target.parent.iterdir()) == []


def test_a_site_that_cannot_be_reached_is_asked_once(
    site: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, folder = site
    release = Release(f"{address}/missing", f"{address}/missing.sha256")
    assert not fetch(release, tmp_path / "tool", what="tool")
    publish(folder, "missing", b"there now")
    assert not fetch(release, tmp_path / "tool", what="tool")
    assert capsys.readouterr().err.count("cannot be had") == 1


def test_offline_means_no_attempt(site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = site
    publish(folder, "tool", b"program")
    monkeypatch.setenv("NPC_FLEET_OFFLINE", "1")
    assert not fetch(Release(f"{address}/tool", f"{address}/tool.sha256"), tmp_path / "tool", what="tool")


def test_a_program_named_by_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("NPC_FLEET_BIN_KUBE_APISERVER", str(mine))
    assert binaries.binary("kube-apiserver") == mine


def test_a_program_named_by_the_environment_that_cannot_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPC_FLEET_BIN_HELM", str(tmp_path / "missing"))
    with pytest.raises(ClusterError, match="NPC_FLEET_BIN_HELM"):
        binaries.binary("helm")


def test_a_program_in_the_cache_is_used_without_asking_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    monkeypatch.setattr(binaries, "fetch", lambda *_args, **_kwargs: pytest.fail("asked a download site"))
    cached = tmp_path / "bin" / f"helm-{binaries.HELM}-built-{binaries.architecture()}" / "helm"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert binaries.binary("helm") == cached


def test_an_interrupted_build_leaves_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPC_FLEET_CACHE", str(tmp_path))
    monkeypatch.setattr(binaries, "fetch", lambda *_args, **_kwargs: False)
    monkeypatch.setattr(binaries, "go_command", lambda: Path("go"))

    def interrupted(_argv: object, **kwargs: object) -> None:
        environment = kwargs["env"]
        assert isinstance(environment, dict)
        (Path(environment["GOBIN"]) / "helm").write_text("half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(binaries, "run_logged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        binaries.binary("helm")

    def complete(_argv: object, **kwargs: object) -> None:
        environment = kwargs["env"]
        assert isinstance(environment, dict)
        assert list(Path(environment["GOBIN"]).iterdir()) == []
        (Path(environment["GOBIN"]) / "helm").write_text("all of it")

    monkeypatch.setattr(binaries, "run_logged", complete)
    assert binaries.binary("helm").read_text() == "all of it"


def test_an_unknown_program_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="versitygw"):
        binaries.binary("rm")


def test_the_go_module_and_the_tool_agree_on_the_kubernetes_version() -> None:
    module = Path(binaries.__file__).parent / "go" / "go.mod"
    text = module.read_text()
    assert f"k8s.io/kubernetes {binaries.KUBERNETES}\n" in text
    assert f"go.etcd.io/etcd/server/v3 {binaries.ETCD}\n" in text
    published = f"v0.{binaries.KUBERNETES.removeprefix('v1.')}"
    replaced = [line.split() for line in text.partition("replace (")[2].splitlines() if "=>" in line]
    assert replaced
    assert all(words[0] == words[2] and words[3] == published for words in replaced)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.19 linux/amd64", (1, 19)), ("nonsense", None)],
)
def test_the_version_of_go_is_understood(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_version(text) == expected


def test_only_packages_of_missing_things_are_asked_for(tmp_path: Path) -> None:
    needs = {"sh": "dash", "no-such-command-here": "b-package", str(tmp_path): "there", f"{tmp_path}/no": "a-package"}
    assert missing_packages(needs) == ["a-package", "b-package"]


def test_programs_are_had_by_name_before_somebody_is_in_a_hurry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "helm"
    mine.touch(mode=0o755)
    monkeypatch.setenv("NPC_FLEET_BIN_HELM", str(mine))
    assert binaries.main(["helm"]) == 0
    assert capsys.readouterr().out == f"{mine}\n"
    assert binaries.main(["rm"]) == 1
    assert "unknown program 'rm'" in capsys.readouterr().err


def test_promtool_is_built_from_the_version_that_is_downloaded() -> None:
    text = (Path(promtool.__file__).parent / "promtool" / "go.mod").read_text()
    assert f"{promtool.PACKAGE} {promtool.PACKAGE_VERSION}\n" in text
    major, minor, patch = promtool.PROMETHEUS[1:].split(".")
    assert f"v0.{major}{int(minor):02}.{patch}" == promtool.PACKAGE_VERSION


def test_tests_get_every_program_they_run_before_they_begin() -> None:
    root = Path(__file__).parents[3]
    prepared = re.search(r"hack\.cluster\.binaries ([a-z0-9 -]+?) >", (root / "Makefile").read_text())
    assert prepared is not None
    # Those of the cluster itself are there once it runs.
    running = {*binaries.CONTROL_PLANE, *binaries.NODE, "kubectl"}
    named = {name for name in binaries.names() if name not in running}
    used = {
        name
        for name in named
        for path in (*(root / "tests").rglob("*.py"), *(root / "hack" / "stack").glob("*.py"))
        if path != Path(__file__) and re.search(rf"""["']{name}["']""", path.read_text())
    }
    assert used <= set(prepared[1].split())
