"""What is said to Helm, told by a stand-in that writes down its arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hack.stack.helm import Helm, HelmError


def stand_in(folder: Path, *, status: str = "", error: str = "") -> Helm:
    """A Helm whose releases are in `status`; none are known when it is empty."""
    answer = json.dumps({"info": {"status": status}}) if status else ""
    complaint = error or ("" if status else "Error: release: not found")
    script = folder / "helm"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$3" >> {folder}/said\n'
        f"if [ \"$3\" = status ]; then echo '{answer}'; "
        f"if [ -n '{complaint}' ]; then echo '{complaint}' >&2; exit 1; fi; fi\n"
    )
    script.chmod(0o755)
    return Helm(script, folder / "kubeconfig")


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().split()


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        ("", ["status", "upgrade"]),
        ("deployed", ["status", "upgrade"]),
        ("failed", ["status", "upgrade"]),
        ("pending-install", ["status", "uninstall", "upgrade"]),
        ("pending-upgrade", ["status", "rollback", "upgrade"]),
        ("pending-rollback", ["status", "rollback", "upgrade"]),
    ],
)
async def test_what_a_killed_helm_left_half_done_is_undone_before_the_upgrade(
    tmp_path: Path, status: str, calls: list[str]
) -> None:
    await stand_in(tmp_path, status=status).upgrade("eu-west", "npc-region", "eu-west", {})
    assert said(tmp_path) == calls


async def test_a_cluster_that_does_not_answer_is_not_taken_for_an_absent_release(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match="connection refused"):
        await stand_in(tmp_path, error="Error: connection refused").upgrade("eu-west", "npc-region", "eu-west", {})
    assert said(tmp_path) == ["status"]
