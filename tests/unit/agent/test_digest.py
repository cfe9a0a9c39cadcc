from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from npc_runtime.agent.digest import check_name, digest_of_folder
from npc_runtime.agent.errors import AdapterError, Reason

RECIPE = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum"


def test_the_digest_is_the_one_coreutils_prints(tmp_path: Path) -> None:
    for name, content in {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": bytes(range(256)) * 9000,
        "a/Z.md": b"1",
        "a.md": b"2",
        "a-b.md": b"3",
        "B.md": b"",
        "_x": b"4",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert shutil.which("sha256sum")
    printed = subprocess.run(RECIPE, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert digest_of_folder(tmp_path) == f"sha256:{printed.split()[0]}"


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/../b", "/etc/passwd", "a//b", "./a", "a/.", "C:\\x", "a\\b", "con", "NUL.txt", "com1.json",
        "a/aux.md", "name.", "ä.md", "a b", "a\nb", "", "a/", "x" * 256, "/".join("abcdefghi"),
    ],
)  # fmt: skip
def test_names_that_could_escape_or_mislead_are_refused(name: str) -> None:
    with pytest.raises(AdapterError) as caught:
        check_name(name)
    assert caught.value.reason is Reason.UNSAFE_PATH
    assert caught.value.permanent


@pytest.mark.parametrize("name", ["adapter_config.json", "docs/read-me_1.md", ".gitattributes", "console.md", "a..b"])
def test_plain_names_are_accepted(name: str) -> None:
    assert check_name(name) == name


def test_a_tree_with_a_symlink_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "link.md").symlink_to("a.md")
    with pytest.raises(AdapterError) as caught:
        digest_of_folder(tmp_path)
    assert caught.value.reason is Reason.SYMLINK
