"""Layers travel once: a node is sent what it has not, and what it is sent is what was built."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.image_store import ArchiveImage, ImageStore, StoredImage
from hack.cluster.scratch_image import busybox_layer
from hack.images import build


def digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def docker_archive(layers: list[bytes], *, diff_ids: list[str] | None = None, by_digest: bool = True) -> io.BytesIO:
    """What buildah writes (layers first, named by digest), or with ``by_digest=False`` what Docker wrote for long."""
    config = {"rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(layer) for layer in layers]}}
    names = [
        f"{digest(layer).removeprefix('sha256:')}.tar" if by_digest else f"{index}/layer.tar"
        for index, layer in enumerate(layers)
    ]
    members = [*zip(names, layers, strict=True), ("config.json", json.dumps(config).encode())]
    members.append(("manifest.json", json.dumps([{"Config": "config.json", "Layers": names}]).encode()))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    output.seek(0)
    return output


def sent(image: StoredImage, without: set[str]) -> dict[str, bytes]:
    output = io.BytesIO()
    image.send(output, without=without)
    output.seek(0)
    with tarfile.open(fileobj=output) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


BASE, TOP = b"base" * 5000, b"top" * 3000


@pytest.mark.parametrize("by_digest", [True, False])
def test_an_image_of_a_build_tool_is_sent_whole_and_under_its_name(tmp_path: Path, by_digest: bool) -> None:
    image = ImageStore(tmp_path).add_docker_archive("r/i:1", docker_archive([BASE, TOP], by_digest=by_digest))
    files = sent(image, without=set())
    entry = json.loads(files["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "r/i:1"
    manifest = json.loads(files[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    bodies = [files[f"blobs/sha256/{layer['digest'].removeprefix('sha256:')}"] for layer in manifest["layers"]]
    assert bodies == [BASE, TOP]


def test_layers_that_a_node_has_are_left_out(tmp_path: Path) -> None:
    image = ImageStore(tmp_path).add_docker_archive("r/i:1", docker_archive([BASE, TOP]))
    files = sent(image, without={digest(BASE), *image.blobs[:1]})
    bodies = files.values()
    assert BASE not in bodies
    assert TOP in bodies
    assert len(files) == 5, "layout, index, manifest, configuration and one layer"


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(tmp_path: Path) -> None:
    archive = docker_archive([BASE], diff_ids=[digest(TOP)], by_digest=False)
    with pytest.raises(ClusterError, match="not those of its configuration"):
        ImageStore(tmp_path).add_docker_archive("r/i:1", archive)


def test_an_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    empty.seek(0)
    with pytest.raises(ClusterError, match="not what docker save writes"):
        ImageStore(tmp_path).add_docker_archive("r/i:1", empty)


def test_an_image_is_found_again_until_a_blob_of_it_is_gone(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    image = store.add_docker_archive("r/i:1", docker_archive([BASE, TOP]))
    assert store.get("r/i:1") == image
    (tmp_path / "blobs" / digest(TOP).removeprefix("sha256:")).unlink()
    assert store.get("r/i:1") is None


def test_old_images_of_a_repository_go_and_shared_layers_stay(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    tops = [f"top {number}".encode() * 2000 for number in range(5)]
    for number, top in enumerate(tops):
        store.add_docker_archive(f"r/i:{number}", docker_archive([BASE, top]))
    store.add_docker_archive("r/other:1", docker_archive([BASE]))
    assert [store.get(f"r/i:{number}") is not None for number in range(5)] == [False, False, True, True, True]
    blobs = {path.name for path in (tmp_path / "blobs").iterdir()}
    assert digest(tops[0]).removeprefix("sha256:") not in blobs
    assert digest(BASE).removeprefix("sha256:") in blobs


def test_a_foreign_archive_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(b"bytes")
    output = io.BytesIO()
    ArchiveImage("r/i:1", path).send(output, without={"sha256:whatever"})
    assert output.getvalue() == b"bytes"


def test_the_same_busybox_makes_the_same_layer() -> None:
    layer = busybox_layer(b"program", ["sh", "busybox", "ls"])
    assert layer == busybox_layer(b"program", ["ls", "sh", "sh"])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("bin/busybox").isfile()


def test_a_name_for_an_image_that_has_its_own_is_refused() -> None:
    with pytest.raises(ClusterError, match="goes with an archive"):
        build.resolve("fleet", "registry.example.com/mine:1")
