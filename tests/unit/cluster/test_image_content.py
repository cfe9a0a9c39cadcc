"""An image's name is its content: nothing that is unchanged is built again, and no change keeps its name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hack.images import wheels
from hack.images.content import content_key, tree_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("pkg/a.py", "pkg/sub/b.py", "pkg/__pycache__/a.pyc", "pkg/.hidden", "lock.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def key(tree: Path) -> str:
    return content_key(tree_files(tree / "pkg", tree / "lock.txt"), base=tree)


def test_compiled_and_hidden_files_are_no_content(tree: Path) -> None:
    files = [str(path.relative_to(tree)) for path in tree_files(tree / "pkg", tree / "lock.txt")]
    assert files == ["lock.txt", "pkg/a.py", "pkg/sub/b.py"]


def test_the_same_content_elsewhere_has_the_same_key(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree / "pkg", copy / "pkg")
    shutil.copy(tree / "lock.txt", copy / "lock.txt")
    assert key(copy) == key(tree)


@pytest.mark.parametrize("change", ["bytes", "name", "mode", "new"])
def test_every_change_changes_the_key(tree: Path, change: str) -> None:
    before = key(tree)
    file = tree / "pkg" / "a.py"
    if change == "bytes":
        file.write_text("other")
    elif change == "name":
        file.rename(file.with_name("c.py"))
    elif change == "mode":
        file.chmod(0o755)
    else:
        (tree / "pkg" / "new.py").touch()
    assert key(tree) != before


def test_words_cannot_run_together() -> None:
    assert content_key([], base=Path(), extra=["a", "b"]) != content_key([], base=Path(), extra=["ab"])


def test_requirements_are_chosen_for_the_images_python_not_the_hosts() -> None:
    lock = (
        "# a comment\n"
        "numpy==2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "colorama==1 ; sys_platform == 'win32' --hash=sha256:dd\n"
        "attrs[x]==26.1 \\\n    --hash=sha256:ee\n    # via something\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", wheels.SELECT, json.dumps(wheels.marker_environment())],
        input=lock,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "numpy==2.4 --hash=sha256:aa --hash=sha256:bb",
        "attrs[x]==26.1 --hash=sha256:ee",
    ]
